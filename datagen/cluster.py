"""Runners on the nodes of a Ray cluster. The only module that imports ray."""

import asyncio
import contextlib
import logging
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec

from datagen.errors import UsageError
from datagen.guard import MARK, end_guard, new_mark, start_guard
from datagen.lanes import RunnerDied
from datagen.ledger import Event
from datagen.runner import Runner, Task
from datagen.sandbox import die_with

_LOOK_SECONDS = 1.0
"""Between looks whether a cluster is still there, while it does not answer: twice what a `take` waits."""

_ANSWER_SECONDS = 10.0
"""Within which a cluster to be joined takes a connection."""

_SERVERS = ("raylet", "gcs_server")
"""Ray's processes without which nothing goes on."""

MakeRunner = Callable[[str, int], Runner]
"""Makes the runner with the given name, one of so many on its machine; it must be picklable, Ray sends it."""


class Place(NamedTuple):
    """Where one runner can live."""

    node: str = ""
    """Id of a Ray node; empty: this process."""
    gpus: int = 0
    """GPUs that the runner gets."""
    of: int = 1
    """Runners on the same machine ..."""
    number: int = 0
    """... and which of them it is."""


class Cluster:
    """A Ray cluster: one that was there, or one of this run's own, which ends with it.

    Without its servers Ray neither answers nor says so, and may even end this process. So those of an own
    cluster are watched here, and when one has died Ray is not called again.
    """

    def __init__(self, own: bool, guard: subprocess.Popen[bytes]) -> None:
        self._guard = guard
        self._servers = _servers() if own else []
        self._own = own
        self._found: list[dict[str, Any]] = []
        self._fallen = False

    def has_fallen(self) -> bool:
        """Whether a server of the own cluster has died. Then all of it is killed: no runner writes on."""
        if not self._fallen and any(server.poll() is not None for server in self._servers):
            self._fallen = True
            end_guard(self._guard)
        return self._fallen

    def places(self, with_gpus: bool) -> list[Place]:
        """A runner a node; with GPUs one for each, and none on nodes without, if there are others.

        Raises UsageError when the own cluster has fallen: no node will ever join it.
        """
        if self.has_fallen():
            raise UsageError(
                "--backend ray: Ray's processes have been killed; run the same command again to go on"
            )
        nodes = {node["NodeID"]: int(node["Resources"].get("GPU", 0)) for node in self._nodes()}
        if not (with_gpus and any(nodes.values())):
            return [Place(node) for node in sorted(nodes)]
        return [
            Place(node, 1, gpus, number) for node, gpus in sorted(nodes.items()) for number in range(gpus)
        ]

    def has_left(self, node: str) -> bool:
        """Whether a node is no longer there."""
        return self.has_fallen() or node not in {each["NodeID"] for each in self._nodes()}

    def _nodes(self) -> list[dict[str, Any]]:
        """Those that are there; of an own cluster it is always the same one."""
        import ray

        if not (self._own and self._found):
            self._found = [node for node in ray.nodes() if node["Alive"]]
        return self._found


class RayRunner:
    """A Runner in a Ray actor at a given place; tasks and results travel as JSON."""

    def __init__(self, cluster: Cluster, make_runner: MakeRunner, name: str, place: Place) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        where = NodeAffinitySchedulingStrategy(node_id=place.node, soft=False)
        options = {"num_cpus": 0, "num_gpus": place.gpus, "max_concurrency": 1000}
        host = ray.remote(_Host).options(**options, scheduling_strategy=where)
        self._host: Any = host.remote(make_runner, name, place.of)
        self._cluster = cluster
        self._node = place.node
        self._submitted: list[Task] = []

    async def ready(self) -> None:
        """Wait until it runs."""
        await self._ask("ready")

    def submit(self, task: Task) -> None:
        """See Runner. It is sent with the next `take`."""
        self._submitted.append(task)

    async def take(self, videos: int) -> list[Event]:
        """See Runner."""
        tasks, self._submitted = self._submitted, []
        found = await self._ask("take", msgspec.json.encode(tasks), videos)
        return msgspec.json.decode(found, type=list[Event])

    async def close(self) -> list[Event]:
        """See Runner. The actor ends."""
        import ray

        try:
            return msgspec.json.decode(await self._ask("close"), type=list[Event])
        finally:
            if not self._cluster.has_fallen():
                ray.kill(self._host)

    async def _ask(self, method: str, *args: Any) -> Any:
        from ray.exceptions import ActorUnschedulableError, RayActorError

        if self._cluster.has_fallen():
            raise RunnerDied("Ray's processes have been killed", True)
        answer = asyncio.ensure_future(getattr(self._host, method).remote(*args))
        try:
            while not answer.done():
                await asyncio.wait([answer], timeout=_LOOK_SECONDS)
                if self._cluster.has_fallen():
                    raise RunnerDied("Ray's processes have been killed", True)
            return answer.result()
        except (RayActorError, ActorUnschedulableError) as error:
            raise RunnerDied(str(error).splitlines()[0], self._cluster.has_left(self._node)) from None
        finally:
            answer.cancel()


class _Host:
    """The actor's side of RayRunner."""

    def __init__(self, make_runner: MakeRunner, name: str, of: int) -> None:
        # Ray's own watch does not see that a raylet has died whose parent has not waited for it.
        die_with(os.getppid())
        self._runner = make_runner(name, of)

    async def ready(self) -> None:
        """Answered once the actor runs."""

    async def take(self, tasks: bytes, videos: int) -> bytes:
        for task in msgspec.json.decode(tasks, type=list[Task]):
            self._runner.submit(task)
        return msgspec.json.encode(await self._runner.take(videos))

    async def close(self) -> bytes:
        return msgspec.json.encode(await self._runner.close())


@contextlib.contextmanager
def cluster_at(address: str | None) -> Iterator[Cluster]:
    """Join a cluster or, without an address, have one on this machine; nothing of it is left afterwards."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    mark = new_mark()
    guard = start_guard(mark)
    try:
        if address is None:
            _start_cluster(mark)
        else:
            _join_cluster(address)
        yield Cluster(address is None, guard)
    finally:
        ray.shutdown()
        end_guard(guard)


def _start_cluster(mark: str) -> None:
    import ray

    # The mark stays readable where Ray renames a process; Ray's own guard of memory would kill a runner, and
    # its limits are kept by its children; nobody reads what it reports of each call; at the niceness of 15
    # that it gives, a runner on a busy machine comes too late to write down what it has read.
    own = {
        MARK: mark,
        "SPT_NOENV": "1",
        "RAY_memory_monitor_refresh_ms": "0",
        "RAY_task_events_report_interval_ms": "0",
        "RAY_worker_niceness": "0",
    }
    before = dict(os.environ)
    os.environ.update(own)
    try:
        # Without "local" a stale cluster of another program might be joined. No processors: else Ray starts
        # a worker for each, which nobody needs.
        with _leaner():
            ray.init(
                address="local",
                num_cpus=0,
                object_store_memory=256 << 20,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    finally:
        for name in own:
            os.environ.pop(name)
            if name in before:
                os.environ[name] = before[name]


@contextlib.contextmanager
def _leaner() -> Iterator[None]:
    """Within it Ray starts no reader of logs that nobody reads, no scaler of a cluster of one machine, and
    nothing that prints Ray's errors among our output. It has no options for that; where a method is not
    found, it starts what it likes.
    """
    from ray._private import node, worker

    unused = [
        (node.Node, "start_log_monitor"),
        (node.Node, "start_monitor"),
        (worker, "listen_error_messages"),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name in unused if hasattr(owner, name)]
    for owner, name, _ in before:
        setattr(owner, name, lambda *args, **kwargs: None)
    try:
        yield
    finally:
        for owner, name, method in before:
            setattr(owner, name, method)


def _servers() -> list[subprocess.Popen[bytes]]:
    """The processes of the own cluster that must live."""
    from ray._private import worker

    started = getattr(worker._global_node, "all_processes", {})
    return [found.process for kind in _SERVERS for found in started.get(kind, [])]


def _join_cluster(address: str) -> None:
    """Raises UsageError when there is none."""
    import ray

    host, _, port = address.rpartition(":")
    try:
        if host and port.isdecimal() and "/" not in host:
            # Ray itself would go on trying for minutes.
            socket.create_connection((host.strip("[]"), int(port)), _ANSWER_SECONDS).close()
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, OverflowError, RuntimeError, ValueError) as error:
        raise UsageError(f"--ray-address {address}: no cluster answers there: {error}") from None
