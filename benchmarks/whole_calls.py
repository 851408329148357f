"""Model calls as builds make them: each reply goes to the spool, is checked by its schema, and is kept."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from benchmarks.fast_endpoint import PROMPT
from datagen.ledger import FLOW, Ledger
from datagen.llm.chat import ChatRequest, Message, Text
from datagen.llm.client import Client
from datagen.llm.replies import parse_reply
from datagen.records import Built, Entry, Video, Watched
from datagen.runner import Runner, Step, Task

CALLS_OF_A_VIDEO = 50


def request_for(name: str, number: int) -> ChatRequest:
    """A request that no other call makes."""
    message = Message("user", (Text(f"{PROMPT}Part {number} of {name}."),))
    return ChatRequest(model="tiny", messages=(message,), schema="caption")


async def whole_calls(
    client: Client, folder: Path, videos: int, at_a_time: int, after: Callable[[int], Awaitable[None]]
) -> int:
    """Make CALLS_OF_A_VIDEO calls for each of so many videos; returns how many were made.

    `after` is awaited with the number of videos done, whenever more are.
    """

    async def flow(step: Step, entry: Entry) -> Built:
        for number in range(CALLS_OF_A_VIDEO):
            reply = await step.call(client.ask, request_for(entry.name, number))
            parse_reply(reply.text, "caption")
        video = Video(
            id=entry.name, digest="", name=entry.name, duration=1, fps=1, width=1, height=1, codec=""
        )
        return Built(
            video=video, watched=Watched(duration=1), segments=(), captions=(), dialogues=(), rejected=()
        )

    ledger = Ledger(folder / ".work")
    runner = Runner(flow, {"ask": 1}, folder / "spool" / "0.jsonl", 1, 1024)
    begun = done = calls = 0
    try:
        while done < videos:
            while begun < videos and begun - done < at_a_time:
                name = f"v{begun:06d}"
                entry = Entry(path=name, name=name, size=begun, mtime_ns=0)
                runner.submit(Task(f"flow-{name}", f"item-{name}", entry, {}))
                begun += 1
            events = await runner.take()
            ledger.add(events)
            if failed := [event for event in events if event.code is not None]:
                raise RuntimeError(f"{failed[0].step}: {bytes(failed[0].value)!r}")
            ended = sum(event.step == FLOW for event in events)
            calls += len(events) - ended
            done += ended
            if ended:
                await after(done)
    finally:
        await runner.close()
        ledger.close()
    return calls
