"""A build at the scale of the paper: 52,000 videos, a million segments, as many model calls.

    python -m benchmarks.scale [--videos 52000] [--backend auto] [--workers 2]

Videos and models are made up (benchmarks.scale_fakes), all the rest is the real thing: listing, ledger,
runner, children, Ray, checks, export. Each build is killed by SIGKILL at its half, run again to its end, and
then run once more with nothing left to do. A build of 5,000 comes first: what a build needs should not grow
with its videos. Memory is the resident memory of all its processes, looked at four times a second and added
up, so what they share counts more than once.
"""

import argparse
import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import psutil

from benchmarks.scale_fakes import Model, flow
from datagen.errors import Corrupt
from datagen.pipeline_file import load_config
from datagen.records import Entry
from datagen.runner import Step

ROOT = Path(__file__).resolve().parents[1]
SMALL = 5000
_TABLES = ("videos", "segments", "dialogues", "sft", "rl", "rejected")


class Watcher:
    """Memory and CPU of a process and all it has started, while it runs."""

    def __init__(self, pid: int) -> None:
        self.peak_working = self.peak_alone = 0.0
        """MB of all processes while there are several, and while there is one: it plans and ends."""
        self.cpu: dict[int, tuple[str, float]] = {}
        """Kind of each process, and its CPU seconds."""
        self.family: list[psutil.Process] = []
        self._top = psutil.Process(pid)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop watching."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(0.25):
            try:
                self.family = [self._top, *self._top.children(recursive=True)]
            except psutil.NoSuchProcess:
                return
            resident = sum(self._look_at(process) for process in self.family) / 2**20
            if len(self.family) > 1:
                self.peak_working = max(self.peak_working, resident)
            else:
                self.peak_alone = max(self.peak_alone, resident)

    def _look_at(self, process: psutil.Process) -> int:
        try:
            with process.oneshot():
                if process.status() == psutil.STATUS_ZOMBIE:
                    return 0
                times = process.cpu_times()
                kind = "driver" if process == self._top else _kind(process.cmdline())
                self.cpu[process.pid] = kind, times.user + times.system
                return int(process.memory_info().rss)
        except psutil.Error:
            return 0


def _kind(command: list[str]) -> str:
    if "datagen.sandbox" in command:
        return "children"
    return "runner" if "_Host" in "".join(command[:1]) else "Ray"


class Build(NamedTuple):
    """What one build took, killed at its half and run to its end."""

    figures: dict[str, str]
    peak: float


def start(videos: Path, out: Path, options: list[str]) -> subprocess.Popen[str]:
    """Start a build of made-up videos."""
    code = "from benchmarks.scale_fakes import main; main()"
    command = [sys.executable, "-c", code, "--videos", str(videos), "--out", str(out), "--quiet", *options]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)


def videos_done(out: Path) -> int:
    """Videos of which the ledger has the outcome."""
    try:
        ledger = sqlite3.connect(f"file:{out}/.work/ledger.sqlite?mode=ro", uri=True)
        try:
            return int(ledger.execute("SELECT COUNT(*) FROM flows").fetchone()[0])
        finally:
            ledger.close()
    except sqlite3.OperationalError:
        return 0


def measure(count: int, folder: Path, backend: str, workers: int) -> Build:
    """Build `count` videos as told above."""
    videos, out = make_videos(folder / "videos", count), folder / "out"
    options = ["--backend", backend, "--workers", str(workers)]
    first, until_kill, left = killed_at_half(videos, out, options, count)
    frames, began = out / "frames", time.monotonic()
    before = frames.stat().st_mtime_ns
    process = start(videos, out, options)
    second = Watcher(process.pid)
    while frames.stat().st_mtime_ns == before and process.poll() is None:
        time.sleep(0.05)
    resumed = time.monotonic() - began
    said, _ = process.communicate()
    wall = until_kill + time.monotonic() - began
    second.close()
    if process.returncode:
        raise RuntimeError(f"the build ended with status {process.returncode}: {said}")
    working, alone = (max(getattr(w, f"peak_{n}") for w in (first, second)) for n in ("working", "alone"))
    figures = {
        **counts(out),
        "wall, s": f"{wall:.0f}",
        "  of it the export, s": said.splitlines()[0],
        "  a video, ms": f"{1000 * wall / count:.1f}",
        **cpu_figures([first, second], count),
        "peak of all processes, MB": f"{working:.0f}",
        "peak of the driver alone, MB": f"{alone:.0f}",
        "left 10 s after the kill": f"{left} processes",
        "resumed from the half, s": f"{resumed:.1f}",
        **run_again(videos, out, options),
        **sizes(out),
    }
    return Build(figures, max(working, alone))


def killed_at_half(videos: Path, out: Path, options: list[str], count: int) -> tuple[Watcher, float, int]:
    """Build a half. Returns what was seen, seconds until the kill, and processes left 10 s after it."""
    began = time.monotonic()
    process = start(videos, out, options)
    watcher = Watcher(process.pid)
    while videos_done(out) < count // 2 and process.poll() is None:
        time.sleep(0.25)
    process.kill()
    seconds = time.monotonic() - began
    watcher.close()
    process.communicate()
    _, left = psutil.wait_procs(watcher.family, timeout=10)
    for survivor in left:
        survivor.kill()
    return watcher, seconds, len(left)


def make_videos(folder: Path, count: int) -> Path:
    """Files to be listed, no two alike; nobody decodes them."""
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:06d}.mp4").write_bytes(b"%d" % number * 40)
    return folder


def counts(out: Path) -> dict[str, str]:
    """How much has been built."""
    run = json.loads((out / "run.json").read_text())
    rows = {name.partition("/")[0]: 0 for name in run["rows"]}
    for name, number in run["rows"].items():
        rows[name.partition("/")[0]] += number
    calls = {"model calls": f"{run['model_calls']['calls']:,}", "turns": f"{run['turns']:,}"}
    return {name: f"{rows[name]:,}" for name in _TABLES} | calls


def cpu_figures(watchers: list[Watcher], count: int) -> dict[str, str]:
    """CPU by kind of process, and how much of it is not the steps'."""
    spent: dict[str, float] = {}
    for watcher in watchers:
        for kind, seconds in watcher.cpu.values():
            spent[kind] = spent.get(kind, 0.0) + seconds
    total, bare = 1000 * sum(spent.values()) / count, bare_milliseconds()
    beyond = total - bare
    return {
        **{f"CPU of {kind}, ms a video": f"{1000 * spent[kind] / count:.1f}" for kind in sorted(spent)},
        "CPU of the fakes alone, ms a video": f"{bare:.1f}",
        "CPU outside the steps, ms a video": f"{beyond:.1f}",
        "  share of it": f"{beyond / total:.0%}",
        "  share, were the steps to take 2 s": f"{beyond / (beyond + 2000):.1%}",
    }


class Bare:
    """Steps without ledger, spool and children."""

    async def __call__(self, function: Any, *args: Any, of: tuple[str, ...] = (), seconds: float) -> Any:
        """Call a step."""
        return function(*args)

    async def call(self, function: Any, *args: Any) -> Any:
        """Ask a model."""
        return await function(*args)


def bare_milliseconds(videos: int = 200) -> float:
    """CPU that the flow of a video takes with nothing around it."""
    config = load_config("nqna", [])

    async def run(folder: Path) -> None:
        for number in range(videos):
            entry = Entry(path=f"/{number}.mp4", name=f"{number}.mp4", size=1, mtime_ns=1)
            try:
                await flow(cast(Step, Bare()), entry, config, folder, Model())
            except Corrupt:
                continue

    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        asyncio.run(run(Path(folder)))
        return 1000 * (time.process_time() - began) / videos


def run_again(videos: Path, out: Path, options: list[str]) -> dict[str, str]:
    """Run a finished build."""
    began = time.monotonic()
    process = start(videos, out, options)
    said, _ = process.communicate()
    return {"run again, s": f"{time.monotonic() - began:.2f}", "  of it": said.splitlines()[-1]}


def sizes(out: Path) -> dict[str, str]:
    """Ledger and shards on disk."""
    ledger = sum(path.stat().st_size for path in (out / ".work").glob("ledger.sqlite*"))
    found = {"ledger, MB": f"{ledger / 1e6:.0f}"}
    for table in _TABLES:
        shards = [path.stat().st_size / 1e6 for path in sorted((out / table).glob("*.parquet"))]
        found[f"shards of {table}, MB"] = f"{len(shards)} of {min(shards):.1f} to {max(shards):.1f}"
    return found


def lines(builds: dict[int, Build]) -> Iterator[str]:
    """The table."""
    yield f"{'videos listed':<38}" + "".join(f"{count:>30,}" for count in builds)
    for name in next(iter(builds.values())).figures:
        yield f"{name:<38}" + "".join(f"{build.figures.get(name, ''):>30}" for build in builds.values())
    small, large = builds[min(builds)], builds[max(builds)]
    yield f"{'peak, times that of the first':<38}" + f"{large.peak / small.peak:>{30 * len(builds)}.2f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--videos", type=int, default=52_000)
    parser.add_argument("--backend", choices=["auto", "local"], default="auto")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    builds = {}
    for count in sorted({min(SMALL, args.videos), args.videos}):
        with tempfile.TemporaryDirectory() as folder:
            builds[count] = measure(count, Path(folder), args.backend, args.workers)
    print("\n".join(lines(builds)))


if __name__ == "__main__":
    main()
