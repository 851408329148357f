"""The fixed wordings of the rules, from prompts/rules/v*.yaml: which of several is chosen by a hash."""

from collections.abc import Sequence
from functools import cache
from hashlib import blake2b
from typing import TypeVar

import yaml

from datagen.llm.text import tokens
from datagen.resources import resource

T = TypeVar("T")


def fraction(*key: object) -> float:
    """A number in [0, 1) that depends on nothing but the key."""
    text = "\x1f".join(map(str, key)).encode("utf-8", "backslashreplace")
    return int.from_bytes(blake2b(text, digest_size=6).digest()) / 2**48


def pick(options: Sequence[T], *key: object) -> T:
    """One of the options, chosen by the key."""
    return options[int(fraction(*key) * len(options))]


def say(name: str, *key: object, **values: str) -> str:
    """A wording of this name, chosen by the key, with the values put in."""
    return pick(wordings()[name], name, *key).format(**values)


def wording_id(name: str) -> str:
    """The version and the hash of the file that has the wordings of this name, and the name."""
    return _released()[name][0]


@cache
def wordings() -> dict[str, tuple[str, ...]]:
    """Every wording by name; of several versions of a name the latest."""
    return {name: lines for name, (_, lines) in _released().items()}


@cache
def _released() -> dict[str, tuple[str, tuple[str, ...]]]:
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    for path in sorted((resource("prompts") / "rules").glob("v*.yaml"), key=lambda path: int(path.stem[1:])):
        data = path.read_bytes()
        file = f"rules/{path.stem}:{blake2b(data, digest_size=4).hexdigest()}"
        texts = yaml.safe_load(data)
        found |= {name: (f"{file}/{name}", tuple(lines)) for name, lines in texts.items()}
    return found


@cache
def wording_words() -> frozenset[str]:
    """The words that wordings bring along: they say nothing about any video."""
    return frozenset(word for lines in wordings().values() for line in lines for word in tokens(line))
