"""What may happen to a build. See benchmarks.faults."""

import asyncio
import os
import resource
import signal
import subprocess
from collections.abc import Awaitable, Callable
from itertools import chain
from typing import Any

from benchmarks.fault_scene import Scene, expect
from benchmarks.model_builds import ROOT, build
from tests.model_server import KEY

_CLOCK = """
import random, time
_now = time.time
time.time = lambda: _now() + random.choice((-1, 1)) * 3600 * random.random()
time.time_ns = lambda: int(time.time() * 1e9)
"""
_SMALL_SPOOL = "import datagen.spool; datagen.spool._FULL_BYTES = 4000"


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
    return await killed(scene, env=_everywhere(scene, _CLOCK))


async def spool_turns(scene: Scene, *more: str) -> bool:
    """kill -9 while spools are so small that a new file is begun again and again."""
    return await killed(scene, *more, env=_everywhere(scene, _SMALL_SPOOL))


def _everywhere(scene: Scene, code: str) -> dict[str, str]:
    """The environment in which every Python process runs some code first."""
    place = scene.out.with_name("everywhere")
    place.mkdir(exist_ok=True)
    (place / "sitecustomize.py").write_text(code)
    return {"PYTHONPATH": f"{place}:{ROOT}"}


async def retrying(scene: Scene, *more: str) -> bool:
    """kill -9 while what had been refused is tried again."""
    if not scene.noted:
        with scene.endpoint.refusing(0.2):
            await scene.ended(scene.start(), 0, 1)
    return await killed(scene, "--retry-failed", *more)


async def stopped(scene: Scene, *more: str) -> bool:
    """All its processes are stopped for longer than a call may take, and go on."""
    process = scene.start("--set", "calls.call_seconds=3", *more)
    struck = await scene.moment(process)
    if struck:
        family = [process, *process.children(recursive=True)]
        for one in family:
            one.suspend()
        await asyncio.sleep(4)
        for one in family:
            one.resume()
    await scene.ended(process, 0)
    return struck


async def server_killed(scene: Scene, name: str) -> bool:
    """kill -9 of one of Ray's own processes: the build says so and leaves, if it was not about to end."""
    process = scene.start(*RAY)
    struck = await scene.moment(process)
    if struck:
        next(one for one in process.children() if one.name() == name).kill()
        await asyncio.to_thread(process.wait, 30)
    await scene.ended(process, *((0, 2) if struck else (0,)))
    return struck


async def part_killed(scene: Scene, kind: str, *more: str) -> bool:
    """kill -9 of one of the processes whose command line holds `kind`; the build goes on."""
    process = scene.start(*more)
    struck = await scene.moment(process)
    if struck:
        found = [one for one in process.children(recursive=True) if kind in " ".join(one.cmdline())]
        scene.chance.choice(found).kill()
    await scene.ended(process, 0)
    return struck


async def second_driver(scene: Scene, *more: str) -> bool:
    """A second build into the same folder, which is told and leaves."""
    process = scene.start()
    struck = await scene.moment(process)
    if struck:
        process.suspend()  # it shall not end meanwhile
        await scene.expect(scene.start(*more), 2)
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
    "raylet-ray": ("kill -9 of Ray's raylet", lambda scene: server_killed(scene, "raylet")),
    "gcs-ray": ("kill -9 of Ray's GCS server", lambda scene: server_killed(scene, "gcs_server")),
    "second": ("a second driver", second_driver),
    "second-ray": ("a second driver, through Ray", lambda scene: second_driver(scene, *RAY)),
    "stopped": ("SIGSTOP, SIGCONT", stopped),
    "stopped-ray": ("SIGSTOP, SIGCONT, Ray", lambda scene: stopped(scene, *RAY)),
    "turn": ("kill -9 at spool turn-over", spool_turns),
    "turn-ray": ("the same, Ray", lambda scene: spool_turns(scene, *RAY)),
    "retry": ("kill -9 within --retry-failed", retrying),
    "retry-ray": ("the same, Ray", lambda scene: retrying(scene, *RAY)),
    "full": ("no file may grow", full_disk),
    "read-only": ("the output is read-only", read_only),
    "torn": ("kill -9, ledger torn", torn),
    "clock": ("the clock jumps, and kill -9", clock),
}
ENDS_WHOLE = ("child", "runner-ray", "node-ray", "second", "second-ray", "stopped", "stopped-ray")
"""Faults that a build survives: it is begun anew for each."""
