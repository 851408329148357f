"""Builds to which everything happens: what was lost, what was paid twice, what was left behind?

    python -m benchmarks.faults [--times 5] [--videos 40] [--seed 0] [FAULT ...]

Each fault strikes a build, at random moments after the endpoint has begun to answer, so many times; then the
same command runs to its end. The endpoint notes when each good response was sent, by the exact body of its
request. `paid twice` counts the responses that were asked for again though they had been sent 50 ms before
the fault; `lost` the videos, captions and dialogues that are neither in the dataset nor in its
rejections; `left` the processes that still live ten seconds later; `same`: the shards are an unhurt build's.
"""

import argparse
import asyncio
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from benchmarks.model_builds import (
    KEY,
    ROOT,
    Endpoint,
    build,
    build_command,
    make_videos,
    model_options,
    unaccounted,
)
from tests.llm.bad_server import BadServer

AT_A_TIME = 8
ARRIVAL = 0.05
"""Seconds an answer may lie unread on a busy machine."""
LATE = 1.0
"""Seconds after a fault in which calls of what has died are still answered; no new process calls by then."""

_CLOCK = """
import random, time
_now = time.time
time.time = lambda: _now() + random.choice((-1, 1)) * 3600 * random.random()
time.time_ns = lambda: int(time.time() * 1e9)
"""


class Row(NamedTuple):
    """What a fault did."""

    fault: str
    times: int
    lost: int
    paid_twice: int
    left: int
    same: bool


class Scene:
    """A build to which a fault happens, and the endpoint that keeps accounts."""

    def __init__(self, videos: Path, out: Path, endpoint: Endpoint, url: str, seed: int) -> None:
        self.videos = videos
        self.out = out
        self.endpoint = endpoint
        self.chance = random.Random(seed)
        self.options = (*model_options(url), "--max-in-flight", str(AT_A_TIME), "--workers", "2", "--quiet")
        self.moments: list[float] = []
        """When the fault struck."""
        self.family: set[psutil.Process] = set()

    def start(self, *more: str, **popen: Any) -> psutil.Popen:
        """Start the build."""
        env = os.environ | {"OPENAI_API_KEY": KEY, "PYTHONPATH": str(ROOT)} | popen.pop("env", {})
        command = build_command(self.videos, self.out, *self.options, *more)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return psutil.Popen(command, cwd=ROOT, env=env, **quiet, **popen)

    async def moment(self, process: psutil.Popen) -> bool:
        """Wait for a random moment after the next new answer; False when the build has ended by then."""
        before = len(self.endpoint.paid)
        while len(self.endpoint.paid) == before and process.poll() is None:
            await asyncio.sleep(0.002)
        await asyncio.sleep(self.chance.uniform(0, 0.6))
        if process.poll() is not None:
            return False
        self.family |= {process, *process.children(recursive=True)}
        return True

    def strike(self, act: Callable[[], object]) -> None:
        """Let the fault happen, now."""
        act()
        self.moments.append(time.time())

    async def ended(self, process: psutil.Popen) -> int:
        """Wait for the build and for the endpoint's last answers; the exit status."""
        status = await asyncio.to_thread(process.wait, 300)
        quiet = 0
        while quiet < 20:
            await asyncio.sleep(0.01)
            quiet = 0 if self.endpoint.in_flight else quiet + 1
        return int(status)

    def paid_twice(self) -> int:
        """Answers asked for again though they had arrived: but for those sent about when a fault struck."""
        return sum(
            not any(moment - ARRIVAL < paid.at < moment + LATE for moment in self.moments)
            for paid in self.endpoint.paid_again
        )


def shards(out: Path) -> dict[str, bytes]:
    """The dataset's files."""
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.glob("*/*.parquet"))}


async def driver_ends(scene: Scene, number: int, *more: str) -> int | None:
    """Send the driver a signal; its exit status, None when it had ended before."""
    process = scene.start(*more)
    struck = await scene.moment(process)
    if struck:
        scene.strike(lambda: process.send_signal(number))
    status = await scene.ended(process)
    return status if struck else None


async def killed(scene: Scene, *more: str) -> None:
    """kill -9 of the driver."""
    await driver_ends(scene, signal.SIGKILL, *more)


async def torn(scene: Scene) -> None:
    """kill -9, and the last write to the ledger is torn off."""
    await killed(scene)
    log = scene.out / ".work" / "ledger.sqlite-wal"
    if log.exists() and log.stat().st_size:
        os.truncate(log, scene.chance.randrange(log.stat().st_size))


async def told_to_stop(scene: Scene, number: int, *more: str) -> None:
    """A signal to stop: the exit status is 130."""
    status = await driver_ends(scene, number, *more)
    if status not in (130, None):
        raise RuntimeError(f"exit status {status} after signal {number}")


async def part_killed(scene: Scene, kind: str, *more: str) -> None:
    """kill -9 of one of the processes whose command line holds `kind`; the build goes on."""
    process = scene.start(*more)
    if await scene.moment(process):
        found = [one for one in process.children(recursive=True) if kind in " ".join(one.cmdline())]
        scene.strike(scene.chance.choice(found).kill)
    expect(await scene.ended(process), 0)


async def second_driver(scene: Scene) -> None:
    """A second build into the same folder, which is told and leaves."""
    process = scene.start()
    if await scene.moment(process):
        scene.strike(lambda: expect(scene.start("--backend", "local").wait(60), 2))
    expect(await scene.ended(process), 0)


async def full_disk(scene: Scene) -> None:
    """No file may grow beyond a size that is soon reached: replies under way then cannot be written down."""
    sizes = [path.stat().st_size for path in (scene.out / ".work").glob("ledger.sqlite*")]
    most = max([1 << 16, *sizes]) + scene.chance.randrange(20_000, 60_000)
    process = scene.start(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most)))
    status = await scene.ended(process)
    if status not in (0, 2):
        raise RuntimeError(f"exit status {status} where no file may grow")


async def read_only(scene: Scene) -> None:
    """The output cannot be written at all."""
    place = scene.out.with_name("read-only")
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(place)], check=True)
    try:
        ended = await build(scene.videos, place / "out", *scene.options)
        expect(ended.status, 2)
    finally:
        subprocess.run(["umount", str(place)], check=True)


async def clock(scene: Scene) -> None:
    """In all its processes the clock jumps by up to an hour, back and forth, whenever it is read."""
    place = scene.out.with_name("clock")
    place.mkdir(exist_ok=True)
    (place / "sitecustomize.py").write_text(_CLOCK)
    process = scene.start(env={"PYTHONPATH": f"{place}:{ROOT}"})
    if await scene.moment(process):
        scene.strike(process.kill)
    await scene.ended(process)


async def node_killed(scene: Scene) -> None:
    """kill -9 of one of three Ray nodes; the build goes on."""
    from ray.cluster_utils import Cluster

    os.environ["PYTHONPATH"], os.environ["OPENAI_API_KEY"] = str(ROOT), KEY
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=0) for _ in range(2)]
    try:
        process = scene.start("--ray-address", cluster.address)
        if await scene.moment(process):
            scene.strike(lambda: cluster.remove_node(scene.chance.choice(nodes), allow_graceful=False))
        expect(await scene.ended(process), 0)
    finally:
        cluster.shutdown()


def expect(status: int, wanted: int) -> None:
    """Raises RuntimeError when an exit status is another one."""
    if status != wanted:
        raise RuntimeError(f"exit status {status}, not {wanted}")


Fault = Callable[[Scene], Awaitable[None]]
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


async def try_fault(fault: str, times: int, videos: Path, folder: Path, seed: int = 0) -> Row:
    """Let a fault happen so many times to builds of the videos in a new folder, then let the build end."""
    name, happen = FAULTS[fault]
    endpoint, lost, same, left = Endpoint(seconds=0.25), 0, True, 0
    decoded, fresh = folder / "decoded", folder / "fresh"
    if not fresh.exists():
        async with BadServer(Endpoint().behave) as server:
            await build(videos, decoded, "--quiet")  # The rules' build decodes: what is left are the calls.
            expect((await build(videos, fresh, *model_options(server.url), "--quiet")).status, 0)
    paid_twice = 0
    for number in range(times if fault in ENDS_WHOLE else 1):
        out = folder / f"{fault}-{number}"
        if fault != "child":
            shutil.copytree(decoded, out)
        endpoint = Endpoint(seconds=0.25)
        async with BadServer(endpoint.behave) as server:
            scene = Scene(videos, out, endpoint, server.url, seed + number)
            for _ in range(1 if fault in ENDS_WHOLE else times):
                await happen(scene)
            expect((await build(videos, out, *scene.options)).status, 0)
        _, alive = await asyncio.to_thread(psutil.wait_procs, list(scene.family), 10)
        lost, left = lost + len(unaccounted(videos, out)), left + len(alive)
        paid_twice += scene.paid_twice()
        same = same and shards(out) == shards(fresh)
        shutil.rmtree(out)
    return Row(name, times, lost, paid_twice, left, same)


def is_good(row: Row) -> bool:
    """Nothing lost, left or changed, and nothing paid twice but what a full disk could not take."""
    most = AT_A_TIME * row.times if row.fault == FAULTS["full"][0] else 0
    return row.paid_twice <= most and (row.lost, row.left, row.same) == (0, 0, True)


async def print_table(args: argparse.Namespace, folder: Path) -> bool:
    """Print a row a fault; whether all is as it should be."""
    videos, good = make_videos(folder / "videos", args.videos), True
    print(f"{'fault':<32}{'times':>6}{'lost':>6}{'paid twice':>12}{'left':>6}  same")
    for fault in args.faults or FAULTS:
        row = await try_fault(fault, args.times, videos, folder, args.seed)
        print(
            f"{row.fault:<32}{row.times:>6}{row.lost:>6}{row.paid_twice:>12}{row.left:>6}  {row.same}",
            flush=True,
        )
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
