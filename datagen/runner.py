"""Runs the flows of videos: asyncio inside, the CPU's work in killable children.

A Runner is the same object in the driver's process and in a Ray actor. It is handed tasks with what the
ledger already knows of them, appends every new result to its spool before using it, and hands the
results on in batches.
"""

import asyncio
import typing
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from datagen.errors import FAILURES, Crashed, Failure, NoSpace, OverBudget, UsageError
from datagen.ledger import FLOW, Cost, Event, Known, Lost, Spool, key_of
from datagen.records import Built, Entry, Rejection
from datagen.sandbox import Children

T = TypeVar("T")
_Found = tuple[Known, Cost | None]


class Task(Struct, frozen=True):
    """One video to run through the flow."""

    key: str
    item: str
    entry: Entry
    known: dict[str, Known]


CostOf = Callable[..., Cost]
"""What a call took, from its arguments, and its result or Failure."""


class Step:
    """Memoises the steps of one flow: `await step(function, *arguments)` runs a function once, ever.

    The key of a result covers the function's name and version, its arguments but for Locations, and
    `of`: what the result is of where the arguments do not say so. `name` is the last step begun.
    """

    def __init__(
        self,
        task: Task,
        versions: dict[str, int],
        children: Children,
        record: Callable[[Event], None],
        cost_of: CostOf | None = None,
    ) -> None:
        self._task = task
        self._versions = versions
        self._children = children
        self._record = record
        self._cost_of = cost_of
        self._found: dict[str, asyncio.Future[Known]] = {}
        self.name = FLOW

    async def __call__(
        self, function: Callable[..., T], *args: Any, of: tuple[str, ...] = (), seconds: float
    ) -> T:
        """Result of `function(*args)`, from the ledger or from a child with `seconds` to do it in.

        Raises the Failure it ended with, now or in an earlier run.
        """

        async def work() -> _Found:
            try:
                return Known(msgspec.Raw(await self._children.call(function, args, seconds))), None
            except Failure as failure:
                return _lost(failure), None

        return typing.cast(T, await self._remembered(function, (*args, *of), work))

    async def call(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Result of `await function(*args)`, from the ledger or run here: for what waits, not for what works.

        Raises the Failure it ended with, now or in an earlier run.
        """

        async def work() -> _Found:
            try:
                result = await function(*args)
            except Failure as failure:
                return _lost(failure), self._cost_of and self._cost_of(*args, failure)
            known = Known(msgspec.Raw(msgspec.json.encode(result)))
            return known, self._cost_of and self._cost_of(*args, result)

        return typing.cast(T, await self._remembered(function, args, work))

    def recall(self, function: Callable[..., Any], *args: Any) -> Known | None:
        """What the ledger has of a step; nothing is run."""
        return self._task.known.get(self._key(function, args))

    def _key(self, function: Callable[..., Any], of: tuple[Any, ...]) -> str:
        return key_of(function.__name__, self._versions[function.__name__], of)

    async def _remembered(
        self, function: Callable[..., Any], of: tuple[Any, ...], work: Callable[[], Awaitable[_Found]]
    ) -> Any:
        self.name = function.__name__
        key = self._key(function, of)
        known = self._task.known.get(key)
        if known is None:
            # One and the same step is run once, also when it is asked for again before it has ended.
            if key not in self._found:
                self._found[key] = asyncio.ensure_future(self._run(key, function.__name__, work))
            known = await self._found[key]
        return result_of(known, function)

    async def _run(self, key: str, step: str, work: Callable[[], Awaitable[_Found]]) -> Known:
        known, cost = await work()
        self._record(Event(key, self._task.item, step, known.value, known.code, cost=cost))
        return known


def result_of(known: Known, function: Callable[..., Any]) -> Any:
    """What a step returned. Raises the Failure it ended with."""
    if known.code is not None:
        lost = msgspec.json.decode(known.value, type=Lost)
        raise FAILURES.get(known.code, Crashed)(lost.detail)
    return msgspec.json.decode(known.value, type=_result_type(function))


def _lost(failure: Failure) -> Known:
    lost = Lost(str(failure), msgspec.Raw(msgspec.json.encode(failure.attempts)))
    return Known(msgspec.Raw(msgspec.json.encode(lost)), type(failure).__name__)


Flow = Callable[[Step, Entry], Awaitable[Built]]


class Runner:
    """Runs tasks side by side; `submit` adds one, `take` gives what has been found since the last time."""

    def __init__(
        self,
        flow: Flow,
        versions: dict[str, int],
        spool: Path,
        workers: int,
        memory_mb: int,
        closing: Sequence[Callable[[], Awaitable[None]]] = (),
        cost_of: CostOf | None = None,
    ) -> None:
        self._flow = flow
        self._cost_of = cost_of
        self._closing = closing
        self._versions = versions
        self._spool = Spool(spool)
        self._children = Children(workers, memory_mb)
        self._events: list[Event] = []
        self._news = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        self._broken: BaseException | None = None

    async def submit(self, task: Task) -> None:
        """Start a task; its outcome comes as the event of the step `flow`."""
        running = asyncio.create_task(self._guard(task))
        self._running.add(running)
        running.add_done_callback(self._running.discard)

    async def take(self) -> list[Event]:
        """Results since the last call; waits for the first, half a second at most.

        Raises NoSpace when results can no longer be kept, OverBudget when no more may be spent, UsageError
        when a model cannot be asked at all.
        """
        try:
            await asyncio.wait_for(self._news.wait(), 0.5)
        except TimeoutError:
            return []
        if self._broken is not None:
            raise self._broken
        self._news.clear()
        events, self._events = self._events, []
        return events

    async def close(self) -> list[Event]:
        """Stop what is running and give the last results."""
        for running in self._running:
            running.cancel()
        await self._children.close()
        await asyncio.gather(*self._running, return_exceptions=True)
        for close in self._closing:
            await close()
        self._spool.close()
        return self._events

    async def _guard(self, task: Task) -> None:
        try:
            self._record(await self._outcome(task))
        except Exception as error:  # the run cannot go on: take() says so
            self._broken = error
            self._news.set()

    async def _outcome(self, task: Task) -> Event:
        step = Step(task, self._versions, self._children, self._record, self._cost_of)
        try:
            built = await self._flow(step, task.entry)
        except (NoSpace, OverBudget, UsageError):
            raise
        except Failure as failure:
            return failed(task, step.name, type(failure).__name__, str(failure))
        except Exception as error:
            return failed(task, step.name, Crashed.__name__, f"{type(error).__name__}: {error}")
        return Event(task.key, task.item, FLOW, msgspec.Raw(msgspec.json.encode(built)), None, built.video.id)

    def _record(self, event: Event) -> None:
        try:
            self._spool.append(event)
        except OSError as error:
            raise NoSpace(str(error)) from error
        self._events.append(event)
        self._news.set()


def failed(task: Task, stage: str, code: str, detail: str) -> Event:
    """The outcome of a video that cannot be used."""
    name = task.entry.id or task.entry.name
    value = msgspec.json.encode(Rejection(stage, name, name, code, detail))
    return Event(task.key, task.item, FLOW, msgspec.Raw(value), code, name)


@cache
def _result_type(function: Callable[..., Any]) -> Any:
    return typing.get_type_hints(function)["return"]
