"""The JSON Lines of batches: requests on their way out, replies on their way back.

The format is that of OpenAI's Batch API ("The request input object", "The request output object"), which
`vllm run-batch` shares.
"""

import fcntl
import os
from collections.abc import Collection
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO, Literal

import msgspec
from msgspec import Struct

from datagen.errors import Invalid
from datagen.llm.chat import ChatRequest
from datagen.llm.client_reply import Completion, Fault, read_completion, read_error, read_fault
from datagen.llm.transport_http import Response

ENDPOINT: Literal["/v1/chat/completions"] = "/v1/chat/completions"


def custom_id(request: ChatRequest, max_tokens: int, unsupported: Collection[str]) -> str:
    """The name of a request in files: a hash of all that its answer depends on, the same in every run.

    Raises Invalid for text that is no text.
    """
    try:
        exact = msgspec.json.encode((request, max_tokens, sorted(unsupported)), order="deterministic")
    except UnicodeEncodeError:
        raise Invalid(f"request of {request.prompt or request.model}: text that is not Unicode") from None
    return "dg-" + blake2b(exact, digest_size=16).hexdigest()


def request_line(name: str, body: bytes) -> bytes:
    """One line of a file of requests."""
    # Schemas are spliced into bodies as they stand; between the tokens of JSON a newline is a space.
    body = body.replace(b"\n", b" ").replace(b"\r", b" ")
    head = b'{"custom_id":"%b","method":"POST","url":"%b","body":' % (name.encode(), ENDPOINT.encode())
    return head + body + b"}\n"


class Gathering:
    """A file of requests that is being written. Its lock tells it from one that a dead process left."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.file = path.open("x+b")
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
    """The file, locked until it is closed; None while the process that writes it is alive."""
    file = path.open("rb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


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
        self.unreadable = self.unknown = self.doubled = 0
        self.ended = "completed"
        """How the batch ended, for messages."""
        self.blamed: dict[str, str] = {}
        """Requests for which the whole batch was turned away, and why."""
        self._file = file
        self._places: dict[str, tuple[int, int]] = {}
        wanted, at = frozenset(ids), 0
        file.seek(0)
        for line in file:
            if line.strip():
                self._look_at(line, at, wanted, most_bytes)
            at += len(line)

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

    def _look_at(self, line: bytes, at: int, wanted: frozenset[str], most_bytes: int) -> None:
        try:
            name = _lines.decode(line).custom_id
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.unreadable += 1
            return
        if name not in wanted:
            self.unknown += 1
        elif name in self._places:
            self.doubled += 1
        elif len(line) > most_bytes:
            self.blamed[name] = f"a reply of {len(line)} bytes"
        else:
            self._places[name] = at, len(line)


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
