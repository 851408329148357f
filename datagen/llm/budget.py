"""Keeps a budget: a client that begins no call which might cost more than is left.

What is left stands in a small file that all runners of a run share, the purse. Before a call begins, the most
that it may cost is set aside; when it has ended, what it did cost is taken off. So what is spent and what is
under way never come to more than there was.
"""

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from datagen.config import Price
from datagen.errors import Failure, OverBudget
from datagen.llm.chat import Asks, ChatReply, ChatRequest
from datagen.llm.prices import NANO, nanodollars, price_of, prompt_tokens, used

_CAUTION = 2.0
"""The most tokens a prompt may have, over what the rule says, until a larger ratio has been seen."""
_SECONDS_BETWEEN_LOOKS = 0.2
"""At the purse, while only calls of other runners may give something back."""


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

    @contextlib.contextmanager
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


class Budget:
    """What one runner may spend on all its calls."""

    def __init__(
        self, path: Path, runner: str, prices: Mapping[str, Price], a_picture: int, *, batch: bool
    ) -> None:
        self._purse = Purse(path, runner)
        self._prices = prices
        self._a_picture = a_picture
        self._batch = batch
        self._turn = asyncio.Lock()
        self._paid = asyncio.Event()
        self._ratio = _CAUTION

    async def ask(self, client: Asks, request: ChatRequest) -> ChatReply:
        """The client's reply, when there is money for the call: one that does not fit waits for those under
        way. Raises OverBudget when none is under way and it still does not fit; and as the client does.
        """
        price = price_of(self._prices, request.model)
        rule = prompt_tokens(request, self._a_picture)
        # A reply cut off at max_tokens is asked for again at twice that.
        prompt = int(self._ratio * rule) + 1
        most = nanodollars(price, 2 * prompt, 3 * request.max_tokens, batch=self._batch)
        await self._set_aside(most, request)
        attempts: tuple[object, ...] = ()
        try:
            reply = await client.ask(request)
            attempts = reply.attempts
            self._ratio = max(self._ratio, 1.25 * reply.prompt_tokens / rule)
            return reply
        except Failure as failure:
            attempts = failure.attempts
            raise
        finally:
            self._purse.pay(most, nanodollars(price, *used(attempts), batch=self._batch))
            self._paid.set()

    async def _set_aside(self, amount: int, request: ChatRequest) -> None:
        async with self._turn:
            while True:
                self._paid.clear()
                state = self._purse.set_aside(amount)
                if state == "done":
                    return
                if state == "empty":
                    raise OverBudget(f"the next call of {request.model} may cost ${amount / NANO:.4f}")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._paid.wait(), _SECONDS_BETWEEN_LOOKS)


class BudgetedClient:
    """A client within a budget."""

    def __init__(self, client: Asks, budget: Budget) -> None:
        self._client = client
        self._budget = budget

    async def ask(self, request: ChatRequest) -> ChatReply:
        """As the client does. Raises OverBudget too."""
        return await self._budget.ask(self._client, request)

    async def close(self) -> None:
        """See Client."""
        await self._client.close()
