"""Reads one HTTP/1.1 response from bytes as they come in (RFC 9112), strictly: what is odd is a fault."""

import re
from typing import NamedTuple

_STATUS_LINE = re.compile(r"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: .*)?")
_CHUNK_LINE = re.compile(rb"([0-9a-fA-F]{1,8})[ \t]*(?:;.*)?")
_MAX_HEAD = 65536
_MAX_CHUNK_LINE = 1024


class Broken(Exception):
    """A connection that failed, or bytes on it that are no complete response."""


class Response(NamedTuple):
    """One complete response."""

    status: int
    headers: dict[str, str]
    """By lower-case name; repeated ones are joined by commas."""
    body: bytes


class ResponseReader:
    """Takes in bytes until one response is complete. `reusable` then says whether another may follow it."""

    def __init__(self, max_bytes: int) -> None:
        self.reusable = False
        self.began = False
        self._max = max_bytes
        self._data = bytearray()
        self._body = bytearray()
        self._status = 0
        self._headers: dict[str, str] = {}
        self._length: int | None = None
        self._chunked = False
        self._keep_alive = False

    def feed(self, data: bytes) -> Response | None:
        """Take in more bytes: the response if it is complete by now. Raises Broken."""
        self.began = True
        self._data += data
        while not self._status:
            if not self._read_head():
                return None
        if self._chunked:
            return self._read_chunks()
        if len(self._data) > self._max:
            raise Broken(f"reply larger than {self._max} bytes")
        if self._length is None or len(self._data) < self._length:
            return None
        self.reusable = self._keep_alive and len(self._data) == self._length
        return Response(self._status, self._headers, bytes(self._data[: self._length]))

    def end(self) -> Response:
        """The other side has closed: the response, where closing is what ends it. Raises Broken."""
        if self._status and self._length is None and not self._chunked:
            return Response(self._status, self._headers, bytes(self._data))
        raise Broken("connection closed within the reply" if self.began else "connection closed unanswered")

    def _read_head(self) -> bool:
        end = self._data.find(b"\r\n\r\n")
        if end < 0:
            # Neither a fault that never ends its head nor something that is not HTTP is waited for.
            if len(self._data) > _MAX_HEAD or not (b"HTTP/1." + self._data[7:]).startswith(self._data[:7]):
                raise Broken("reply is not HTTP/1.1")
            return False
        first, *lines = self._data[:end].decode("latin-1").split("\r\n")
        del self._data[: end + 4]
        match = _STATUS_LINE.fullmatch(first)
        if match is None or end > _MAX_HEAD:
            raise Broken("reply is not HTTP/1.1")
        headers: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon or not name or name != name.strip():
                raise Broken("reply has a malformed header")
            name, value = name.lower(), value.strip()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        if match[2][0] != "1":  # 1xx only announces the response.
            self._headers = headers
            self._frame(minor=match[1], status=int(match[2]))
        return True

    def _frame(self, minor: str, status: int) -> None:
        """How the body ends."""
        coding, length = self._headers.get("transfer-encoding"), self._headers.get("content-length")
        if self._headers.get("content-encoding", "identity").lower() != "identity":
            raise Broken("reply is compressed, which was not asked for")
        if coding is not None:
            if coding.lower() != "chunked" or length is not None:
                raise Broken("reply is framed in an unclear way")
            self._chunked = True
        elif length is not None:
            if not (length.isascii() and length.isdigit() and len(length) < 16):
                raise Broken("reply has a malformed Content-Length")
            self._length = int(length)
            if self._length > self._max:
                raise Broken(f"reply larger than {self._max} bytes")
        elif status in (204, 304):
            self._length = 0
        wish = self._headers.get("connection", "").lower()
        ends = self._chunked or self._length is not None
        self._keep_alive = ends and ("keep-alive" in wish if minor == "0" else "close" not in wish)
        self._status = status

    def _read_chunks(self) -> Response | None:
        at = 0
        try:
            while True:
                end = self._data.find(b"\r\n", at)
                if end < 0:
                    if len(self._data) - at > _MAX_CHUNK_LINE:
                        raise Broken("reply has a malformed chunk")
                    return None
                match = _CHUNK_LINE.fullmatch(self._data, at, end)
                if match is None:
                    raise Broken("reply has a malformed chunk")
                size, start = int(match[1], 16), end + 2
                if size == 0:
                    return self._read_trailers(at, start)
                if len(self._body) + size > self._max:
                    raise Broken(f"reply larger than {self._max} bytes")
                if len(self._data) < start + size + 2:
                    return None
                if self._data[start + size : start + size + 2] != b"\r\n":
                    raise Broken("reply has a malformed chunk")
                self._body += self._data[start : start + size]
                at = start + size + 2
        finally:
            del self._data[:at]

    def _read_trailers(self, at: int, start: int) -> Response | None:
        if self._data.startswith(b"\r\n", start):
            end = start + 2
        else:
            blank = self._data.find(b"\r\n\r\n", start)
            if blank < 0:
                if len(self._data) - at > _MAX_HEAD:
                    raise Broken("reply has endless trailers")
                return None
            end = blank + 4
        self.reusable = self._keep_alive and len(self._data) == end
        return Response(self._status, self._headers, bytes(self._body))
