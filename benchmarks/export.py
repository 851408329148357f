"""The export next to pyarrow writing the same arrays.

    python -m benchmarks.export [--videos 5000] [--turns 90] [--workers 1 2]

Exports made-up videos (benchmarks.scale_fakes) with one dialogue each of about so many turns, read as the
ledger keeps them. Then pyarrow alone writes the tables of that export, held in memory as Arrow, with the same
schema, compression and row groups. Each is a process of its own, in turn and three times; the median counts.
Imports are left out, but for those of the children. Memory is the peak of the process and its children, added
up.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pyarrow.parquet as pq

from benchmarks.scale import Bare, Watcher
from benchmarks.scale_fakes import Model, flow
from datagen.config import Config
from datagen.errors import Corrupt
from datagen.export.export import export
from datagen.export.part import unpack
from datagen.export.shards import open_shard
from datagen.pipeline_file import load_config
from datagen.records import Built, Entry
from datagen.runner import Step

ROOT = Path(__file__).resolve().parents[1]
DIFFERENT = 1000
"""Different videos; further ones are these under other ids."""
ROUNDS = 3
SECONDS = 150.0
"""Mean length of the videos of scale_fakes."""


def settings(turns: int) -> Config:
    """A turn is as long as gives about so many turns."""
    return load_config("nqna", [f"frames.interval={SECONDS / turns}", "export.frames_per_turn=1"])


def make_videos(count: int, turns: int, folder: Path) -> None:
    """One line a video, as the ledger keeps it, in the order of their ids."""
    made = asyncio.run(_builts(min(count, DIFFERENT), settings(turns), folder))
    with (folder / "videos").open("wb") as file:
        for number in range(count):
            video, text = made[number % len(made)]
            packed = zlib.compress(text.replace(video.encode(), b"v%016x" % number), 1)
            file.write(len(packed).to_bytes(4) + packed)


async def _builts(count: int, config: Config, folder: Path) -> list[tuple[str, bytes]]:
    made: list[tuple[str, bytes]] = []
    number = 0
    while len(made) < count:
        number += 1
        entry = Entry(path=f"/{number}.mp4", name=f"{number}.mp4", size=1, mtime_ns=1)
        try:
            built = await flow(cast(Step, Bare()), entry, config, folder / "frames", Model())
        except Corrupt:
            continue
        made.append((built.video.id, msgspec.json.encode(built)))
    return made


def read_videos(folder: Path) -> Iterator[bytes]:
    """What make_videos() wrote."""
    with (folder / "videos").open("rb") as file:
        while head := file.read(4):
            yield file.read(int.from_bytes(head))


def run_export(folder: Path, turns: int, workers: int) -> dict[str, Any]:
    """Export all videos; in a process of its own."""
    out = folder / f"out{workers}"
    unpack(next(read_videos(folder)), Built)
    began = time.monotonic(), cpu_seconds()
    report = export(lambda: read_videos(folder), [], out, settings(turns), workers)
    return {**since(began), "turns": report["turns"]}


def cpu_seconds() -> float:
    """CPU of this process, and of its children that have ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def since(began: tuple[float, float]) -> dict[str, float]:
    """Wall and CPU seconds since then."""
    return {"seconds": time.monotonic() - began[0], "cpu": cpu_seconds() - began[1]}


def run_pyarrow(folder: Path) -> dict[str, Any]:
    """Write the tables of an export again; in a process of its own."""
    paths = sorted((folder / "out1").glob("*/*.parquet"))
    tables = {path: pq.read_table(path, partitioning=None).combine_chunks() for path in paths}
    began = time.monotonic(), cpu_seconds()
    for path, table in tables.items():
        copy = folder / "copy" / path.relative_to(folder / "out1")
        copy.parent.mkdir(parents=True, exist_ok=True)
        with open_shard(copy, table.schema) as file:
            file.write_table(table, row_group_size=settings(1).export.row_group_size)
    spent = since(began)
    same = all(table.equals(pq.read_table(path, partitioning=None)) for path, table in tables.items())
    return {**spent, "same": same, "arrow": sum(table.nbytes for table in tables.values())}


def measured(folder: Path, *args: object) -> dict[str, Any]:
    """Run one of these in a process, and look at its memory."""
    command = [sys.executable, "-m", "benchmarks.export", "--folder", str(folder), *map(str, args)]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=-1)
    watcher = Watcher(process.pid)
    said, _ = process.communicate()
    watcher.close()
    if process.returncode:
        raise RuntimeError(f"{command} ended with status {process.returncode}")
    peak = max(watcher.peak_working, watcher.peak_alone)
    return {**json.loads(said.splitlines()[-1]), "peak": peak}


def compare(count: int, turns: int, workers: list[int]) -> Iterator[str]:
    """Lines of a table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "frames").mkdir()
        make_videos(count, turns, folder)
        runs: dict[str, Callable[[], dict[str, Any]]] = {
            f"export, {number} worker{'s' * (number > 1)}": lambda number=number: measured(
                folder, "--turns", turns, "--workers", number
            )
            for number in sorted({1, *workers})
        }
        runs["pyarrow alone"] = lambda: measured(folder, "--pyarrow")
        found = [{name: run() for name, run in runs.items()} for _ in range(ROUNDS)]
        shards = {
            table: sum(path.stat().st_size for path in (folder / "out1" / table).glob("*.parquet"))
            for table in ("videos", "segments", "dialogues", "sft", "rl")
        }
    first = found[0]
    given = first["export, 1 worker"]["turns"]
    if not all(round_["pyarrow alone"]["same"] for round_ in found):
        raise RuntimeError("pyarrow wrote other tables")
    yield f"{count:,} dialogues of {given / count:.0f} turns, {first['pyarrow alone']['arrow'] / 1e6:.0f} MB"
    sizes = ", ".join(f"{table} {size / count:.0f}" for table, size in shards.items())
    yield f"shards {sum(shards.values()) / 1e6:.1f} MB; bytes a video: {sizes}"
    for name in runs:
        wall, cpu = (_median(found, name, what) for what in ("seconds", "cpu"))
        peak = max(one[name]["peak"] for one in found)
        yield f"{name:<20}{wall}{cpu}   peak {peak:.0f} MB"


def _median(found: list[dict[str, dict[str, Any]]], name: str, what: str) -> str:
    seconds = statistics.median(one[name][what] for one in found)
    times = statistics.median(one[name][what] / one["pyarrow alone"][what] for one in found)
    return f"   {'wall' if what == 'seconds' else 'CPU'} {seconds:>6.1f} s, {times:>5.1f} times pyarrow"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--videos", type=int, default=5000)
    parser.add_argument("--turns", type=int, default=90)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--pyarrow", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.pyarrow:
        print(json.dumps(run_pyarrow(args.folder)))
    elif args.folder:
        print(json.dumps(run_export(args.folder, args.turns, *args.workers)))
    else:
        print("\n".join(compare(args.videos, args.turns, args.workers)))


if __name__ == "__main__":
    main()
