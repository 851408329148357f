"""A request as the JSON that goes over the wire. Pictures are spliced in as bytes, encoded once."""

import asyncio
import os
from base64 import b64encode
from collections.abc import Callable, Collection
from functools import cache, lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from datagen.errors import Corrupt, Invalid, UsageError
from datagen.llm.chat import ChatRequest, Message, Picture
from datagen.resources import resource

_KEPT_PICTURES = 64
_KEPT_DIGESTS = 16384

_Stamp = tuple[int, int, int]
"""Size in bytes, mtime in ns, inode: with these unchanged, a file is taken to be what it was."""


@cache
def reply_schema(name: str) -> bytes:
    """Text of the JSON Schema schemas/replies/<name>.json. Raises UsageError where there is none."""
    path = resource("schemas") / "replies" / f"{name}.json"
    try:
        return path.read_bytes()
    except OSError:
        raise UsageError(f"schemas/replies/{name}.json: no such schema of replies") from None


def frame_digest(path: str) -> str:
    """BLAKE2b of a file's bytes, 32 hexadecimal digits; a file that has not changed is read once.

    Raises OSError.
    """
    return _digest_of(path, _stamp(path))


def _stamp(path: str) -> _Stamp:
    stat = os.stat(path)  # noqa: PTH116 (sixteen for a call: pathlib takes as long as the rest of it)
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


@lru_cache(maxsize=_KEPT_DIGESTS)
def _digest_of(path: str, _: _Stamp) -> str:
    return blake2b(Path(path).read_bytes(), digest_size=16).hexdigest()


class RequestEncoder:
    """Turns requests into bytes, looking pictures up below `frames`."""

    def __init__(self, frames: Path, schemas: Callable[[str], bytes], *, file_urls: bool) -> None:
        self._frames = frames.resolve()
        self._schemas = schemas
        self._file_urls = file_urls
        # What is sent as bytes is read once for all tries; a path is checked again at every try.
        self._picture = self._file_url if file_urls else lru_cache(maxsize=_KEPT_PICTURES)(self._data_url)
        self._by_path = lru_cache(maxsize=_KEPT_DIGESTS)(self._path_and_image)

    async def encode(self, request: ChatRequest, max_tokens: int, unsupported: Collection[str]) -> bytes:
        """The body of a request, without the fields that the endpoint does not support.

        Raises Corrupt for a frame that is not there or not the one meant; Invalid for text that is no text.
        """
        parts = (part for message in request.messages for part in message.parts)
        # Reading takes long enough for a thread; looking whether a file is still the same does not.
        if not self._file_urls and any(isinstance(part, Picture) for part in parts):
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

    def _data_url(self, picture: Picture) -> msgspec.Raw:
        try:
            data = Path(self._path(picture.name)).read_bytes()
        except OSError as error:
            raise Corrupt(f"frame {picture.name}: {error.strerror}") from None
        _check_digest(picture, blake2b(data, digest_size=16).hexdigest())
        return _image(b"data:image/jpeg;base64," + b64encode(data))

    def _file_url(self, picture: Picture) -> msgspec.Raw:
        path, image = self._by_path(picture.name)
        try:
            _check_digest(picture, frame_digest(path))
        except OSError as error:
            raise Corrupt(f"frame {picture.name}: {error.strerror}") from None
        return image

    def _path_and_image(self, name: str) -> tuple[str, msgspec.Raw]:
        path = self._path(name)
        return path, _image(b"file://" + quote(path).encode())

    def _path(self, name: str) -> str:
        if name.startswith("/") or ".." in name.split("/"):
            raise Invalid(f"frame {name}: lies outside the folder of frames")
        return f"{self._frames}/{name}"


def _check_digest(picture: Picture, digest: str) -> None:
    """The answer is remembered under the digest: it must not be one to another picture."""
    if digest != picture.digest:
        raise Corrupt(f"frame {picture.name}: has changed since it was described")


def _image(url: bytes) -> msgspec.Raw:
    return msgspec.Raw(b'{"type":"image_url","image_url":{"url":"' + url + b'"}}')
