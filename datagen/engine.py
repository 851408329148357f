"""Where runners live: in this process, or on the nodes of a Ray cluster, one each."""

import asyncio
import contextlib
import itertools
import signal
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Literal

from datagen.cluster import Cluster, MakeRunner, Place, RayRunner, cluster_at
from datagen.errors import UsageError
from datagen.lanes import AnyRunner, Lane, RunnerDied, Work
from datagen.ledger import Event, Ledger
from datagen.runner import Task

HANDFUL = 64
"""Up to so many videos run in this process: Ray takes seconds to start."""

_NODES_SECONDS = 2.0
"""Between looks for machines that have joined."""

_STARTS = 3
"""A runner that is killed while it starts is started again, so often in all."""

Backend = Literal["auto", "ray", "local"]


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
        return await _run(work, None, with_gpus, make_runner, window, stop)
    with cluster_at(ray_address) as cluster:
        _stop_on_signals(stop)  # again: Ray puts handlers of its own in place
        return await _run(work, cluster, with_gpus, make_runner, window, stop)


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
    work: Work,
    cluster: Cluster | None,
    with_gpus: bool,
    make_runner: MakeRunner,
    window: int,
    stop: asyncio.Event,
) -> bool:
    """Keep a lane on every place, also on those that come later, until all is done."""
    lanes: dict[Place, asyncio.Task[None]] = {}
    names, numbers = dict[Place, str](), itertools.count()
    stopped = asyncio.create_task(stop.wait())
    try:
        while not stop.is_set() and not work.is_done():
            for place in cluster.places(with_gpus) if cluster else [Place()]:
                if place not in lanes:
                    names[place] = f"runner-{next(numbers)}"
                    lane = Lane(names[place], _starter(cluster, place, make_runner), work)
                    lanes[place] = asyncio.create_task(lane.run(window, stop))
            running = [stopped, *lanes.values()]
            await asyncio.wait(running, timeout=_NODES_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set() or any(lane.done() and lane.exception() for lane in lanes.values()):
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


def _starter(
    cluster: Cluster | None, place: Place, make_runner: MakeRunner
) -> Callable[[str], Awaitable[AnyRunner]]:
    async def start(name: str) -> AnyRunner:
        """Raises UsageError when no runner can be started there, RunnerDied when the machine has left."""
        if cluster is None:
            return make_runner(name, place.of)
        for attempt in range(1, _STARTS + 1):
            runner = RayRunner(cluster, make_runner, name, place)
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
