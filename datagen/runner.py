"""Runs the flows of videos: asyncio inside, the CPU's work in killable children.

A Runner is the same object in the driver's process and in a Ray actor. It is handed tasks with what the
ledger already knows of them, appends every new result to its spool before using it, and hands the
results on in batches.
"""

import asyncio
import time
import typing
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from datagen.errors import FAILURES, Crashed, Failure, NoSpace, OverBudget, UsageError
from datagen.ledger import FLOW, Cost, Event, Known, Lost, key_of
from datagen.records import Built, Entry, Rejection
from datagen.sandbox import CANNOT_WRITE, Children
from datagen.spool import Spool

T = TypeVar("T")
_Found = tuple[Known, Cost | None, float]
"""What a step yields, what it cost, and the seconds a child worked on it."""


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
        began = time.monotonic()

        def begin() -> None:
            nonlocal began
            began = time.monotonic()

        async def work() -> _Found:
            try:
                value = await self._children.call(function, args, seconds, begin)
                known = Known(msgspec.Raw(value))
            except Failure as failure:
                known = _lost(failure)
            return known, None, round(time.monotonic() - began, 3)

        return typing.cast(T, await self._remembered(function, (*args, *of), work))

    async def call(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Result of `await function(*args)`, from the ledger or run here: for what waits, not for what works.

        Raises the Failure it ended with, now or in an earlier run.
        """

        async def work() -> _Found:
            try:
                result = await function(*args)
            except Failure as failure:
                return _lost(failure), self._cost_of and self._cost_of(*args, failure), 0.0
            known = Known(msgspec.Raw(msgspec.json.encode(result)))
            return known, self._cost_of and self._cost_of(*args, result), 0.0

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
        known, cost, seconds = await work()
        self._record(Event(key, self._task.item, step, known.value, known.code, cost=cost, seconds=seconds))
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
        self._outcomes, self._wanted = 0, 1
        self._running: set[asyncio.Task[None]] = set()
        self._broken: BaseException | None = None

    def submit(self, task: Task) -> None:
        """Start a task; its outcome comes as the event of the step `flow`."""
        running = asyncio.create_task(self._guard(task))
        self._running.add(running)
        running.add_done_callback(self._running.discard)

    async def take(self, videos: int = 1) -> list[Event]:
        """Results since the last call; waits for the outcomes of so many videos, half a second at most.

        What the last call gave has to be in the ledger by now.

        Raises NoSpace when results can no longer be kept, OverBudget when no more may be spent, UsageError
        when a model cannot be asked at all.
        """
        with _writing():
            self._spool.turn()
        self._wanted = videos
        self._tell()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), 0.5)
        if self._broken is not None:
            raise self._broken
        self._news.clear()
        self._outcomes = 0
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
        except Exception as error:
            self._break(error)

    def _break(self, error: BaseException) -> None:
        """The run cannot go on: `take` says so."""
        self._broken = self._broken or error
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
            if isinstance(error, OSError) and error.errno in CANNOT_WRITE:
                raise NoSpace(str(error)) from error
            return failed(task, step.name, Crashed.__name__, f"{type(error).__name__}: {error}")
        return Event(task.key, task.item, FLOW, msgspec.Raw(msgspec.json.encode(built)), None, built.video.id)

    def _record(self, event: Event) -> None:
        try:
            with _writing():
                self._spool.append(event)
        except NoSpace as error:
            self._break(error)  # at once: the flow may wait for other calls first, which would be lost too
            raise
        self._events.append(event)
        self._outcomes += event.step == FLOW
        self._tell()

    def _tell(self) -> None:
        if self._outcomes >= self._wanted:
            self._news.set()


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NoSpace(str(error)) from error


def failed(task: Task, stage: str, code: str, detail: str) -> Event:
    """The outcome of a video that cannot be used."""
    name = task.entry.id or task.entry.name
    value = msgspec.json.encode(Rejection(stage, name, name, code, detail))
    return Event(task.key, task.item, FLOW, msgspec.Raw(value), code, name)


@cache
def _result_type(function: Callable[..., Any]) -> Any:
    return typing.get_type_hints(function)["return"]
