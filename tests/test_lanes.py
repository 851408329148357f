"""Lanes whose runners die while something still holds their spool."""

import asyncio
from pathlib import Path

import msgspec

from datagen.lanes import Lane, RunnerDied, Work
from datagen.ledger import FLOW, Event, Ledger
from datagen.runner import Task
from datagen.spool import Spool
from tests import flows


class Dying:
    """A runner that Ray calls dead, though its process still writes down what it has found."""

    def __init__(self, path: Path) -> None:
        self.spool = Spool(path)
        self.tasks: list[Task] = []

    def submit(self, task: Task) -> None:
        self.tasks.append(task)

    async def take(self, videos: int = 1) -> list[Event]:
        raise RunnerDied("its raylet was killed", True)

    close = take

    def find(self) -> None:
        for task in self.tasks:
            self.spool.append(Event(task.key, task.item, FLOW, msgspec.Raw(b"null"), None, task.key))


async def run(folder: Path, then) -> dict:
    """What the ledger has after a lane whose runner died; `then(runner, stop)` is what happens meanwhile."""
    ledger, stop = Ledger(folder), asyncio.Event()
    runner = Dying(folder / "spool" / "runner-0.jsonl")

    async def start(name: str) -> Dying:
        return runner

    work = Work(flows.tasks(ledger, 3), ledger, lambda events: None)
    lane = asyncio.create_task(Lane("runner-0", start, work).run(4, stop))
    await asyncio.sleep(0.1)
    then(runner, stop)
    await asyncio.wait_for(lane, 5)
    found = ledger.flows()
    ledger.close()
    return found


def test_what_a_dying_runner_still_writes_is_waited_for(tmp_path):
    def end(runner: Dying, stop: asyncio.Event) -> None:
        runner.find()
        runner.spool.close()

    assert len(asyncio.run(run(tmp_path, end))) == 3
    assert not list((tmp_path / "spool").iterdir())


def test_a_run_that_is_stopped_does_not_wait_and_leaves_it_to_the_next(tmp_path):
    writing = []

    def leave(runner: Dying, stop: asyncio.Event) -> None:
        writing.append(runner)
        stop.set()

    assert asyncio.run(run(tmp_path, leave)) == {}
    writing[0].find()
    writing[0].spool.close()
    ledger = Ledger(tmp_path)
    assert len(ledger.flows()) == 3
    ledger.close()
