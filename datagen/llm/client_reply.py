"""What an endpoint's response means: a completion, or a fault that says what to do about it; for how long no
further calls are wanted; and whether it answers the request that it came back for at all.
"""

import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import msgspec
from msgspec import Struct

from datagen.llm.transport import Connection
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
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+\.?\d*|\.\d+)s)?(?:(\d+)ms)?")
_RANDOM_LENGTH = 24
"""Ids this long are random ones, such as chatcmpl- and a UUID."""


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
        busy = isinstance(completion.error, dict) and str(completion.error.get("code")) == "429"
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


def asked_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds for which no calls are wanted, by Retry-After (RFC 9110) or else x-ratelimit-* (OpenAI's, which
    others have taken over); None: they do not say.
    """
    if (after := headers.get("retry-after-ms")) and (wait := _number(after)) is not None:
        return wait / 1000
    if (after := headers.get("retry-after")) is not None:
        return wait if (wait := _number(after)) is not None else _until(after)
    waits = [
        _duration(headers.get(f"x-ratelimit-reset{kind}", ""))
        for kind in ("", "-requests", "-tokens")
        if (left := headers.get(f"x-ratelimit-remaining{kind}")) and _number(left) == 0
    ]
    return max(waits, default=0.0) or None


def _number(text: str) -> float | None:
    text = text.strip()
    return float(text) if re.fullmatch(r"\d{1,15}(?:\.\d{0,15})?", text) else None


def _until(date: str) -> float | None:
    try:
        when = parsedate_to_datetime(date)
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


def _duration(text: str) -> float:
    """Seconds meant by 1h2m3.5s, 20ms, 12.5, a Unix time in seconds or milliseconds; 0 for anything else."""
    text = text.strip()
    number = _number(text)
    if number is not None:
        now = datetime.now(UTC).timestamp()
        unix = number / 1000 if number > 1e11 else number
        return max(0.0, unix - now) if unix > 1e9 else number
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        return 0.0
    days, hours, minutes, seconds, thousandths = (float(group or 0) for group in match.groups())
    return days * 86400 + hours * 3600 + minutes * 60 + seconds + thousandths / 1000


class Echo:
    """Ids of the requests of one client, and of the replies to them.

    A server or proxy that answers a request twice makes every later reply on that connection one too old.
    Most of that is seen on the connection itself; what arrives late is told by ids. Servers such as vLLM give
    the X-Request-Id of the request back, in a header or in the completion's id; a doubled reply repeats its
    id.
    """

    def __init__(self) -> None:
        self._prefix = f"dg{secrets.token_hex(6)}"
        self._count = 0
        self._ids_differ = self._ids_repeat = False
        self._last: tuple[str, Connection] | None = None

    def next_id(self) -> str:
        """An id for one more request: all are equally long, so that none is part of another."""
        self._count += 1
        return f"{self._prefix}{self._count:010x}"

    def check(self, sent: str, response: Response, reply_id: str, connection: Connection) -> None:
        """Raise Fault where the reply belongs to another request; its connection is closed."""
        for text in (reply_id, response.headers.get("x-request-id", "")):
            if self._prefix in text and sent not in text:
                connection.close()
                raise Fault("broken", "the reply carries the id of another request", response.status)
        if not reply_id:
            return
        # Some servers give every reply the same id: only random ones, or ones seen to differ, prove anything.
        if self._last is not None:
            if self._last[0] != reply_id:
                self._ids_differ = True
            elif self._last[1] is not connection:
                self._ids_repeat = True
        self._last = reply_id, connection
        telling = (self._ids_differ or len(reply_id) >= _RANDOM_LENGTH) and not self._ids_repeat
        if telling and connection.last_reply_id == reply_id:
            connection.close()
            raise Fault("broken", "the reply repeats the one before it", response.status)
        connection.last_reply_id = reply_id
