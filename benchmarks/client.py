"""Measures the model client against the `openai` async client and other tools, all in one run.

    python -m benchmarks.client [--python PATH ...] [--uvloop] [--quick]

The endpoint is a process of its own on loopback; it answers after a fixed time. `--python` names interpreters
of environments with other tools (distilabel, curator, datatrove): each that is found there is measured too.
"""

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any

from benchmarks.fast_endpoint import PROMPT, Served, together
from benchmarks.other_tools import TOOLS, cpu_seconds
from benchmarks.whole_calls import CALLS_OF_A_VIDEO, whole_calls
from datagen.llm.chat import ChatRequest, Message, Picture, Text
from datagen.llm.client import Client, ClientLimits
from datagen.llm.messages import frame_digest

ROOT = Path(__file__).resolve().parents[1]
FRAMES = 16
FRAME_BYTES = 60_000


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


async def whole(url: str, calls: int) -> float:
    """CPU seconds of calls as builds make them: spooled, checked by their schema, kept in the ledger."""

    async def after(_: int) -> None:
        return None

    client = Client(url, "key", Path(), ClientLimits(max_in_flight=64))
    with tempfile.TemporaryDirectory() as folder:
        await whole_calls(client, Path(folder) / "warm", 4, 64, after)
        cpu = cpu_seconds()
        made = await whole_calls(client, Path(folder) / "out", -(-calls // CALLS_OF_A_VIDEO), 64, after)
        cpu = cpu_seconds() - cpu
    await client.close()
    return cpu / made * calls


def other(tool: str, python: str, url: str, calls: int, at_a_time: int) -> dict[str, float] | None:
    """CPU and wall seconds of calls by another tool; None where that Python does not have it."""
    command = [python, "-m", "benchmarks.other_tools", tool, url, str(calls), str(at_a_time)]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        print(f"{tool} failed: no end within 120 s")
        return None
    if done.returncode == 3:
        return None
    if done.returncode:
        print(f"{tool} failed: {(done.stderr.strip().splitlines() or ['?'])[-1][:200]}")
        return None
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def show(what: str, value: float, bar: str) -> None:
    print(f"{what:<66} {value:>9.3f}   {bar}", flush=True)


def cpu_and_rate(run: Callable[[Any], Any], scale: int, pythons: list[str]) -> None:
    calls, few = 10_000 // scale, 1_000 // scale
    with Served(0.002) as served:
        # The others first and last: what else the machine does should weigh on all alike.
        before = other("openai", sys.executable, served.url, few, 64)
        cpu, wall = run(ours(served.url, calls, 64, ClientLimits(max_in_flight=64)))
        _, adaptive = run(ours(served.url, calls, 256, ClientLimits()))
        kept = run(whole(served.url, calls))
        after = other("openai", sys.executable, served.url, few, 64)
        assert before is not None and after is not None
        openai = (before["cpu"] + after["cpu"]) / (2 * few)
        show("2 ms: CPU s per 1,000 calls, openai", openai * 1000, "")
        show("2 ms: CPU s per 1,000 calls", cpu / calls * 1000, "")
        show("2 ms: CPU s per 1,000 calls, checked, spooled and kept", kept / calls * 1000, "")
        show("2 ms: CPU a call against openai", cpu / calls / openai, "")
        show("2 ms: CPU a call against openai, checked, spooled and kept", kept / calls / openai, "<= .1")
        show("2 ms: calls a second, 64 in flight", calls / wall, ">= 3000")
        show("2 ms: calls a second, adaptive", calls / adaptive, ">= 3000")
        show("2 ms: calls a second, openai", 2 * few / (before["wall"] + after["wall"]), "")
        for tool in [tool for tool in TOOLS if tool != "openai"]:
            results = (other(tool, python, served.url, few, 64) for python in pythons)
            result = next((result for result in results if result is not None), None)
            if result is None:
                print(f"2 ms: {tool}: skipped, no --python has it")
                continue
            show(f"2 ms: CPU s per 1,000 calls, {tool}", result["cpu"] / few * 1000, "")
            show(f"2 ms: CPU a call, all of ours against {tool}", kept / calls / (result["cpu"] / few), "")
            show(f"2 ms: calls a second, {tool}", few / result["wall"], "")


def share_of_ideal(run: Callable[[Any], Any], scale: int) -> None:
    with Served(0.1) as served:
        calls = 20_000 // scale
        ideal = calls / 256 * 0.1
        _, fixed = run(ours(served.url, calls, 256, ClientLimits(max_in_flight=256)))
        _, adaptive = run(ours(served.url, calls, 256, ClientLimits()))
        few = 2_000 // scale
        openai = other("openai", sys.executable, served.url, few, 256)
        assert openai is not None
    show("256 x 100 ms: share of the ideal rate, fixed", ideal / fixed, ">= .90")
    show("256 x 100 ms: share of the ideal rate, adaptive from 64", ideal / adaptive, ">= .90")
    show("256 x 100 ms: share of the ideal rate, openai", few / 256 * 0.1 / openai["wall"], "")


def refusals(run: Callable[[Any], Any], scale: int) -> None:
    calls = 20_000 // scale
    with Served(0.1) as served:
        _, clean = run(ours(served.url, calls, 256, ClientLimits()))
    with Served(0.1, share=0.05) as served:
        _, wall = run(ours(served.url, calls, 256, ClientLimits()))
    show("5 % random 429s: share of the clean rate", clean / wall, ">= .8")
    for calls in (2_500 // scale, 10_000 // scale):
        with Served(0.1, most=64) as served:
            _, wall = run(ours(served.url, calls, 256, ClientLimits()))
            refused, answered = served.counts[1], served.counts[2]
        show(f"hard limit 64, {calls} calls: share of its ideal rate", calls / 64 * 0.1 / wall, ">= .9")
        show(f"hard limit 64, {calls} calls: share refused", refused / (refused + answered), "<= .03")


def pictures(run: Callable[[Any], Any], scale: int) -> None:
    calls, sets = 1_000 // scale, 20
    with tempfile.TemporaryDirectory() as folder, Served(0.002) as served:
        frames, parts = Path(folder), []
        for n in range(FRAMES * sets):
            data = random.Random(n).randbytes(FRAME_BYTES)
            (frames / f"{n}.jpg").write_bytes(data)
            # As when the request is made; for paths, the client then need not read the file again.
            frame_digest(str(frames.resolve() / f"{n}.jpg"))
            parts.append(Picture(f"{n}.jpg", blake2b(data, digest_size=16).hexdigest()))

        async def several(calls: int, **options: Any) -> float:
            client = Client(served.url, "key", frames, ClientLimits(max_in_flight=16), **options)

            async def ask(n: int) -> None:
                chosen = tuple(parts[n % sets * FRAMES : (n % sets + 1) * FRAMES])
                message = Message("user", (*chosen, Text(PROMPT)))
                await client.ask(ChatRequest(model="tiny", messages=(message,)))

            await together(ask, sets, 16)
            cpu, _ = await together(ask, calls, 16)
            await client.close()
            return cpu / calls * 1000

        what = "16 frames of 60 kB: CPU s per 1,000 calls"
        show(f"{what}, file paths", run(several(10 * calls, file_urls=True)), "<= .2")
        show(f"{what}, data URLs", run(several(calls // 5)), "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--python", action="append", default=[], help="an interpreter that has other tools")
    parser.add_argument("--uvloop", action="store_true", help="run the clients on uvloop")
    parser.add_argument("--quick", action="store_true", help="a quarter of the calls")
    args = parser.parse_args()
    run: Callable[[Any], Any] = asyncio.run
    if args.uvloop:
        import uvloop

        run = uvloop.run
    scale = 4 if args.quick else 1
    cpu_and_rate(run, scale, args.python)
    for measure in (share_of_ideal, refusals, pictures):
        measure(run, scale)


if __name__ == "__main__":
    main()
