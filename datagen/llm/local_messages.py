"""A request as the messages that chat templates take, with its pictures read from the folder of frames."""

from collections.abc import Callable, Collection
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import Any

from msgspec.structs import replace

from datagen.errors import Corrupt, Invalid
from datagen.llm.chat import ChatRequest, Message, Picture


def has_pictures(request: ChatRequest) -> bool:
    """Whether a model must see to answer this."""
    return any(isinstance(part, Picture) for message in request.messages for part in message.parts)


def read_frame(frames: Path, picture: Picture) -> bytes:
    """The JPEG that a request means, from below the folder of frames.

    Raises Invalid for a name that leads outside, Corrupt for a file that is not there or not the one meant:
    the answer is remembered under its digest.
    """
    name = PurePosixPath(picture.name)
    if name.is_absolute() or ".." in name.parts:
        raise Invalid(f"frame {picture.name}: lies outside the folder of frames")
    try:
        data = (frames / name).read_bytes()
    except OSError as error:
        raise Corrupt(f"frame {picture.name}: {error.strerror}") from None
    if blake2b(data, digest_size=16).hexdigest() != picture.digest:
        raise Corrupt(f"frame {picture.name}: has changed since it was described")
    return data


def without_system(request: ChatRequest) -> ChatRequest:
    """The same with its system message at the head of the user's, for templates that know no system."""
    first, *rest = request.messages
    if first.role != "system" or not rest or rest[0].role != "user":
        return request
    return replace(request, messages=(Message("user", first.parts + rest[0].parts), *rest[1:]))


def chat_messages(
    request: ChatRequest,
    show: Callable[[Picture], dict[str, Any]],
    control_tokens: Collection[str] = (),
    *,
    in_blocks: bool = False,
) -> list[dict[str, Any]]:
    """Messages of role and content; `show` makes the block that stands for a picture.

    Content is plain text where there are no pictures, unless `in_blocks`. Control tokens in a text, which
    would end a message or stand for a picture, are broken up by a space. Raises Invalid for text that is no
    Unicode, and what `show` raises.
    """

    def say(text: str) -> str:
        for token in control_tokens:
            text = text.replace(token, f"{token[:1]} {token[1:]}")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise Invalid(f"request of {request.prompt or request.model}: text that is not Unicode") from None
        return text

    def content(message: Message) -> str | list[dict[str, Any]]:
        texts = [say(part.text) for part in message.parts if not isinstance(part, Picture)]
        if not in_blocks and len(texts) == len(message.parts):
            return "\n".join(texts)
        return [
            show(part) if isinstance(part, Picture) else {"type": "text", "text": say(part.text)}
            for part in message.parts
        ]

    return [{"role": message.role, "content": content(message)} for message in request.messages]
