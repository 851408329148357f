"""Where runners live: in this process, or in Ray actors, one a node. The only module that imports ray."""

import asyncio
import contextlib
import itertools
import logging
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, NamedTuple

import msgspec

from datagen.errors import UsageError
from datagen.guard import MARK, end_guard, new_mark, start_guard
from datagen.lanes import AnyRunner, Lane, RunnerDied, Work
from datagen.ledger import Event, Ledger
from datagen.runner import Runner, Task

HANDFUL = 64
"""Up to so many videos run in this process: Ray takes seconds to start."""

_NODES_SECONDS = 2.0
"""Between looks for machines that have joined."""

_STARTS = 3
"""A runner that is killed while it starts is started again, so often in all."""

Backend = Literal["auto", "ray", "local"]
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


async def run_tasks(
    tasks: Iterable[Task | None],
    count: int,
    make_runner: MakeRunner,
    ledger: Ledger,
    on_events: Callable[[list[Event]], None],
    backend: Backend = "auto",
    ray_address: str | None = None,
    window: int = 4,
    with_gpus: bool = False,
) -> bool:
    """Run `count` tasks, `window` at a time on each runner, until all have an outcome; None among them means
    that there is none for now.

    Every result is in the ledger before `on_events` sees it. `with_gpus` gives each runner in Ray a GPU, as
    many runners as there are. Returns False when stopped by one of `stop_signals` before the end. Raises
    NoSpace when the output is full.
    """
    stop = asyncio.Event()
    _stop_on_signals(stop)
    work = Work(tasks, ledger, on_events)
    if not (backend == "ray" or ray_address is not None or (backend == "auto" and count > HANDFUL)):
        return await _run(work, lambda: [Place()], make_runner, window, stop)
    with _ray(ray_address):
        _stop_on_signals(stop)  # again: Ray puts handlers of its own in place
        return await _run(work, lambda: _places(with_gpus, ray_address is None), make_runner, window, stop)


def _stop_on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in stop_signals():
        loop.add_signal_handler(number, stop.set)


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Within it a signal to stop raises KeyboardInterrupt, the first alone: its end is not cut off."""

    def interrupt(number: int, frame: object) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in stop_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_signals() -> list[signal.Signals]:
    """Signals that stop a run: the end of its terminal too, unless it was begun by nohup."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([] if ignored else [signal.SIGHUP])]


async def _run(
    work: Work, places: Callable[[], list[Place]], make_runner: MakeRunner, window: int, stop: asyncio.Event
) -> bool:
    """Keep a lane on every place, also on those that come later, until all is done."""
    lanes: dict[Place, asyncio.Task[None]] = {}
    names, numbers = dict[Place, str](), itertools.count()
    stopped = asyncio.create_task(stop.wait())
    try:
        while not stop.is_set() and not work.is_done():
            for place in places():
                if place not in lanes:
                    names[place] = f"runner-{next(numbers)}"
                    lane = Lane(names[place], _starter(place, make_runner), work)
                    lanes[place] = asyncio.create_task(lane.run(window, stop))
            running = [stopped, *lanes.values()]
            await asyncio.wait(running, timeout=_NODES_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if any(lane.done() and lane.exception() for lane in lanes.values()):
                break
            for place in [place for place, lane in lanes.items() if lane.done() and not work.is_done()]:
                del lanes[place]
                # Its machine has left. One of its name that ends at once frees what it had taken for its own.
                await make_runner(names[place], 1).close()
                work.ledger.drop_spool(names[place])
        return not stop.is_set()
    finally:
        stop.set()
        ends = await asyncio.gather(*lanes.values(), stopped, return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException):
                raise end


def _starter(place: Place, make_runner: MakeRunner) -> Callable[[str], Any]:
    async def start(name: str) -> AnyRunner:
        """Raises UsageError when no runner can be started there, RunnerDied when the machine has left."""
        if not place.node:
            return make_runner(name, place.of)
        for attempt in range(1, _STARTS + 1):
            runner = RayRunner(make_runner, name, place)
            try:
                await runner.ready()
                return runner
            except RunnerDied as death:
                if death.node_left:
                    raise
                if attempt == _STARTS:
                    cannot = f"--backend ray: a runner cannot start on node {place.node}: {death}"
                    raise UsageError(cannot) from None
        raise AssertionError("unreachable")

    return start


class RayRunner:
    """A Runner in a Ray actor at a given place; tasks and results travel as JSON."""

    def __init__(self, make_runner: MakeRunner, name: str, place: Place) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        where = NodeAffinitySchedulingStrategy(node_id=place.node, soft=False)
        options = {"num_cpus": 0, "num_gpus": place.gpus, "max_concurrency": 1000}
        host = ray.remote(_Host).options(**options, scheduling_strategy=where)
        self._host: Any = host.remote(make_runner, name, place.of)
        self._node = place.node
        self._submitted: list[Task] = []

    async def ready(self) -> None:
        """Wait until it runs."""
        await self._ask(self._host.ready.remote())

    def submit(self, task: Task) -> None:
        """See Runner. It is sent with the next `take`."""
        self._submitted.append(task)

    async def take(self, videos: int) -> list[Event]:
        """See Runner."""
        tasks, self._submitted = self._submitted, []
        found = await self._ask(self._host.take.remote(msgspec.json.encode(tasks), videos))
        return msgspec.json.decode(found, type=list[Event])

    async def close(self) -> list[Event]:
        """See Runner. The actor ends."""
        import ray

        try:
            return msgspec.json.decode(await self._ask(self._host.close.remote()), type=list[Event])
        finally:
            ray.kill(self._host)

    async def _ask(self, answer: Any) -> Any:
        from ray.exceptions import ActorUnschedulableError, RayActorError

        try:
            return await answer
        except (RayActorError, ActorUnschedulableError) as error:
            left = self._node not in {node["NodeID"] for node in _nodes()}
            raise RunnerDied(str(error).splitlines()[0], left) from None


class _Host:
    """The actor's side of RayRunner."""

    def __init__(self, make_runner: MakeRunner, name: str, of: int) -> None:
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
def _ray(address: str | None) -> Iterator[None]:
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
        yield
    finally:
        ray.shutdown()
        end_guard(guard)


def _start_cluster(mark: str) -> None:
    import ray

    # The last two: the mark stays readable where Ray renames a process; Ray's own guard of memory would kill
    # a runner, and its limits are kept by its children.
    own = {MARK: mark, "SPT_NOENV": "1", "RAY_memory_monitor_refresh_ms": "0"}
    before = dict(os.environ)
    os.environ.update(own)
    try:
        # Without "local" a stale cluster of another program might be joined. No processors: else Ray starts
        # a worker for each, which nobody needs.
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


def _join_cluster(address: str) -> None:
    """Raises UsageError when there is none."""
    import ray

    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UsageError(f"--ray-address {address}: no cluster answers there: {error}") from None


def _places(with_gpus: bool, own: bool) -> list[Place]:
    """A runner a node; with GPUs one for each, and none on nodes without, if there are others.

    Raises UsageError when a cluster of our `own` is gone: no node will ever join it.
    """
    nodes = {node["NodeID"]: int(node["Resources"].get("GPU", 0)) for node in _nodes()}
    if own and not nodes:
        raise UsageError(
            "--backend ray: Ray's processes have been killed; run the same command again to go on"
        )
    if not (with_gpus and any(nodes.values())):
        return [Place(node) for node in sorted(nodes)]
    return [Place(node, 1, gpus, number) for node, gpus in sorted(nodes.items()) for number in range(gpus)]


def _nodes() -> list[dict[str, Any]]:
    import ray

    return [node for node in ray.nodes() if node["Alive"]]
