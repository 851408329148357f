"""What the engine takes beside the work itself: CPU, wall time, and calls in flight.

    python -m benchmarks.engine [--backend local|ray] [--seconds 0.1] [--videos 300] [--rounds 3] [--only cpu]

CPU: videos of one step that works so many seconds on the processor, through engine, ledger, spool and
children, against the same function in plain processes that have shared the work out beforehand. What starting
took does not count: the engine's first quarter of the videos is left out, and of the plain processes what a
quarter takes. All processes count, Ray's own too.

Wall time: videos of two stages that let as many through a second, a step that keeps a child waiting and a
model call, against the first of them alone. Calls: 256 at a time of 100 ms each, while children work.
"""

import argparse
import asyncio
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import psutil

from datagen.engine import Backend, run_tasks
from datagen.ledger import FLOW, Event, Ledger, item_of
from datagen.records import Built, Entry, Video, Watched
from datagen.runner import Runner, Step, Task

ROOT = Path(__file__).resolve().parents[1]
AT_A_TIME = 256
CALL_SECONDS = 0.1
VERSIONS = {"work": 1, "rest": 1, "wait": 1}


class Shape(NamedTuple):
    """What a video is made of."""

    work: float = 0.0
    """Seconds of CPU in a child."""
    rest: float = 0.0
    """Seconds that a child waits."""
    calls: int = 0
    """Model calls, eight side by side."""
    call_seconds: float = CALL_SECONDS


def work(number: int, seconds: float) -> str:
    """Works so many seconds of CPU time; returns as much text as the account of a watched video."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        sum(range(1000))
    return "x" * 5000


def rest(number: int, seconds: float) -> str:
    """Keeps a child busy, and no processor."""
    time.sleep(seconds)
    return "x" * 5000


async def flow(step: Step, entry: Entry, shape: Shape, in_flight: asyncio.Semaphore) -> Built:
    """What the shape says: waiting comes before the calls, work beside them."""

    async def wait(number: int, call: int) -> str:
        async with in_flight:
            await asyncio.sleep(shape.call_seconds)
        return "a caption of some twenty words " * 5

    async def some_calls(first: int) -> None:
        for call in range(first, shape.calls, 8):
            await step.call(wait, entry.size, call)

    if shape.rest:
        await step(rest, entry.size, shape.rest, seconds=600)
    beside: list[Awaitable[object]] = [some_calls(first) for first in range(8)]
    if shape.work:
        beside.append(step(work, entry.size, shape.work, seconds=600))
    await asyncio.gather(*beside)
    video = Video(id=entry.name, digest="", name=entry.name, duration=1, fps=1, width=1, height=1, codec="")
    return Built(
        video=video, watched=Watched(duration=1), segments=(), captions=(), dialogues=(), rejected=()
    )


def make_runner(folder: Path, workers: int, shape: Shape, name: str, of: int) -> Runner:
    """A runner for such videos."""
    run_flow = functools.partial(flow, shape=shape, in_flight=asyncio.Semaphore(AT_A_TIME))
    return Runner(run_flow, VERSIONS, folder / "spool" / f"{name}.jsonl", workers, 2048)


def run(backend: Backend, workers: int, videos: int, shape: Shape, window: int) -> dict[str, list[float]]:
    """Run so many videos. When the results of each step came."""
    came: dict[str, list[float]] = {}

    def take(found: list[Event]) -> None:
        for event in found:
            if event.code is not None:
                raise RuntimeError(f"{event.step}: {bytes(event.value)!r}")
            came.setdefault(event.step, []).append(time.monotonic())

    with tempfile.TemporaryDirectory() as place:
        ledger = Ledger(Path(place))
        entries = (Entry(path=f"/{n}", name=f"{n:06d}", size=n, mtime_ns=1) for n in range(videos))
        tasks = (Task(f"flow-{entry.name}", item_of(entry), entry, {}) for entry in entries)
        make = functools.partial(make_runner, Path(place), workers, shape)
        asyncio.run(run_tasks(tasks, videos, make, ledger, take, backend, window=window))
        ledger.close()
    return came


def per_second(came: list[float]) -> float:
    """Rate of results, but for the first and the last fifth of them."""
    fifth = len(came) // 5
    return (len(came) - 2 * fifth) / (came[-fifth] - came[fifth])


def cpu_of(codes: list[str]) -> tuple[list[tuple[float, float]], bytes]:
    """CPU seconds of Python processes and all they start, as time goes by, and what the last one printed."""
    spent: dict[psutil.Process, float] = {}
    sums = [(0.0, 0.0)]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    running = [psutil.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE) for code in codes]
    while any(process.poll() is None for process in running):
        for top in running:
            try:
                for process in [top, *top.children(recursive=True)]:
                    times = process.cpu_times()
                    spent[process] = times.user + times.system
            except psutil.Error:
                continue
        sums.append((time.monotonic(), sum(spent.values())))
        time.sleep(0.05)
    if any(process.returncode for process in running):
        raise RuntimeError("a run has failed")
    return sums, running[-1].stdout.read()


def cpu_of_engine(args: argparse.Namespace) -> float:
    """CPU of a video: the slope of a line through the sums at all moments at which one had been worked on."""
    what = f"{args.backend!r}, {args.workers}, {args.videos}, Shape(work={args.seconds}), {4 * args.workers}"
    sums, said = cpu_of([f"from benchmarks.engine import Shape, run; print(run({what})['work'])"])
    came = json.loads(said)[args.videos // 4 :]
    spent = np.interp(came, *zip(*sums, strict=True))
    return float(np.polyfit(range(len(came)), spent, 1)[0])


def cpu_of_bare(args: argparse.Namespace) -> float:
    """CPU of a video in plain processes."""

    def cpu(videos: int) -> float:
        numbers = [f"range({n}, {videos}, {args.workers})" for n in range(args.workers)]
        code = "from benchmarks.engine import work\nfor n in {}: work(n, {})"
        return cpu_of([code.format(some, args.seconds) for some in numbers])[0][-1][1]

    few = args.videos // 4
    return (cpu(args.videos) - cpu(few)) / (args.videos - few)


def print_cpu(args: argparse.Namespace) -> None:
    """What the engine adds to the CPU of the work."""
    ratios = []
    for _ in range(args.rounds):
        bare, engine = cpu_of_bare(args), cpu_of_engine(args)
        ratios.append(engine / bare)
        print(f"  CPU of a video, ms: bare {1000 * bare:.1f}, engine {1000 * engine:.1f}", flush=True)
    print(f"CPU over the bare work: {spread(ratios)}")


def print_wall(args: argparse.Namespace) -> None:
    """Time of two stages at once, over that of the slower one alone."""
    # One after the other they would take twice as long.
    call_seconds = 1.0
    window = round(args.workers / args.seconds * call_seconds) + 4 * args.workers
    shapes = Shape(rest=args.seconds), Shape(rest=args.seconds, calls=1, call_seconds=call_seconds)
    ratios = []
    for _ in range(args.rounds):
        alone, both = (
            per_second(run(args.backend, args.workers, args.videos, shape, window)[FLOW]) for shape in shapes
        )
        print(f"  videos a second: the slower stage alone {alone:.2f}, both {both:.2f}", flush=True)
        ratios.append(alone / both)
    print(f"wall time over that of the slower stage: {spread(ratios)}")


def spread(ratios: list[float]) -> str:
    """Median, and the range."""
    return f"{median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"


def print_calls(args: argparse.Namespace) -> None:
    """The rate of calls while about half of the processors work beside them."""
    ideal, calls = AT_A_TIME / CALL_SECONDS, 80
    shape = Shape(work=0.5 * args.workers / (ideal / calls), calls=calls)
    ratios = []
    for _ in range(args.rounds):
        came = run(args.backend, args.workers, 400, shape, 48)
        ratios.append(per_second(came["wait"]) / ideal)
    print(f"calls, of the ideal rate: {spread(ratios)}")


def main() -> None:
    """Print the three."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backend", choices=["local", "ray"], default="local")
    parser.add_argument("--seconds", type=float, default=0.1, help="of a video in a child")
    parser.add_argument("--videos", type=int, default=300)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["cpu", "wall", "calls"])
    args = parser.parse_args()
    print(f"{args.backend}, {args.seconds:g} s a video, {args.workers} workers")
    for name, show in {"cpu": print_cpu, "wall": print_wall, "calls": print_calls}.items():
        if args.only in (None, name):
            show(args)


if __name__ == "__main__":
    from benchmarks import engine  # children find the steps by the name of their module

    engine.main()
