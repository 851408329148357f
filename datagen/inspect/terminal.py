"""Text from outside on a terminal: it cannot steer it, and it is wrapped."""

import textwrap
from collections.abc import Iterator

_WIDTH = 108


def plain(text: str) -> str:
    """Text that cannot steer a terminal: control and bidirectional marks are shown as escapes."""
    return "".join(c if c.isprintable() else " " if c in "\n\t" else f"\\u{ord(c):04x}" for c in text)


def wrapped(head: str, text: str) -> Iterator[str]:
    """Lines of a text that stand to the right of what is written before the first."""
    lines = textwrap.wrap(plain(text), _WIDTH - len(head), break_long_words=True) or [""]
    yield plain(head) + lines[0]
    yield from (" " * len(head) + line for line in lines[1:])
