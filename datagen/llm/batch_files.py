"""The JSON Lines of batches: requests on their way out, replies on their way back; how much these may be.

The format is that of OpenAI's Batch API ("The request input object", "The request output object"), which
`vllm run-batch` shares.
"""

import fcntl
import os
import secrets
from collections.abc import Collection, Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO, Literal

import msgspec
from msgspec import Struct

from datagen.llm.chat import ChatRequest
from datagen.llm.client_reply import Completion, Fault, read_completion, read_error, read_fault
from datagen.llm.messages import not_unicode
from datagen.llm.transport_http import Response

ENDPOINT: Literal["/v1/chat/completions"] = "/v1/chat/completions"


class BatchLimits(Struct, frozen=True, kw_only=True):
    """Bounds and waits. The first two defaults are those of OpenAI's Batch API."""

    most_requests: int = 50_000
    """In one file."""
    most_bytes: int = 200_000_000
    """Of one file."""
    quiet_seconds: float = 20.0
    """A file goes out when no request has come for so long."""
    poll_seconds: float = 30.0
    """Between two looks at a batch, the first few of which follow one another faster ..."""
    folder_poll_seconds: float = 1.0
    """... and at a folder."""
    longest_seconds: float = 36 * 3600.0
    """From the first look at a batch: beyond this nobody waits for it any longer. Its window is 24 hours."""
    rounds: int = 3
    """Batches that a request may go into for one answer."""
    patience_seconds: float = 3600.0
    """For how long an endpoint may be away or overloaded at a stretch."""
    backoff_seconds: float = 1.0
    """Wait before the second try; it doubles with every further one ..."""
    max_backoff_seconds: float = 60.0
    """... up to this."""
    call_seconds: float = 600.0
    """One exchange with the endpoint: an upload, a look, a download."""
    settle_seconds: float = 2.0
    """A reply counts as used so long after it was handed over: by then the caller has kept it."""
    max_reply_bytes: int = 4 << 20


def custom_id(request: ChatRequest, max_tokens: int, unsupported: Collection[str]) -> str:
    """The name of a request in files: a hash of all that its answer depends on, the same in every run.

    Raises Invalid for text that is no text.
    """
    try:
        exact = msgspec.json.encode((request, max_tokens, sorted(unsupported)), order="deterministic")
    except UnicodeEncodeError:
        raise not_unicode(request) from None
    return "dg-" + blake2b(exact, digest_size=16).hexdigest()


def request_line(name: str, body: bytes) -> bytes:
    """One line of a file of requests."""
    # Schemas are spliced into bodies as they stand; between the tokens of JSON a newline is a space.
    body = body.replace(b"\n", b" ").replace(b"\r", b" ")
    head = b'{"custom_id":"%b","method":"POST","url":"%b","body":' % (name.encode(), ENDPOINT.encode())
    return head + body + b"}\n"


class Gathering:
    """A file of requests that is being written. Its lock tells it from one that a dead process left."""

    def __init__(self, folder: Path, name: str) -> None:
        """`name` has {} where the mark goes, a name that no other batch has."""
        folder.mkdir(parents=True, exist_ok=True)
        self.mark = secrets.token_hex(8)
        self.path = folder / name.format(self.mark)
        self.file = self.path.open("x+b")
        fcntl.flock(self.file, fcntl.LOCK_EX)
        self.ids: list[str] = []
        """In the order of the lines."""
        self.size = 0

    def add(self, name: str, line: bytes) -> None:
        """Append one request."""
        self.file.write(line)
        self.ids.append(name)
        self.size += len(line)

    def finish(self) -> None:
        """Bring all of it onto the disk."""
        self.file.flush()
        os.fsync(self.file.fileno())

    def discard(self) -> None:
        """Delete it."""
        self.path.unlink(missing_ok=True)
        self.file.close()


def take_lock(path: Path) -> BinaryIO | None:
    """The file, locked until it is closed; None while its writer is alive, and once it is gone."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def drop_torn(paths: Iterable[Path]) -> None:
    """Delete requests that a dead process was still gathering: whoever wants them asks again."""
    for path in sorted(paths):
        note = path.with_suffix(".json")
        if not note.exists() and (file := take_lock(path)) is not None:
            with file:
                # Its writer may have noted it and ended between the two looks.
                if not note.exists():
                    path.unlink(missing_ok=True)


class _Body(Struct):
    model: str = ""


class _Request(Struct):
    custom_id: str
    body: _Body


class _Answer(Struct):
    status_code: int = 200
    body: msgspec.Raw = msgspec.Raw(b"null")


class _Line(Struct):
    custom_id: str
    response: _Answer | None = None
    error: Any = None


_requests = msgspec.json.Decoder(_Request)
_lines = msgspec.json.Decoder(_Line, strict=False)


def read_requests(path: Path) -> tuple[tuple[str, ...], str]:
    """Names of the requests in a file, and the model asked; lines that are no requests are passed over."""
    found: dict[str, str] = {}
    with path.open("rb") as file:
        for line in file:
            try:
                request = _requests.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
            found[request.custom_id] = request.body.model
    return tuple(found), next(iter(found.values()), "")


class Replies:
    """The replies to one batch: an open file, and where in it each of them stands."""

    def __init__(self, file: BinaryIO, ids: Collection[str], most_bytes: int) -> None:
        """Look through `file` for replies to `ids`, of `most_bytes` at most; the first to each counts."""
        self.unreadable = self.unknown = self.doubled = at = 0
        self.ended = "completed"
        """How the batch ended, for messages."""
        self.blamed: dict[str, str] = {}
        """Requests for which the whole batch was turned away, and why."""
        self._file = file
        self._places: dict[str, tuple[int, int]] = {}
        wanted = frozenset(ids)
        file.seek(0)
        for line in file:
            at += len(line)
            try:
                name = _lines.decode(line).custom_id
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                self.unreadable += bool(line.strip())
                continue
            if name not in wanted:
                self.unknown += 1
            elif name in self._places:
                self.doubled += 1
            elif len(line) > most_bytes:
                self.blamed[name] = f"a reply of {len(line)} bytes"
            else:
                self._places[name] = at - len(line), len(line)

    def __len__(self) -> int:
        """How many requests have a reply."""
        return len(self._places)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def ignored(self) -> str:
        """What was passed over, in words; empty where nothing was."""
        counts = {"unreadable": self.unreadable, "unknown": self.unknown, "doubled": self.doubled}
        return ", ".join(f"{count} {what}" for what, count in counts.items() if count)

    def completion(self, name: str) -> Completion:
        """The completion that answers a request. Raises Fault where there is none."""
        if name in self.blamed:
            raise Fault("unusable", self.blamed[name], 400)
        if name not in self._places:
            raise Fault("broken", f"the batch {self.ended} without a reply to this request")
        at, length = self._places[name]
        try:
            line = _lines.decode(os.pread(self._file.fileno(), length, at))
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise Fault("broken", "the file of replies was changed while it was read") from None
        return _read_line(line)


def _read_line(line: _Line) -> Completion:
    """As what came with a status over HTTP. vLLM gives errors beside the response, OpenAI inside it."""
    answer = line.response
    if answer is None:
        raise Fault("broken", read_error(_error_body(line.error)) if line.error else "no response")
    if answer.status_code == 200 and line.error:
        raise Fault("broken", f"status 200 with an error: {read_error(_error_body(line.error))}", 200)
    body = bytes(answer.body)
    if body == b"null" and line.error:
        body = _error_body(line.error)
    if answer.status_code != 200:
        raise read_fault(Response(answer.status_code, {}, body))
    return read_completion(Response(200, {}, body))


def _error_body(error: Any) -> bytes:
    wrapped = isinstance(error, dict) and "error" in error
    return msgspec.json.encode(error if wrapped else {"error": error})
