"""Measures the model client against the `openai` async client in one run: CPU, rates, refusals, memory.

    python benchmarks/client.py [--uvloop] [--quick]

The endpoint is a process of its own on loopback; it answers after a fixed time.
"""

import argparse
import asyncio
import json
import multiprocessing
import random
import resource
import tempfile
import time
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any

from datagen.llm.chat import ChatRequest, Message, Picture, Text
from datagen.llm.client import Client, ClientLimits

REPLY = {
    "id": "chatcmpl-0",
    "object": "chat.completion",
    "created": 1,
    "model": "tiny",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "x" * 400}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 100, "completion_tokens": 100, "total_tokens": 200},
}
PROMPT = "Describe what can be seen. " * 40
FRAMES = 16
FRAME_BYTES = 60_000


class Endpoint(asyncio.Protocol):
    """Answers `delay` seconds after a request; refuses a share of them, and what is beyond `most`."""

    def __init__(self, delay: float, share: float, most: int, counts: Any) -> None:
        self.delay, self.share, self.most, self.counts = delay, share, most, counts
        self.data = bytearray()
        self.need = 0
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
            self.need = end + 4 + int(head.split(b"content-length:")[1].split(b"\r\n")[0])
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


async def ours(
    url: str, calls: int, workers: int, limits: ClientLimits, message: Message | None = None, **options: Any
) -> tuple[float, float]:
    frames = options.pop("frames", Path())
    client = Client(url, "key", frames, limits, **options)
    request = ChatRequest(model="tiny", messages=(message or Message("user", (Text(PROMPT),)),))
    try:
        await together(lambda n: client.ask(request), min(100, calls), 16)
        return await together(lambda n: client.ask(request), calls, workers)
    finally:
        await client.close()


async def openais(url: str, calls: int, workers: int, content: Any = PROMPT) -> tuple[float, float]:
    import openai

    async with openai.AsyncOpenAI(base_url=url, api_key="key") as client:

        async def ask(_: int) -> None:
            made = content() if callable(content) else content
            await client.chat.completions.create(
                model="tiny", messages=[{"role": "user", "content": made}], temperature=0, max_tokens=1024
            )

        await together(ask, min(100, calls), 16)
        return await together(ask, calls, workers)


def show(what: str, value: float, bar: str) -> None:
    print(f"{what:<66} {value:>9.3f}   {bar}", flush=True)


def cpu_and_rate(run: Callable[[Any], Any], scale: int) -> None:
    with Served(0.002) as served:
        calls = 10_000 // scale
        cpu, wall = run(ours(served.url, calls, 64, ClientLimits(max_in_flight=64)))
        _, adaptive = run(ours(served.url, calls, 256, ClientLimits()))
        other_calls = 1_000 // scale
        other, other_wall = run(openais(served.url, other_calls, 64))
    show("2 ms: CPU s per 1,000 calls", cpu / calls * 1000, "")
    show("2 ms: CPU s per 1,000 calls, openai", other / other_calls * 1000, "")
    show("2 ms: CPU a call against openai", (cpu / calls) / (other / other_calls), "<= .1")
    show("2 ms: calls a second, 64 in flight", calls / wall, ">= 3000")
    show("2 ms: calls a second, adaptive", calls / adaptive, ">= 3000")
    show("2 ms: calls a second, openai", other_calls / other_wall, "")


def share_of_ideal(run: Callable[[Any], Any], scale: int) -> None:
    with Served(0.1) as served:
        calls = 20_000 // scale
        ideal = calls / 256 * 0.1
        _, fixed = run(ours(served.url, calls, 256, ClientLimits(max_in_flight=256)))
        _, adaptive = run(ours(served.url, calls, 256, ClientLimits()))
        other_calls = 2_000 // scale
        _, other = run(openais(served.url, other_calls, 256))
    show("256 x 100 ms: share of the ideal rate, fixed", ideal / fixed, ">= .90")
    show("256 x 100 ms: share of the ideal rate, adaptive from 64", ideal / adaptive, ">= .90")
    show("256 x 100 ms: share of the ideal rate, openai", other_calls / 256 * 0.1 / other, "")


def refusals(run: Callable[[Any], Any], scale: int) -> None:
    calls = 20_000 // scale
    with Served(0.1) as served:
        _, clean = run(ours(served.url, calls, 256, ClientLimits()))
    with Served(0.1, share=0.05) as served:
        _, wall = run(ours(served.url, calls, 256, ClientLimits()))
    show("5 % random 429s: share of the clean rate", clean / wall, ">= .8")
    calls = 10_000 // scale
    with Served(0.1, most=64) as served:
        _, wall = run(ours(served.url, calls, 256, ClientLimits()))
        refused, answered = served.counts[1], served.counts[2]
    show("hard limit 64: share of its ideal rate", calls / 64 * 0.1 / wall, ">= .9")
    show("hard limit 64: share refused", refused / (refused + answered), "<= .03")


def pictures(run: Callable[[Any], Any], scale: int) -> None:
    calls = 200 // scale
    with tempfile.TemporaryDirectory() as folder, Served(0.002) as served:
        frames, parts = Path(folder), []
        for n in range(FRAMES * 20):
            data = random.Random(n).randbytes(FRAME_BYTES)
            (frames / f"{n}.jpg").write_bytes(data)
            parts.append(Picture(f"{n}.jpg", blake2b(data, digest_size=16).hexdigest()))

        async def several(**options: Any) -> float:
            client = Client(served.url, "key", frames, ClientLimits(max_in_flight=16), **options)

            async def ask(n: int) -> None:
                chosen = tuple(parts[n % 20 * FRAMES : (n % 20 + 1) * FRAMES])
                message = Message("user", (*chosen, Text(PROMPT)))
                await client.ask(ChatRequest(model="tiny", messages=(message,)))

            cpu, _ = await together(ask, calls, 16)
            await client.close()
            return cpu / calls * 1000

        def content() -> list[dict[str, Any]]:
            from base64 import b64encode

            urls = (b64encode((frames / part.name).read_bytes()).decode() for part in parts[:FRAMES])
            shown = [{"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{u}"}} for u in urls]
            return [*shown, {"type": "text", "text": PROMPT}]

        show("16 frames of 60 kB: CPU s per 1,000 calls, data URLs", run(several()), "")
        show("16 frames of 60 kB: CPU s per 1,000 calls, file paths", run(several(file_urls=True)), "")
        other, _ = run(openais(served.url, calls // 2, 16, content))
        show("16 frames of 60 kB: CPU s per 1,000 calls, openai", other / (calls // 2) * 1000, "")


def memory(run: Callable[[Any], Any], scale: int) -> None:
    calls = 30_000 // scale
    with Served(0.002) as served:
        run(ours(served.url, calls, 256, ClientLimits()))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        run(ours(served.url, 2 * calls, 256, ClientLimits()))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    show(f"peak memory grown by {2 * calls} more calls, MB", grown, "<= 5")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uvloop", action="store_true", help="run the clients on uvloop")
    parser.add_argument("--quick", action="store_true", help="a quarter of the calls")
    args = parser.parse_args()
    run: Callable[[Any], Any] = asyncio.run
    if args.uvloop:
        import uvloop

        run = uvloop.run
    scale = 4 if args.quick else 1
    for measure in (cpu_and_rate, share_of_ideal, refusals, memory, pictures):
        measure(run, scale)


if __name__ == "__main__":
    main()
