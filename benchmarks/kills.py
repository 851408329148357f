"""Kills a build by SIGKILL at random moments, again and again, then lets it end: what was paid twice?

    python -m benchmarks.kills [--kills 20] [--videos 100] [--in-flight 8] [--seed 0]

The endpoint notes when each good response was sent, by the exact body of its request. `paid twice` counts the
responses that were asked for again. Only those in flight at a kill may be among them: asked and not yet
answered, or answered less than 5 ms (--arrival) before. The dataset must be that of a build never killed.
"""

import argparse
import asyncio
import os
import random
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.model_builds import KEY, ROOT, Endpoint, build, build_command, make_videos, model_options
from tests.llm.bad_server import BadServer


class Kill(NamedTuple):
    """One kill and what the endpoint knew at that moment."""

    at: float
    answered: int
    in_flight: int
    """Asked and unanswered, or answered so lately that the answer may not have arrived."""


async def next_run(endpoint: Endpoint, number: int) -> None:
    """Let the endpoint end the calls of the build killed before, those it has not even read among them."""
    quiet = 0
    while quiet < 20:
        await asyncio.sleep(0.01)
        quiet = 0 if endpoint.in_flight else quiet + 1
    endpoint.run = number


async def kill_once(endpoint: Endpoint, command: list[str], wait: float, arrival: float) -> Kill | None:
    """Start a build and kill it so long after its first new answer; None: it had ended by then."""
    before = len(endpoint.paid)
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"OPENAI_API_KEY": KEY},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        while len(endpoint.paid) == before and process.poll() is None:
            await asyncio.sleep(0.002)
        await asyncio.sleep(wait)
        if process.poll() is not None:
            return None
        process.kill()
        at = time.time()
        lately = sum(responses[-1].at > at - arrival for responses in endpoint.paid.values())
        return Kill(at, len(endpoint.paid), endpoint.in_flight + lately)


def shards(out: Path) -> dict[str, bytes]:
    """The dataset's files."""
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.glob("*/*.parquet"))}


async def kill_often(args: argparse.Namespace, folder: Path) -> bool:
    """Kill, finish, print the table; whether all is as it should be."""
    videos, out, fresh = make_videos(folder / "videos", args.videos), folder / "out", folder / "fresh"
    chance, endpoint, kills = random.Random(args.seed), Endpoint(seconds=args.seconds), list[Kill]()
    async with BadServer(endpoint.behave) as server:
        options = (*model_options(server.url), "--max-in-flight", str(args.in_flight), "--quiet")
        command = build_command(videos, out, *options)
        await build(videos, out, "--quiet")  # The rules' build decodes: what is left to kill are the calls.
        print(f"{'kill':>4} {'answered':>8} {'in flight':>9}")
        while len(kills) < args.kills:
            await next_run(endpoint, len(kills))
            kill = await kill_once(endpoint, command, chance.uniform(0, args.spread), args.arrival)
            if kill is None:
                break
            kills.append(kill)
            print(f"{len(kills):>4} {kill.answered:>8} {kill.in_flight:>9}", flush=True)
        await next_run(endpoint, len(kills))
        ended = await build(videos, out, *options)
        again, requests = endpoint.paid_again, len(endpoint.paid)
        unhurt = await build(videos, fresh, *options)
    same, allowed = shards(out) == shards(fresh), sum(kill.in_flight for kill in kills)
    # Of the last run, which nobody killed, nothing may be asked again.
    ages = [kills[paid.run].at - paid.at if paid.run < len(kills) else float("inf") for paid in again]
    late = [age for age in ages if age > args.arrival]
    print(f"kills {len(kills)}; requests answered {requests}; exit status {ended.status}")
    print(f"paid twice {len(again)}; in flight at the kills {allowed}")
    print(f"paid twice though answered {1000 * args.arrival:g} ms before the kill: {len(late)}")
    print(f"oldest answer paid twice, ms before the kill: {1000 * max(ages, default=0):.1f}")
    print(f"the dataset is that of a build never killed: {same}")
    return ended.status == unhurt.status == 0 and same and len(again) <= allowed and not late


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--videos", type=int, default=100, help="small videos, of about five calls each")
    parser.add_argument("--in-flight", type=int, default=8, help="calls at a time")
    parser.add_argument("--seconds", type=float, default=0.25, help="the endpoint takes for an answer")
    parser.add_argument("--spread", type=float, default=0.6, help="most seconds from a new answer to a kill")
    parser.add_argument("--arrival", type=float, default=0.005, help="seconds an answer may take to arrive")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        raise SystemExit(not asyncio.run(kill_often(args, Path(folder))))


if __name__ == "__main__":
    main()
