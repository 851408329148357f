"""Builds to which everything happens: what was lost, what was paid twice, what was left behind?

    python -m benchmarks.faults [--times 5] [--videos 40] [--seed 0] [FAULT ...]

Each fault strikes a build, at random moments after the endpoint has begun to answer, so many times; then the
same command runs to its end. `paid twice` counts the responses that had arrived and were asked for again, by
the exact body of the request. One had arrived when the client's process had read all of it, as the system's
table of connections says, and then either sent another request on the same connection or lived .1 s longer;
or when it is in the ledger or a spool after the fault. `cut off`: those asked for again that had not arrived.
`lost`: the videos, captions and dialogues that are neither in the dataset nor in its rejections; `left`: the
processes that still live ten seconds later; `same`: whether the shards are an unhurt build's.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.fault_kinds import ENDS_WHOLE, FAULTS
from benchmarks.fault_scene import SECONDS, Scene, expect, shards
from benchmarks.model_builds import Endpoint, build, make_videos, model_options, unaccounted
from tests.llm.bad_server import BadServer


class Row(NamedTuple):
    """What faults did."""

    times: int
    lost: int
    cut_off: int
    paid_twice: int
    left: int
    same: bool


async def try_faults(faults: list[str], videos: Path, folder: Path, seed: int = 0) -> Row:
    """Let faults happen, one after the other, to builds of some videos, and let these come to their end."""
    decoded, fresh = folder / "decoded", folder / "fresh"
    if not fresh.exists():
        async with BadServer(Endpoint().behave) as server:
            await build(videos, decoded, "--quiet")  # The rules' build decodes: what is left are the calls.
            shutil.copytree(decoded, fresh)
            expect(await build(videos, fresh, *model_options(server.url), "--quiet"), 0)
    todo, out, lost, again, left, same = list(faults), folder / "out", 0, Counter[bool](), 0, True
    while todo:
        if todo[0] != "child":
            shutil.copytree(decoded, out)
        endpoint = Endpoint(SECONDS)
        async with BadServer(endpoint.behave) as server:
            scene = Scene(videos, out, endpoint, server.url, seed + len(todo))
            while todo and await FAULTS[todo[0]][1](scene):
                if todo.pop(0) in ENDS_WHOLE:
                    break
            await scene.expect(scene.start(), 0)
        _, alive = await asyncio.to_thread(psutil.wait_procs, list(scene.family), 10)
        lost, left = lost + len(unaccounted(videos, out)), left + len(alive)
        again += scene.asked_again()
        same = same and shards(out) == shards(fresh)
        shutil.rmtree(out)
    return Row(len(faults), lost, again[False], again[True], left, same)


def is_good(row: Row) -> bool:
    """Nothing lost, paid twice, left behind or changed."""
    return (row.lost, row.paid_twice, row.left, row.same) == (0, 0, 0, True)


async def print_table(args: argparse.Namespace, folder: Path) -> bool:
    """Print a row a fault; whether all is as it should be."""
    videos, good = make_videos(folder / "videos", args.videos), True
    print(f"{'fault':<32}{'times':>6}{'lost':>6}{'cut off':>9}{'paid twice':>12}{'left':>6}  same")
    for fault in args.faults or FAULTS:
        row = await try_faults([fault] * args.times, videos, folder, args.seed)
        figures = f"{row.times:>6}{row.lost:>6}{row.cut_off:>9}{row.paid_twice:>12}{row.left:>6}  {row.same}"
        print(f"{FAULTS[fault][0]:<32}{figures}", flush=True)
        good = good and is_good(row)
    return good


def main() -> None:
    """Print the table; exit status 1 when something was lost, paid twice, left behind or changed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("faults", metavar="FAULT", nargs="*", help=f"some of: {', '.join(FAULTS)}")
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--videos", type=int, default=40, help="small videos, of about five calls each")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(not asyncio.run(print_table(args, Path(folder))))


if __name__ == "__main__":
    main()
