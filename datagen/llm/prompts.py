"""Prompts: files prompts/<name>/v<N>.md with YAML front matter and a Jinja body, made into messages.

The body is divided by lines `# system`, `# user` and `# pictures`. Everything a template inserts, numbers
aside, comes out as JSON whose strings are cleaned and hold no angle bracket: what others wrote cannot close a
quotation or a block, and is never read as a template.
"""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import blake2b
from typing import Any

import msgspec
import yaml
from jinja2 import Environment, StrictUndefined, Template, TemplateSyntaxError, UndefinedError
from msgspec import Struct

from datagen.errors import UsageError
from datagen.llm.chat import ChatRequest, Message, Picture, Text
from datagen.llm.replies import schema_text
from datagen.llm.text import clean
from datagen.resources import resource

_SECTION = re.compile(r"^# (system|user|pictures)\n", re.MULTILINE)
_KEYS = {"name", "version", "about", "schema", "temperature", "max_tokens"}


class Prompt(Struct, frozen=True, kw_only=True):
    """One version of a prompt."""

    name: str
    version: str
    """v1, v2, ..."""
    about: str
    schema: str
    """Name of the JSON Schema in schemas/replies/ that replies keep to."""
    temperature: float
    max_tokens: int
    sections: tuple[tuple[str, str], ...]
    """(system, user or pictures; template)."""
    digest: str
    """BLAKE2b of the file's bytes, 8 hexadecimal digits."""

    @property
    def id(self) -> str:
        """Name, version and hash, for requests and provenance: caption/v1:1f3a9c2e."""
        return f"{self.name}/{self.version}:{self.digest}"


@cache
def load_prompt(name: str, version: str | None = None) -> Prompt:
    """Read a prompt by name and version (`v2`); without a version, the newest.

    Raises UsageError when there is no such prompt, or its file is not in the form of one.
    """
    folder = resource("prompts") / name
    if version is None:
        numbers = [int(path.stem[1:]) for path in folder.glob("v*.md") if path.stem[1:].isdecimal()]
        version = f"v{max(numbers, default=1)}"
    path = folder / f"{version}.md"
    try:
        data = path.read_bytes()
        _, front, body = data.decode().replace("\r\n", "\n").split("---\n", 2)
        values = yaml.safe_load(front)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UsageError(f"prompt {path}: cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict) or set(values) != _KEYS:
        raise UsageError(f"prompt {path}: its front matter must have the keys {', '.join(sorted(_KEYS))}")
    if (values["name"], f"v{values['version']}") != (name, version):
        raise UsageError(f"prompt {path}: says it is {values['name']} v{values['version']}")
    before, *parts = _SECTION.split(body)
    if before.strip() or not parts:
        raise UsageError(f"prompt {path}: must begin with `# system` or `# user`")
    values |= {"version": version, "digest": blake2b(data, digest_size=4).hexdigest()}
    values["sections"] = tuple(zip(parts[::2], parts[1::2], strict=True))
    try:
        prompt = msgspec.convert(values, Prompt)
        schema_text(prompt.schema)
        for _, template in prompt.sections:
            _compiled(template)
    except (msgspec.ValidationError, UsageError, TemplateSyntaxError) as error:
        raise UsageError(f"prompt {path}: {error}") from None
    return prompt


def make_request(
    prompt: Prompt, model: str, values: Mapping[str, Any], pictures: Sequence[Picture] = ()
) -> ChatRequest:
    """The request that asks `model` this prompt with these values put in."""
    return ChatRequest(
        model=model,
        messages=make_messages(prompt, values, pictures),
        schema=prompt.schema,
        temperature=prompt.temperature,
        max_tokens=prompt.max_tokens,
        prompt=prompt.id,
    )


def make_messages(
    prompt: Prompt, values: Mapping[str, Any], pictures: Sequence[Picture] = ()
) -> tuple[Message, ...]:
    """At most one system and one user message; the user's parts stand in the order of the file.

    Raises UsageError where the template asks for a value that is not given.
    """
    system: list[Text | Picture] = []
    user: list[Text | Picture] = []
    for section, template in prompt.sections:
        if section == "pictures":
            user += pictures
        else:
            try:
                text = _compiled(template).render(values).strip()
            except UndefinedError as error:
                given = ", ".join(sorted(values))
                raise UsageError(
                    f"prompt {prompt.name}/{prompt.version}: {error}; given are {given}"
                ) from None
            (system if section == "system" else user).append(Text(text))
    messages = (Message("system", tuple(system)), Message("user", tuple(user)))
    return tuple(message for message in messages if message.parts)


def quoted(value: object) -> object:
    """A value as JSON that is safe inside a block of a prompt; numbers stay as they are."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    text = json.dumps(_cleaned(value), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e")


def _cleaned(value: object) -> object:
    if isinstance(value, Mapping):
        return {clean(str(key)): _cleaned(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(inner) for inner in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    # str() of what a template asks for and was not given raises the right error.
    return clean(str(value))


@cache
def _compiled(template: str) -> Template:
    return _ENVIRONMENT.from_string(template)


_ENVIRONMENT = Environment(undefined=StrictUndefined, finalize=quoted, trim_blocks=True, lstrip_blocks=True)
