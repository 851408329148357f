"""A model's reply, untrusted text, becomes a value that keeps to its JSON Schema, or raises Invalid.

What is tolerated: a fence around the JSON (and prose around the fence), a model's thoughts before it, raw
control characters inside strings. Nothing is guessed: prose without a fence, trailing commas, duplicate keys,
NaN and lone surrogates are errors.
"""

import json
import re
from functools import cache
from typing import Any, NoReturn

from jsonschema_rs import Draft202012Validator

from datagen.errors import Invalid, UsageError
from datagen.resources import resource

_MOST_CHARACTERS = 1_000_000
_MOST_DEPTH = 32
_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
"""A JSON string; the last quotation mark may be missing, so that there is never a second attempt."""


def parse_reply(text: str, schema: str) -> Any:
    """The JSON value in a reply, checked against schemas/replies/<schema>.json.

    Raises Invalid with the place in the value (a JSON pointer) and what is wrong there.
    """
    body = _body(text)
    if len(body) > _MOST_CHARACTERS:
        raise Invalid(f"reply: {len(body)} characters, more than {_MOST_CHARACTERS}")
    if _depth(body) > _MOST_DEPTH:
        raise Invalid(f"reply: nested deeper than {_MOST_DEPTH}")
    try:
        value = json.loads(body, strict=False, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise Invalid("reply: lone surrogate in a string") from None
    except (ValueError, RecursionError) as error:
        raise Invalid(f"reply: not JSON: {str(error)[:200]}; it begins {body[:60]!r}") from None
    check_schema(value, schema)
    return value


def check_schema(value: Any, schema: str) -> None:
    """Raise Invalid, with place and reason, if a value does not keep to a reply's schema."""
    error = next(iter(_validator(schema).iter_errors(value)), None)
    if error is not None:
        place = "".join(f"/{step}" for step in error.instance_path)
        raise Invalid(f"reply{place}: {error.message[:200]}")


@cache
def schema_text(name: str) -> bytes:
    """The JSON Schema of a reply by name, such as `caption`. Raises UsageError where there is none."""
    try:
        return (resource("schemas") / "replies" / f"{name}.json").read_bytes()
    except OSError:
        raise UsageError(f"schemas/replies/{name}.json: no such schema of replies") from None


@cache
def _validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads(schema_text(name)))


def _body(text: str) -> str:
    """The reply without thoughts and fence."""
    text = text.strip().lstrip("\ufeff")
    if text[:1] not in ("{", "["):
        # The mark that opens the thoughts may be part of the prompt.
        text = (text.partition("</think>")[2] or text).strip()
    if text[:1] in ("{", "[") or "```" not in text:
        return text
    inside = text.partition("```")[2].removeprefix("json")
    return (inside.rpartition("```")[0] or inside).strip()


def _depth(text: str) -> int:
    """How deep brackets nest outside strings."""
    deepest = depth = 0
    for char in _STRING.sub("", text):
        if char in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif char in "]}":
            depth -= 1
    return deepest


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("duplicate key")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
