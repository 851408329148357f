"""A request as the JSON that goes over the wire. Pictures are spliced in as bytes, encoded once."""

import asyncio
from base64 import b64encode
from collections.abc import Callable, Collection
from functools import cache, lru_cache
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from datagen.errors import Corrupt, Invalid, UsageError
from datagen.llm.chat import ChatRequest, Message, Picture
from datagen.resources import resource

_KEPT_PICTURES = 64


@cache
def reply_schema(name: str) -> bytes:
    """Text of the JSON Schema schemas/replies/<name>.json. Raises UsageError where there is none."""
    path = resource("schemas") / "replies" / f"{name}.json"
    try:
        return path.read_bytes()
    except OSError:
        raise UsageError(f"schemas/replies/{name}.json: no such schema of replies") from None


class RequestEncoder:
    """Turns requests into bytes, looking pictures up below `frames`."""

    def __init__(self, frames: Path, schemas: Callable[[str], bytes], *, file_urls: bool) -> None:
        self._frames = frames.resolve()
        self._schemas = schemas
        self._file_urls = file_urls
        self._picture = lru_cache(maxsize=_KEPT_PICTURES)(self._encode_picture)

    async def encode(self, request: ChatRequest, max_tokens: int, unsupported: Collection[str]) -> bytes:
        """The body of a request, without the fields that the endpoint does not support.

        Raises Corrupt for a frame that is not there or not the one meant; Invalid for text that is no text.
        """
        if any(isinstance(part, Picture) for message in request.messages for part in message.parts):
            return await asyncio.to_thread(self._encode, request, max_tokens, unsupported)
        return self._encode(request, max_tokens, unsupported)

    def _encode(self, request: ChatRequest, max_tokens: int, unsupported: Collection[str]) -> bytes:
        fields: dict[str, Any] = {
            "model": request.model,
            "messages": [
                {"role": message.role, "content": self._content(message)} for message in request.messages
            ],
            "temperature": request.temperature,
            "max_tokens": max_tokens,
        }
        if request.seed is not None:
            fields["seed"] = request.seed + request.sample
        if request.schema is not None:
            schema = msgspec.Raw(self._schemas(request.schema))
            form = {"name": request.schema, "schema": schema, "strict": True}
            fields["response_format"] = {"type": "json_schema", "json_schema": form}
        for name in unsupported:
            value = fields.pop(name, None)
            if name == "max_tokens":
                fields["max_completion_tokens"] = value
        try:
            return msgspec.json.encode(fields)
        except UnicodeEncodeError:
            raise Invalid(f"request of {request.prompt or request.model}: text that is not Unicode") from None

    def _content(self, message: Message) -> str | list[Any]:
        """Plain text where there are no pictures: servers differ in how they join blocks of text."""
        texts = [part.text for part in message.parts if not isinstance(part, Picture)]
        if len(texts) == len(message.parts):
            return "\n".join(texts)
        return [
            self._picture(part) if isinstance(part, Picture) else {"type": "text", "text": part.text}
            for part in message.parts
        ]

    def _encode_picture(self, picture: Picture) -> msgspec.Raw:
        name = PurePosixPath(picture.name)
        if name.is_absolute() or ".." in name.parts:
            raise Invalid(f"frame {picture.name}: lies outside the folder of frames")
        path = self._frames / name
        if self._file_urls:
            if not path.is_file():
                raise Corrupt(f"frame {picture.name}: no such file")
            url = path.as_uri().encode()
        else:
            try:
                data = path.read_bytes()
            except OSError as error:
                raise Corrupt(f"frame {picture.name}: {error.strerror}") from None
            # The answer is remembered under the digest: it must not be one to another picture.
            if blake2b(data, digest_size=16).hexdigest() != picture.digest:
                raise Corrupt(f"frame {picture.name}: has changed since it was described")
            url = b"data:image/jpeg;base64," + b64encode(data)
        return msgspec.Raw(b'{"type":"image_url","image_url":{"url":"' + url + b'"}}')
