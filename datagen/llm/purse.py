"""What is left to spend, in a small file that all runners of a run share.

Before a call begins, the most that it may cost is set aside; when it has ended, what it did cost is taken
off. So what is spent and what is under way never come to more than there was.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct


class _Content(Struct):
    left: int
    """Billionths of a dollar, those set aside included."""
    aside: dict[str, int] = {}
    """Of these, what each runner has under way."""


class Purse:
    """One runner's hand in the purse. Amounts are billionths of a dollar."""

    def __init__(self, path: Path, runner: str) -> None:
        """Open the purse that `fill` has made. What a dead runner of this name had under way counts as spent:
        it may have been.
        """
        self._file = os.open(path, os.O_RDWR)
        self._runner = runner
        with self._opened() as content:
            content.left -= content.aside.pop(runner, 0)

    @staticmethod
    def fill(path: Path, amount: int) -> None:
        """Make a purse with so much in it, in place of any old one."""
        path.write_bytes(msgspec.json.encode(_Content(amount)))

    def set_aside(self, amount: int) -> Literal["done", "wait", "empty"]:
        """Set money aside. Where there is not enough: `wait` while calls are under way, which may cost less
        than was set aside for them, `empty` when there are none. Then it stays so: nobody begins another.
        """
        with self._opened() as content:
            aside = sum(content.aside.values())
            if amount <= content.left - aside:
                content.aside[self._runner] = content.aside.get(self._runner, 0) + amount
                return "done"
            if aside:
                return "wait"
            content.left = 0
            return "empty"

    def pay(self, aside: int, amount: int) -> None:
        """Take off what a call did cost, of the money set aside for it."""
        with self._opened() as content:
            content.left -= amount
            content.aside[self._runner] -= aside

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    @contextmanager
    def _opened(self) -> Iterator[_Content]:
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            text = os.pread(self._file, 1 << 20, 0)
            content = msgspec.json.decode(text, type=_Content)
            yield content
            # Padded: a shorter text leaves nothing of a longer one behind.
            os.pwrite(self._file, msgspec.json.encode(content).ljust(len(text)), 0)
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)
