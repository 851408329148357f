"""Where runners live: in this process, or one Ray actor a node. The only module that imports ray."""

import asyncio
import logging
import os
import signal
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, Protocol

import msgspec

from datagen.errors import Crashed, UsageError
from datagen.ledger import Event, Ledger
from datagen.runner import Runner, Task, failed

HANDFUL = 64
"""Up to so many videos run in this process: Ray takes seconds to start."""

STRIKES = 3
"""A video whose runner died so often is rejected."""

Backend = Literal["auto", "ray", "local"]
MakeRunner = Callable[[str], Runner]
"""Makes the runner with the given name; it must be picklable, Ray sends it to the nodes."""


class AnyRunner(Protocol):
    """A Runner, here or in an actor."""

    async def submit(self, task: Task) -> None:
        """See Runner."""

    async def take(self) -> list[Event]:
        """See Runner."""

    async def close(self) -> list[Event]:
        """See Runner."""


async def run_tasks(
    tasks: Iterable[Task | None],
    count: int,
    make_runner: MakeRunner,
    ledger: Ledger,
    on_events: Callable[[list[Event]], None],
    backend: Backend = "auto",
    ray_address: str | None = None,
    window: int = 4,
) -> bool:
    """Run `count` tasks, `window` at a time on each runner, until all have an outcome; None among them means
    that there is none for now.

    Every result is in the ledger before `on_events` sees it. Returns False when stopped by SIGINT or SIGTERM
    before that. Raises NoSpace when the output is full.
    """
    stop = asyncio.Event()
    _stop_on_signals(stop)
    queue = iter(tasks)
    use_ray = backend == "ray" or ray_address is not None or (backend == "auto" and count > HANDFUL)
    nodes = _start_ray(ray_address) if use_ray else [""]
    _stop_on_signals(stop)  # again: Ray puts handlers of its own in place
    try:
        lanes = [Lane(f"runner-{n}", node, make_runner, ledger, on_events) for n, node in enumerate(nodes)]
        await asyncio.gather(*(lane.work(queue, window, stop) for lane in lanes))
    finally:
        if use_ray:
            _stop_ray()
    return not stop.is_set()


def _stop_on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)


class Lane:
    """One place with one runner at a time.

    When a runner dies, any of its open videos may be to blame: each is then tried alone, so that the
    guilty one is found and the others are not rejected with it.
    """

    def __init__(
        self,
        name: str,
        node: str,
        make_runner: MakeRunner,
        ledger: Ledger,
        on_events: Callable[[list[Event]], None],
    ) -> None:
        self._name = name
        self._node = node
        self._make_runner = make_runner
        self._ledger = ledger
        self._on_events = on_events
        self._open: dict[str, Task] = {}
        self._suspects: deque[Task] = deque()
        self._strikes: Counter[str] = Counter()

    async def work(self, queue: Iterator[Task | None], window: int, stop: asyncio.Event) -> None:
        """Keep a runner busy until the queue is empty; start another when it dies."""
        runner = await self._start()
        try:
            while not stop.is_set():
                try:
                    await self._fill(runner, queue, window)
                    if not self._open:
                        return
                    self._keep(await runner.take())
                except _runner_death() as death:
                    await runner.close()
                    self._bury(str(death).splitlines()[0])
                    runner = await self._start()
        finally:
            self._keep(await runner.close())
            self._ledger.drop_spool(self._name)

    async def _start(self) -> AnyRunner:
        if not self._node:
            return self._make_runner(self._name)
        runner = RayRunner(self._make_runner, self._name, self._node)
        await runner.ready()
        return runner

    async def _fill(self, runner: AnyRunner, queue: Iterator[Task | None], window: int) -> None:
        while self._suspects and not self._open:
            await self._submit(runner, self._suspects.popleft())
        while (
            not self._suspects and len(self._open) < window and not self._open.keys() & self._strikes.keys()
        ):
            task = next(queue, None)
            if task is None:
                return
            await self._submit(runner, task)

    async def _submit(self, runner: AnyRunner, task: Task) -> None:
        self._open[task.key] = task
        await runner.submit(task)

    def _keep(self, events: list[Event]) -> None:
        if events:
            self._ledger.add(events)
            done = {event.key for event in events}
            self._open = {key: task for key, task in self._open.items() if key not in done}
            self._on_events(events)

    def _bury(self, why: str) -> None:
        """A runner died: its spool has what it found, its tasks are done again with that knowledge."""
        self._ledger.take_in_spool(self._name)
        done = self._ledger.flows()
        for task in self._open.values():
            if task.key in done:
                continue
            self._strikes[task.key] += 1
            if self._strikes[task.key] >= STRIKES:
                end = f"ended its runner {STRIKES} times: {why}"
                self._keep([failed(task, "flow", Crashed.__name__, end)])
            else:
                known = self._ledger.known(task.item)
                self._suspects.append(Task(task.key, task.item, task.entry, known))
        self._open = {}


class RayRunner:
    """A Runner in a Ray actor on a given node; tasks and results travel as JSON."""

    def __init__(self, make_runner: MakeRunner, name: str, node: str) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        where = NodeAffinitySchedulingStrategy(node_id=node, soft=True)
        host = ray.remote(_Host).options(num_cpus=0, max_concurrency=1000, scheduling_strategy=where)
        self._host: Any = host.remote(make_runner, name)
        self._node = node

    async def ready(self) -> None:
        """Wait until it runs. Raises UsageError when it cannot."""
        import ray

        try:
            await self._host.ready.remote()
        except ray.exceptions.RayActorError as error:
            raise UsageError(f"--backend ray: a runner cannot start on node {self._node}: {error}") from None

    async def submit(self, task: Task) -> None:
        """See Runner."""
        await self._host.submit.remote(msgspec.json.encode(task))

    async def take(self) -> list[Event]:
        """See Runner."""
        return msgspec.json.decode(await self._host.take.remote(), type=list[Event])

    async def close(self) -> list[Event]:
        """See Runner. The actor ends."""
        import ray

        try:
            return msgspec.json.decode(await self._host.close.remote(), type=list[Event])
        except ray.exceptions.RayActorError:
            return []
        finally:
            ray.kill(self._host)


class _Host:
    """The actor's side of RayRunner."""

    def __init__(self, make_runner: MakeRunner, name: str) -> None:
        self._runner = make_runner(name)

    async def ready(self) -> None:
        """Answered once the actor runs."""

    async def submit(self, task: bytes) -> None:
        await self._runner.submit(msgspec.json.decode(task, type=Task))

    async def take(self) -> bytes:
        return msgspec.json.encode(await self._runner.take())

    async def close(self) -> bytes:
        return msgspec.json.encode(await self._runner.close())


def _start_ray(address: str | None) -> list[str]:
    """Start a cluster on this machine, or join one. Returns the ids of its nodes."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    # Without "local" a stale cluster of another program might be joined.
    own: dict[str, Any] = {"address": "local", "object_store_memory": 256 << 20, "include_dashboard": False}
    try:
        ray.init(
            **({"address": address} if address else own), log_to_driver=False, logging_level=logging.ERROR
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UsageError(f"--ray-address {address}: no cluster answers there: {error}") from None
    return sorted(node["NodeID"] for node in ray.nodes() if node["Alive"])


def _stop_ray() -> None:
    import ray

    ray.shutdown()


def _runner_death() -> tuple[type[BaseException], ...]:
    """What is raised when the process of a runner is gone."""
    if "ray" not in sys.modules:
        return ()
    from ray.exceptions import RayActorError

    return (RayActorError,)
