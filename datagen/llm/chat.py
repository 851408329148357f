"""What is asked of a model and what it answered, as records: the request is the key of the answer."""

from typing import Literal, Protocol

from msgspec import Struct


class Text(Struct, frozen=True, tag="text"):
    """A piece of text in a message."""

    text: str


class Picture(Struct, frozen=True, tag="picture"):
    """A JPEG in a message. The file itself is looked up by the client: the request holds its digest alone."""

    name: str
    """Its path below the folder of frames, such as v1/000012.jpg."""
    digest: str
    """BLAKE2b of its bytes, 32 hexadecimal digits."""


class Message(Struct, frozen=True):
    """One message of a chat."""

    role: Literal["system", "user", "assistant"]
    parts: tuple[Text | Picture, ...]


class ChatRequest(Struct, frozen=True, kw_only=True):
    """Everything that an answer depends on; so a call that was answered is never made again."""

    model: str
    messages: tuple[Message, ...]
    schema: str | None = None
    """Name of the JSON Schema in schemas/replies/ that the reply must keep to; goes into response_format."""
    temperature: float = 0.0
    max_tokens: int = 1024
    seed: int | None = None
    sample: int = 0
    """Tells several answers to the same question apart."""
    prompt: str = ""
    """Name, version and hash of the prompt, such as caption/v1:1f3a9c2e."""


class Attempt(Struct, frozen=True, kw_only=True):
    """One try at a call, failed or not: what was paid for it."""

    status: int
    """HTTP status; 0 where there was no response."""
    seconds: float
    prompt_tokens: int = 0
    completion_tokens: int = 0
    finish_reason: str = ""
    fault: str = ""
    """Why this try was not the last, or how the last one failed."""


class ChatReply(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The raw reply of a finished call."""

    id: str = ""
    """Hash of the request, filled in by whoever keeps replies; a kept reply goes without."""

    text: str
    finish_reason: str
    model: str
    """The model's name as the endpoint gives it."""
    prompt_tokens: int
    completion_tokens: int
    attempts: tuple[Attempt, ...]


class Asks(Protocol):
    """Whatever can be asked: an endpoint, a batch, a model in this process."""

    async def ask(self, request: ChatRequest) -> ChatReply:
        """The reply to a request, which may take a day where it goes in a batch.

        Raises Provider (no usable reply after all tries), Refused (the model or its filter declines), Corrupt
        or Invalid (the request itself cannot be sent), OutOfMemory, with the attempts made; and UsageError
        and NoSpace, which are meant to stop the run: wrong key, unknown model, no such host.
        """

    async def close(self) -> None:
        """End everything that is under way."""
