"""What an endpoint's response means: a completion, or a fault that says what to do about it."""

import re
from typing import Any, Literal

import msgspec
from msgspec import Struct

from datagen.llm.client_wait import asked_wait
from datagen.llm.transport_http import Response

Kind = Literal["busy", "down", "broken", "unsupported", "unusable", "refused", "fatal"]

_OPTIONS = {
    "response_format": re.compile(r"response_format|json_schema|guided_|structured.outputs?", re.I),
    "max_tokens": re.compile(r"max_completion_tokens.{0,10}instead", re.I),
    "seed": re.compile(r"unsupported (?:value|parameter): .?seed\b", re.I),
    "temperature": re.compile(r"unsupported (?:value|parameter): .?temperature\b", re.I),
}
_MODERATED = re.compile(r"content_filter|content_policy|moderation|flagged", re.I)
_NO_MODEL = re.compile(
    r"model_not_found|(?:unknown|invalid|no such) model|"
    r"model [`'\"]\S{1,200}[`'\"] (?:was |is )?(?:not found|does not exist|not exist)|"
    r"pinned to \S{1,300}; requested",
    re.I,
)
_NO_MONEY = re.compile(r"insufficient_quota|insufficient.balance|billing_hard_limit", re.I)
_TEXT_LIMIT = 300


class Fault(Exception):
    """A try that failed. The kind says what follows:

    busy, down, broken: try again (overload; nobody there; a fault of this one response);
    unsupported: try again without `option`; unusable, refused: this call is over; fatal: the run is.
    """

    def __init__(self, kind: Kind, text: str, status: int = 0, option: str = "", wait: float | None = None):
        super().__init__(text)
        self.kind = kind
        self.text = text
        self.status = status
        self.option = option
        self.wait = wait
        """Seconds for which the endpoint wants no calls, where it says so."""


class Message(Struct):
    """The part of a choice that speaks."""

    content: str | None
    refusal: str | None = None


class Choice(Struct):
    """One answer."""

    message: Message
    finish_reason: str | None = None


class Usage(Struct):
    """What was paid for."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Completion(Struct):
    """A chat completion, as far as it is read here (OpenAI API reference, "The chat completion object")."""

    choices: list[Choice] = []
    id: str | int | None = None
    model: str | None = None
    usage: Usage | None = None
    error: Any = None


_decoder = msgspec.json.Decoder(Completion)


def read_completion(response: Response) -> Completion:
    """The completion in a response of status 200, with exactly one choice. Raises Fault for anything else."""
    try:
        completion = _decoder.decode(response.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if b'"error"' in response.body:
            raise Fault("broken", f"status 200 with an error: {read_error(response.body)}", 200) from None
        what = "an empty body" if not response.body.strip() else f"no chat completion ({error})"
        raise Fault("broken", f"status 200 with {what}", 200) from None
    if completion.error:
        busy = read_error_field(completion.error, "code") == "429"
        text = f"status 200 with an error: {read_error(response.body)}"
        raise Fault("busy" if busy else "broken", text, 200)
    if len(completion.choices) != 1:
        raise Fault("broken", f"{len(completion.choices)} choices where 1 was asked for", 200)
    if completion.model is not None and len(completion.model) > 1000:
        raise Fault("broken", "reply from an implausible model", 200)
    return completion


def read_fault(response: Response) -> Fault:
    """What a response with another status than 200 means."""
    status, error = response.status, read_error(response.body)
    text = f"status {status}: {error}" if error else f"status {status}"
    head = response.body[:4096].decode("utf-8", "replace")
    wait = asked_wait(response.headers) or None
    if status in (401, 402, 407) or (status in (403, 429) and _NO_MONEY.search(head)):
        return Fault("fatal", text, status)
    if status in (400, 403) and _MODERATED.search(head):
        return Fault("refused", text, status)
    if status in (403, 404) or (status == 400 and _NO_MODEL.search(head)):
        return Fault("fatal", text, status)
    if 300 <= status < 400:
        where = response.headers.get("location", "elsewhere").split("?")[0]
        return Fault("fatal", f"redirects to {where[:_TEXT_LIMIT]}", status)
    if status in (429, 503, 529):
        return Fault("busy", text, status, wait=wait)
    if status == 502:
        return Fault("down", text, status, wait=wait)
    if status in (408, 409, 425) or status >= 500 or status < 300:
        return Fault("broken", text, status, wait=wait)
    if status in (400, 422):
        for option, pattern in _OPTIONS.items():
            if pattern.search(head):
                return Fault("unsupported", text, status, option)
    return Fault("unusable", text, status)


def read_error(body: bytes) -> str:
    """The message in the body of an error, in short and on one line."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = None
    inner = found.get("error", found) if isinstance(found, dict) else None
    if isinstance(inner, dict):
        text = next((str(inner[k]) for k in ("message", "detail", "code") if inner.get(k)), "")
    else:
        text = inner if isinstance(inner, str) else body[:2000].decode("utf-8", "replace")
    text = "".join(c if c.isprintable() else " " for c in text[:2000])
    return " ".join(text.split())[:_TEXT_LIMIT]


def read_error_field(error: Any, field: str) -> str:
    """A field of an error object as text; empty where there is none."""
    return str(error.get(field) or "") if isinstance(error, dict) else ""
