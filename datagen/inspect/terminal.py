"""What the commands say: text from outside cannot steer the terminal, and a wrong use is told in one line."""

import sys
import textwrap
from collections.abc import Callable, Iterator
from functools import wraps

from datagen.errors import UsageError

_WIDTH = 108


def command(main: Callable[[list[str] | None], int]) -> Callable[..., int]:
    """`main` of a command, with status 2 and a line of its own for a UsageError."""

    @wraps(main)
    def run(argv: list[str] | None = None) -> int:
        try:
            return main(argv)
        except UsageError as error:
            print(f"datagen: {plain(str(error))}", file=sys.stderr)
            return 2

    return run


def plain(text: str) -> str:
    """Text that cannot steer a terminal: control and bidirectional marks are shown as escapes."""
    return "".join(c if c.isprintable() else " " if c in "\n\t" else f"\\u{ord(c):04x}" for c in text)


def wrapped(head: str, text: str) -> Iterator[str]:
    """Lines of a text that stand to the right of what is written before the first."""
    lines = textwrap.wrap(plain(text), _WIDTH - len(head), break_long_words=True) or [""]
    yield plain(head) + lines[0]
    yield from (" " * len(head) + line for line in lines[1:])
