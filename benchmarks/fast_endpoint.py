"""An endpoint on loopback, in a process of its own, that answers any call after a fixed time."""

import asyncio
import json
import multiprocessing
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

CAPTION = {
    "seen": "A red box glides slowly over a plain green ground until it reaches the far side and stops.",
    "heard": None,
    "actions": ["the box glides", "the box stops"],
    "objects": ["box", "ground"],
    "state_changes": [{"object": "box", "from": "moving", "to": "still"}],
    "on_screen_text": [],
    "uncertain": ["whether the box touches the edge"],
}
REPLY = {
    "id": "chatcmpl-0",
    "object": "chat.completion",
    "created": 1,
    "model": "tiny",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": json.dumps(CAPTION)},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 100, "completion_tokens": 100, "total_tokens": 200},
}
PROMPT = "Describe what can be seen. " * 40


class Endpoint(asyncio.Protocol):
    """Answers `delay` seconds after a request; refuses a share of them, and what is beyond `most`."""

    def __init__(self, delay: float, share: float, most: int, counts: Any) -> None:
        self.delay, self.share, self.most, self.counts = delay, share, most, counts
        self.data = bytearray()
        self.need = 0
        self.last = False
        body = json.dumps(REPLY).encode()
        self.good = (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
            + body
        )
        self.busy = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n"

    def connection_made(self, transport: Any) -> None:
        """Called by the event loop."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        self.data += data
        if not self.need:
            end = self.data.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self.data[:end]).lower()
            self.last = b"connection: close" in head
            self.need = (
                end + 4 + int((head + b"\r\n").partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
            )
        if len(self.data) < self.need:
            return
        self.data.clear()
        self.need = 0
        if self.counts[0] >= self.most or random.random() < self.share:
            self.counts[1] += 1
            self.transport.write(self.busy)
            return
        self.counts[0] += 1
        asyncio.get_running_loop().call_later(self.delay, self.answer)

    def answer(self) -> None:
        """Give the right answer."""
        self.counts[0] -= 1
        self.counts[2] += 1
        self.transport.write(self.good)
        if self.last:
            self.transport.close()


def serve(port: Any, counts: Any, delay: float, share: float, most: int) -> None:
    import uvloop

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: Endpoint(delay, share, most, counts), "127.0.0.1", 0, backlog=1024
        )
        port.value = server.sockets[0].getsockname()[1]
        await server.serve_forever()

    uvloop.run(main())


class Served:
    """`with Served(delay) as served`: an endpoint in a process of its own."""

    def __init__(self, delay: float, share: float = 0.0, most: int = 1 << 30) -> None:
        # Plain shared memory: in flight, refused, answered.
        self.port = multiprocessing.Value("i", 0, lock=False)
        self.counts = multiprocessing.Array("l", 3, lock=False)
        self.process = multiprocessing.Process(
            target=serve, args=(self.port, self.counts, delay, share, most), daemon=True
        )

    def __enter__(self) -> "Served":
        self.process.start()
        while not self.port.value:
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{self.port.value}/v1"
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.kill()
        self.process.join()


async def together(ask: Callable[[int], Awaitable[Any]], calls: int, workers: int) -> tuple[float, float]:
    """(CPU seconds, wall seconds) of so many calls by so many workers, each asking one after the other."""
    numbers = iter(range(calls))

    async def worker() -> None:
        for number in numbers:
            await ask(number)

    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(worker() for _ in range(workers)))
    return time.process_time() - cpu, time.perf_counter() - wall
