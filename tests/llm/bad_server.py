"""An endpoint that misbehaves in whatever way a test wants, on raw sockets and loopback."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple


class Call(NamedTuple):
    """One request that came in, and the means to answer it."""

    number: int
    head: str
    body: dict[str, Any]
    send: asyncio.StreamWriter

    @property
    def text(self) -> str:
        """What the last message says."""
        content = self.body["messages"][-1]["content"]
        return content if isinstance(content, str) else content[-1]["text"]

    def header(self, name: str) -> str | None:
        for line in self.head.split("\r\n")[1:]:
            key, _, value = line.partition(": ")
            if key.lower() == name:
                return value
        return None


Behaviour = Callable[[Call], Awaitable[bytes | None]]


def http(status: int, body: bytes | str | dict[str, Any], *headers: str) -> bytes:
    if isinstance(body, dict):
        body = json.dumps(body)
    data = body.encode() if isinstance(body, str) else body
    lines = [
        f"HTTP/1.1 {status} X",
        "Content-Type: application/json",
        f"Content-Length: {len(data)}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def completion(text: str | None, finish: str = "stop", **fields: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "tiny",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    } | fields


def good(call: Call, **fields: Any) -> bytes:
    """The right answer: it says which question it belongs to."""
    return http(200, completion(f"answer to {call.text}", id=f"id-{call.number}", **fields))


class BadServer:
    """`async with BadServer(behave) as server`: every request is answered by what `behave` returns or sends.

    None closes the connection. Raising ConnectionResetError resets it.
    """

    def __init__(self, behave: Behaviour, port: int = 0) -> None:
        self.behave = behave
        self.calls: list[Call] = []
        self.in_flight = self.most_in_flight = self.connections = 0
        self._port = port
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> "BadServer":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                length = int(
                    next(x for x in head.split("\r\n") if x.startswith("Content-Length")).split(":")[1]
                )
                body = json.loads(await reader.readexactly(length))
                call = Call(len(self.calls), head, body, writer)
                self.calls.append(call)
                self.in_flight += 1
                self.most_in_flight = max(self.most_in_flight, self.in_flight)
                try:
                    data = await self.behave(call)
                finally:
                    self.in_flight -= 1
                if data is None:
                    break
                writer.write(data)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


async def reset(call: Call) -> None:
    """Cut the connection with a TCP reset."""
    import socket
    import struct

    sock = call.send.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    call.send.transport.abort()
