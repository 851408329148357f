"""A request as messages, for an endpoint or for the chat template of a local model, with its pictures, which
are looked up below the folder of frames.
"""

import asyncio
import os
from base64 import b64encode
from collections.abc import Callable, Collection
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec.structs import replace

from datagen.errors import Corrupt, Invalid
from datagen.llm.chat import ChatRequest, Message, Picture
from datagen.llm.replies import schema_text

_KEPT_PICTURES = 64
_KEPT_DIGESTS = 16384


def frame_digest(path: str) -> str:
    """BLAKE2b of a file's bytes, 32 hexadecimal digits. Raises OSError.

    A file of the same size, mtime and inode is taken to be what it was, and not read again.
    """
    stat = os.stat(path)  # noqa: PTH116 (sixteen for a call: pathlib takes as long as the rest of it)
    return _digest_of(path, (stat.st_size, stat.st_mtime_ns, stat.st_ino))


@lru_cache(maxsize=_KEPT_DIGESTS)
def _digest_of(path: str, _: tuple[int, ...]) -> str:
    return _digest(Path(path).read_bytes())


def _digest(data: bytes) -> str:
    return blake2b(data, digest_size=16).hexdigest()


def read_frame(frames: Path, picture: Picture) -> bytes:
    """The JPEG that a request means, from below the folder of frames.

    Raises Invalid for a name that leads outside, Corrupt for a file that is not there or not the one meant.
    """
    try:
        data = Path(_path(frames, picture.name)).read_bytes()
    except OSError as error:
        raise Corrupt(f"frame {picture.name}: {error.strerror}") from None
    _check_digest(picture, _digest(data))
    return data


def _path(frames: Path, name: str) -> str:
    if name.startswith("/") or ".." in name.split("/"):
        raise Invalid(f"frame {name}: lies outside the folder of frames")
    return f"{frames}/{name}"


def _check_digest(picture: Picture, digest: str) -> None:
    """The answer is remembered under the digest: it must not be one to another picture."""
    if digest != picture.digest:
        raise Corrupt(f"frame {picture.name}: has changed since it was described")


def has_pictures(request: ChatRequest) -> bool:
    """Whether a model must see to answer this."""
    return any(isinstance(part, Picture) for message in request.messages for part in message.parts)


def without_system(request: ChatRequest) -> ChatRequest:
    """The same with its system message at the head of the user's, for templates that know no system."""
    first, *rest = request.messages
    if first.role != "system" or not rest or rest[0].role != "user":
        return request
    return replace(request, messages=(Message("user", first.parts + rest[0].parts), *rest[1:]))


def not_unicode(request: ChatRequest) -> Invalid:
    """What is wrong with a request that cannot be encoded."""
    return Invalid(f"request of {request.prompt or request.model}: text that is not Unicode")


def chat_messages(
    request: ChatRequest,
    show: Callable[[Picture], Any],
    control_tokens: Collection[str] = (),
    *,
    in_blocks: bool = False,
) -> list[dict[str, Any]]:
    """Messages of role and content; `show` makes the block that stands for a picture.

    Content is plain text where there are no pictures, unless `in_blocks`: servers differ in how they join
    blocks of text. Control tokens in a text, which would end a message or stand for a picture, are broken up
    by a space. Raises Invalid for text that is no Unicode, and what `show` raises.
    """

    def say(text: str) -> str:
        for token in control_tokens:
            text = text.replace(token, f"{token[:1]} {token[1:]}")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise not_unicode(request) from None
        return text

    def content(message: Message) -> str | list[Any]:
        texts = [say(part.text) for part in message.parts if not isinstance(part, Picture)]
        if not in_blocks and len(texts) == len(message.parts):
            return "\n".join(texts)
        return [
            show(part) if isinstance(part, Picture) else {"type": "text", "text": say(part.text)}
            for part in message.parts
        ]

    return [{"role": message.role, "content": content(message)} for message in request.messages]


class RequestEncoder:
    """Turns requests into the JSON that goes over the wire, looking pictures up below `frames`."""

    def __init__(self, frames: Path, *, file_urls: bool) -> None:
        self._frames = frames.resolve()
        self._file_urls = file_urls
        # What is sent as bytes is read once for all tries; a path is checked again at every try.
        self._show = self._file_url if file_urls else lru_cache(maxsize=_KEPT_PICTURES)(self._data_url)
        self._by_path = lru_cache(maxsize=_KEPT_DIGESTS)(self._path_and_image)

    async def encode(self, request: ChatRequest, max_tokens: int, unsupported: Collection[str]) -> bytes:
        """The body of a request, without the fields that the endpoint does not support.

        Raises Corrupt for a frame that is not there or not the one meant; Invalid for text that is no text;
        UsageError where there is no such schema.
        """
        # Reading takes long enough for a thread; looking whether a file is still the same does not.
        if not self._file_urls and has_pictures(request):
            return await asyncio.to_thread(self._encode, request, max_tokens, unsupported)
        return self._encode(request, max_tokens, unsupported)

    def _encode(self, request: ChatRequest, max_tokens: int, unsupported: Collection[str]) -> bytes:
        fields: dict[str, Any] = {
            "model": request.model,
            "messages": chat_messages(request, self._show),
            "temperature": request.temperature,
            "max_tokens": max_tokens,
        }
        if request.seed is not None:
            fields["seed"] = request.seed + request.sample
        if request.schema is not None:
            schema = msgspec.Raw(schema_text(request.schema))
            form = {"name": request.schema, "schema": schema, "strict": True}
            fields["response_format"] = {"type": "json_schema", "json_schema": form}
        for name in unsupported:
            value = fields.pop(name, None)
            if name == "max_tokens":
                fields["max_completion_tokens"] = value
        try:
            return msgspec.json.encode(fields)
        except UnicodeEncodeError:
            raise not_unicode(request) from None

    def _data_url(self, picture: Picture) -> msgspec.Raw:
        return _image(b"data:image/jpeg;base64," + b64encode(read_frame(self._frames, picture)))

    def _file_url(self, picture: Picture) -> msgspec.Raw:
        path, image = self._by_path(picture.name)
        try:
            _check_digest(picture, frame_digest(path))
        except OSError as error:
            raise Corrupt(f"frame {picture.name}: {error.strerror}") from None
        return image

    def _path_and_image(self, name: str) -> tuple[str, msgspec.Raw]:
        path = _path(self._frames, name)
        return path, _image(b"file://" + quote(path).encode())


def _image(url: bytes) -> msgspec.Raw:
    return msgspec.Raw(b'{"type":"image_url","image_url":{"url":"' + url + b'"}}')
