"""A small flow for the tests of runner and engine: two steps, of which one may fail or kill its runner."""

import functools
import os
import signal
from pathlib import Path

from datagen.ledger import Ledger, item_of
from datagen.records import Built, Entry, Location, Video, Watched
from datagen.runner import Runner, Step, Task
from tests import steps

VERSIONS = {"double_and_count": 1, "give_up": 1, "misbehave": 1}


def entry(number: int) -> Entry:
    return Entry(path=f"/videos/{number}.mp4", name=f"{number}.mp4", size=number, mtime_ns=1)


async def flow(step: Step, entry: Entry, folder: Path, seconds: float) -> Built:
    number = int(Path(entry.name).stem)
    value = await step(steps.double_and_count, Location(str(folder / "log")), number, seconds, seconds=30)
    if (folder / f"poison-{number}").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    if (folder / "misbehave").exists() and number < 6:
        await step(steps.misbehave, Location(str(folder)), number, seconds=3)
    if number % 10 == 9:
        await step(steps.give_up, f"{number} is no good", seconds=30)
    video = Video(
        id=f"v{number:04d}",
        digest=str(value),
        name=entry.name,
        duration=1,
        fps=1,
        width=1,
        height=1,
        codec="x",
    )
    return Built(
        video=video, watched=Watched(duration=1), segments=(), captions=(), dialogues=(), rejected=()
    )


def make_runner(folder: Path, seconds: float, name: str, of: int) -> Runner:
    """Leaves a line for the runner, and one for the GPUs that it was given."""
    folder.mkdir(parents=True, exist_ok=True)
    for file, line in (("runners", name), ("gpus", f"{os.environ.get('CUDA_VISIBLE_DEVICES')}/{of}")):
        with (folder / file).open("a") as log:
            log.write(f"{line}\n")
    run = functools.partial(flow, folder=folder, seconds=seconds)
    return Runner(run, VERSIONS, folder / "spool" / f"{name}.jsonl", 2, 1024)


def tasks(ledger: Ledger, count: int) -> list[Task]:
    done = ledger.flows()
    entries = [entry(n) for n in range(count)]
    return [
        Task(f"flow-{e.name}", item_of(e), e, ledger.known(item_of(e)))
        for e in entries
        if f"flow-{e.name}" not in done
    ]
