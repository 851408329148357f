"""Hands tasks to runners and keeps what they find: a lane for each runner, all sharing what is to be done."""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from datagen.errors import Crashed
from datagen.ledger import Event, Ledger
from datagen.runner import Task, failed

STRIKES = 3
"""A video whose runner died so often is rejected."""

_IDLE_SECONDS = 0.2
"""Between looks for work, while other lanes may still give some back."""


class RunnerDied(Exception):
    """The process of a runner is gone, and with `node_left` the machine that it ran on."""

    def __init__(self, why: str, node_left: bool) -> None:
        super().__init__(why)
        self.node_left = node_left


class AnyRunner(Protocol):
    """A Runner, here or on another machine. All but the first may raise RunnerDied."""

    def submit(self, task: Task) -> None:
        """See Runner."""

    async def take(self, videos: int) -> list[Event]:
        """See Runner."""

    async def close(self) -> list[Event]:
        """See Runner."""


class Work:
    """What is to be done, and where what has been found goes.

    When a runner dies, any of its open videos may be to blame: each is then tried alone, so that the
    guilty one is found and the others are not rejected with it. When its machine has left, none is.
    """

    def __init__(
        self, tasks: Iterable[Task | None], ledger: Ledger, on_events: Callable[[list[Event]], None]
    ) -> None:
        self.ledger = ledger
        self._tasks = iter(tasks)
        self._on_events = on_events
        self._all_handed_out = False
        self._returned: deque[Task] = deque()
        self._suspects: deque[Task] = deque()
        self._strikes: Counter[str] = Counter()
        self._open: set[str] = set()

    def is_done(self) -> bool:
        """Whether every task has an outcome."""
        return self._all_handed_out and not (self._open or self._returned or self._suspects)

    def next(self, beside: bool) -> Task | None:
        """A task to run alone or, with `beside`, next to others; None: there is none for now."""
        if self._suspects and not beside:
            task: Task | None = self._suspects.popleft()
        elif self._returned:
            task = self._returned.popleft()
        else:
            try:
                task = next(self._tasks)
            except StopIteration:
                self._all_handed_out = True
                return None
        if task is not None:
            self._open.add(task.key)
        return task

    def is_suspect(self, key: str) -> bool:
        """Whether a runner has died over this task."""
        return key in self._strikes

    def keep(self, events: list[Event]) -> None:
        """Put results into the ledger, and then tell of them."""
        if events:
            self.ledger.add(events)
            self._open -= {event.key for event in events}
            self._on_events(events)

    def give_back(self, tasks: Iterable[Task], death: RunnerDied) -> None:
        """Take back the open tasks of a dead runner, whose results are in the ledger already."""
        done = self.ledger.flows()
        for task in tasks:
            self._open.discard(task.key)
            if task.key in done:
                continue
            again = Task(task.key, task.item, task.entry, self.ledger.known(task.item))
            if death.node_left:
                self._returned.append(again)
                continue
            self._strikes[task.key] += 1
            if self._strikes[task.key] < STRIKES:
                self._suspects.append(again)
            else:
                end = f"ended its runner {STRIKES} times: {death}"
                self.keep([failed(task, "flow", Crashed.__name__, end)])


class Lane:
    """One place with one runner at a time."""

    def __init__(self, name: str, start: Callable[[str], Awaitable[AnyRunner]], work: Work) -> None:
        self._name = name
        self._start = start
        self._work = work
        self._all_kept = True
        self._open: dict[str, Task] = {}

    async def run(self, window: int, stop: asyncio.Event) -> None:
        """Keep a runner busy until all is done or its machine has left; start another when it dies."""
        runner: AnyRunner | None = None
        try:
            while not stop.is_set() and not self._work.is_done():
                try:
                    if runner is None:
                        runner = await self._start(self._name)
                    self._fill(runner, window)
                    if self._open:
                        # Each time costs, a long wait too: the others keep the runner busy meanwhile.
                        self._keep(await runner.take(max(1, min(4, len(self._open) // 2))))
                    else:
                        await asyncio.sleep(_IDLE_SECONDS)
                except RunnerDied as death:
                    if runner is not None:
                        await self._close(runner, stop)
                        runner = None
                    self._work.give_back(self._open.values(), death)
                    self._open = {}
                    if death.node_left:
                        return
        finally:
            if runner is not None:
                await self._close(runner, stop)

    def _fill(self, runner: AnyRunner, window: int) -> None:
        while len(self._open) < window and not any(map(self._work.is_suspect, self._open)):
            task = self._work.next(beside=bool(self._open))
            if task is None:
                return
            self._open[task.key] = task
            runner.submit(task)

    def _keep(self, events: list[Event]) -> None:
        try:
            self._work.keep(events)
        except BaseException:
            self._all_kept = False  # the spool alone has them
            raise
        for event in events:
            self._open.pop(event.key, None)

    async def _close(self, runner: AnyRunner, stop: asyncio.Event) -> None:
        try:
            self._keep(await runner.close())
            if self._all_kept:
                self._work.ledger.drop_spool(self._name)
        except RunnerDied:
            await self._take_in_spool(stop)

    async def _take_in_spool(self, stop: asyncio.Event) -> None:
        """Take in what a dead runner left; one on another machine may still write. What is stopped leaves it
        to the next run.
        """
        while True:
            try:
                self._work.ledger.take_in_spool(self._name)
                return
            except BlockingIOError:
                if stop.is_set():
                    return
            await asyncio.sleep(_IDLE_SECONDS)
