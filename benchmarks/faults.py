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
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from benchmarks.model_builds import (
    NUMBERED,
    ROOT,
    Ended,
    Endpoint,
    build,
    build_command,
    make_videos,
    model_options,
    unaccounted,
)
from tests.llm.bad_server import BadServer
from tests.model_server import KEY

AT_A_TIME = 8
SECONDS = 0.25
"""Of a call."""

_CLOCK = """
import random, time
_now = time.time
time.time = lambda: _now() + random.choice((-1, 1)) * 3600 * random.random()
time.time_ns = lambda: int(time.time() * 1e9)
"""


class Row(NamedTuple):
    """What faults did."""

    times: int
    lost: int
    cut_off: int
    paid_twice: int
    left: int
    same: bool


class Scene:
    """A build to which a fault happens, and the endpoint that keeps accounts."""

    def __init__(self, videos: Path, out: Path, endpoint: Endpoint, url: str, seed: int) -> None:
        self.videos = videos
        self.out = out
        self.said = out.with_suffix(".log")
        self.endpoint = endpoint
        self.chance = random.Random(seed)
        self.options = (*model_options(url), "--max-in-flight", str(AT_A_TIME), "--workers", "2", "--quiet")
        self.noted: set[int] = set()
        """Numbers of the calls that were in the ledger or a spool after a fault."""
        self.family: set[psutil.Process] = set()

    def start(self, *more: str, **popen: Any) -> psutil.Popen:
        """Start the build."""
        env = os.environ | {"OPENAI_API_KEY": KEY, "PYTHONPATH": str(ROOT)} | popen.pop("env", {})
        command = build_command(self.videos, self.out, *self.options, *more)
        with self.said.open("ab") as said:
            return psutil.Popen(command, cwd=ROOT, env=env, stdout=said, stderr=said, **popen)

    async def moment(self, process: psutil.Popen) -> bool:
        """Wait for a random moment after the next new answer; False when the build has ended by then."""
        before = len(self.endpoint.paid)
        while len(self.endpoint.paid) == before and process.poll() is None:
            await asyncio.sleep(0.002)
        await asyncio.sleep(self.chance.uniform(0, 1.2 * SECONDS))
        if process.poll() is not None:
            return False
        self.family |= {process, *process.children(recursive=True)}
        return True

    async def expect(self, process: psutil.Popen, wanted: int) -> None:
        """Wait for a build. Raises RuntimeError when it has another exit status."""
        status = await asyncio.to_thread(process.wait, 300)
        if status != wanted:
            raise RuntimeError(f"exit status {status}, not {wanted}: {self.said.read_text()[-2000:]}")

    async def ended(self, process: psutil.Popen, wanted: int) -> None:
        """Wait for a build and for the endpoint's last answers, and see what has been noted."""
        await self.expect(process, wanted)
        quiet = 0
        while quiet < 20:
            await asyncio.sleep(0.01)
            quiet = 0 if self.endpoint.in_flight else quiet + 1
        self.noted |= noted(self.out / ".work")

    def asked_again(self) -> Counter[bool]:
        """Answers that were asked for again: how many of them had arrived, and how many had not."""
        return Counter(paid.arrived or paid.number in self.noted for paid in self.endpoint.paid_again)


def noted(work: Path) -> set[int]:
    """Numbers of the calls whose results are in the ledger or a spool; neither is changed by looking."""
    tokens = [
        event["cost"]["prompt_tokens"]
        for spool in work.glob("spool/*.jsonl")
        for event in whole_lines(spool)
        if event.get("cost")
    ]
    with tempfile.TemporaryDirectory() as place:
        for path in work.glob("ledger.sqlite*"):
            shutil.copy(path, place)
        with contextlib.closing(sqlite3.connect(Path(place) / "ledger.sqlite")) as database:
            tokens += [found for (found,) in database.execute("SELECT prompt_tokens FROM calls")]
    return {found - NUMBERED for found in tokens}


def whole_lines(spool: Path) -> Iterator[dict[str, Any]]:
    """Its events, but for one that was torn."""
    for line in spool.read_bytes().splitlines():
        with contextlib.suppress(ValueError):
            yield json.loads(line)


def shards(out: Path) -> dict[str, bytes]:
    """The dataset's files."""
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.glob("*/*.parquet"))}


async def driver_ends(scene: Scene, number: int, status: int, *more: str, **popen: Any) -> bool:
    """Send the driver a signal, of which it has to end with that exit status."""
    process = scene.start(*more, **popen)
    struck = await scene.moment(process)
    if struck:
        process.send_signal(number)
    await scene.ended(process, status if struck else 0)
    return struck


async def killed(scene: Scene, *more: str, **popen: Any) -> bool:
    """kill -9 of the driver."""
    return await driver_ends(scene, signal.SIGKILL, -signal.SIGKILL, *more, **popen)


async def told_to_stop(scene: Scene, number: int, *more: str) -> bool:
    """A signal to stop: the exit status is 130."""
    return await driver_ends(scene, number, 130, *more)


async def torn(scene: Scene) -> bool:
    """kill -9, and the last write to the ledger is torn off."""
    struck = await killed(scene)
    log = scene.out / ".work" / "ledger.sqlite-wal"
    if struck and log.stat().st_size:
        os.truncate(log, scene.chance.randrange(log.stat().st_size))
    return struck


async def clock(scene: Scene) -> bool:
    """In all its processes the clock jumps by up to an hour, back and forth, whenever it is read; a kill."""
    place = scene.out.with_name("clock")
    place.mkdir(exist_ok=True)
    (place / "sitecustomize.py").write_text(_CLOCK)
    return await killed(scene, env={"PYTHONPATH": f"{place}:{ROOT}"})


async def part_killed(scene: Scene, kind: str, *more: str) -> bool:
    """kill -9 of one of the processes whose command line holds `kind`; the build goes on."""
    process = scene.start(*more)
    struck = await scene.moment(process)
    if struck:
        found = [one for one in process.children(recursive=True) if kind in " ".join(one.cmdline())]
        scene.chance.choice(found).kill()
    await scene.ended(process, 0)
    return struck


async def second_driver(scene: Scene) -> bool:
    """A second build into the same folder, which is told and leaves."""
    process = scene.start()
    struck = await scene.moment(process)
    if struck:
        process.suspend()  # it shall not end meanwhile
        await scene.expect(scene.start("--backend", "local"), 2)
        process.resume()
    await scene.ended(process, 0)
    return struck


async def full_disk(scene: Scene) -> bool:
    """No file may grow beyond a size that is soon reached. Replies under way then cannot be written down:
    they are not counted as arrived.
    """
    sizes = [path.stat().st_size for path in (scene.out / ".work").glob("ledger.sqlite*")]
    most = max([1 << 16, *sizes]) + scene.chance.randrange(20_000, 60_000)
    process = scene.start(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most)))
    struck = bool(await asyncio.to_thread(process.wait, 300))
    await scene.ended(process, 2 if struck else 0)
    for paid in chain.from_iterable(scene.endpoint.paid.values()):
        paid.arrived = paid.number in scene.noted
    return struck


async def read_only(scene: Scene) -> bool:
    """The output cannot be written at all."""
    place = scene.out.with_name("read-only")
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(place)], check=True)
    try:
        expect(await build(scene.videos, place / "out", *scene.options), 2)
    finally:
        subprocess.run(["umount", str(place)], check=True)
    return True


async def node_killed(scene: Scene) -> bool:
    """kill -9 of one of three Ray nodes; the build goes on."""
    from ray.cluster_utils import Cluster

    os.environ["PYTHONPATH"], os.environ["OPENAI_API_KEY"] = str(ROOT), KEY
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=0) for _ in range(2)]
    try:
        process = scene.start("--ray-address", cluster.address)
        struck = await scene.moment(process)
        if struck:
            cluster.remove_node(scene.chance.choice(nodes), allow_graceful=False)
        await scene.ended(process, 0)
    finally:
        cluster.shutdown()
    return struck


def expect(ended: Ended, wanted: int) -> None:
    """Raises RuntimeError when a build has another exit status."""
    if ended.status != wanted:
        raise RuntimeError(f"exit status {ended.status}, not {wanted}: {ended.said[-2000:]}")


Fault = Callable[[Scene], Awaitable[bool]]
"""Returns whether it struck: the build may have come to its end before."""

RAY = ("--backend", "ray")
FAULTS: dict[str, tuple[str, Fault]] = {
    "driver": ("kill -9 of the driver", killed),
    "driver-ray": ("kill -9 of the driver, Ray", lambda scene: killed(scene, *RAY)),
    "sigint": ("SIGINT", lambda scene: told_to_stop(scene, signal.SIGINT)),
    "sigterm": ("SIGTERM", lambda scene: told_to_stop(scene, signal.SIGTERM)),
    "sigterm-ray": ("SIGTERM, Ray", lambda scene: told_to_stop(scene, signal.SIGTERM, *RAY)),
    "child": ("kill -9 of a child", lambda scene: part_killed(scene, "datagen.sandbox")),
    "runner-ray": ("kill -9 of a runner, Ray", lambda scene: part_killed(scene, "_Host", *RAY)),
    "node-ray": ("kill -9 of a Ray node of three", node_killed),
    "second": ("a second driver", second_driver),
    "full": ("no file may grow", full_disk),
    "read-only": ("the output is read-only", read_only),
    "torn": ("kill -9, ledger torn", torn),
    "clock": ("the clock jumps, and kill -9", clock),
}
ENDS_WHOLE = ("child", "runner-ray", "node-ray", "second")
"""Faults that a build survives: it is begun anew for each."""


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
