"""Stretches of videos made into tables, in this process or, where there are many, in several children.

Stretches are handed back in their order, so that the shards are the same however many work on them.
"""

import asyncio
import shutil
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
import pyarrow as pa

from datagen.errors import Failure
from datagen.export.part import Found, Item, Shared, load_tables, make_part, pack, save_part
from datagen.records import Location
from datagen.sandbox import Children

STRETCH = 256
"""Videos to a stretch."""
_SECONDS = 900.0
"""A stretch takes less than one; a tokenizer may have to be loaded first."""

Stretches = Iterable[tuple[int, list[Item]]]
"""Videos, with the number of the shard they all belong to."""
Take = Callable[[int, dict[str, pa.Table], Found], None]


def make_parts(stretches: Stretches, shared: Shared, work: Path, workers: int, take: Take) -> None:
    """Call `take` for each stretch with its number, tables and what was found, in order, one at a time.

    With more than one worker that many children are at it while this process writes; then `work` is a
    folder for files between the two. A stretch on which a child fails is done here.
    """
    if workers > 1:
        asyncio.run(_in_children(stretches, shared, work, workers, take))
        return
    for shard, items in stretches:
        take(shard, *make_part(items, shared))


async def _in_children(stretches: Stretches, shared: Shared, work: Path, workers: int, take: Take) -> None:
    work.mkdir(parents=True)
    common = Location(str(work / "shared.json"))
    Path(common.path).write_bytes(msgspec.json.encode(shared))
    children = Children(workers, shared.config.limits.memory_mb)

    async def made(number: int, shard: int, items: list[Item]) -> tuple[int, dict[str, pa.Table], Found]:
        folder = Location(str(work / str(number)))
        packed = [item if isinstance(item, bytes) else pack(item) for item in items]
        try:
            reply = await children.call(save_part, (packed, common, folder), _SECONDS)
            return shard, load_tables(folder), msgspec.json.decode(reply, type=Found)
        except Failure:
            return shard, *make_part(items, shared)
        finally:
            shutil.rmtree(folder.path, ignore_errors=True)

    waiting: deque[asyncio.Task[tuple[int, dict[str, pa.Table], Found]]] = deque()
    try:
        for number, (shard, items) in enumerate(stretches):
            waiting.append(asyncio.create_task(made(number, shard, items)))
            if len(waiting) > workers + 1:
                await asyncio.to_thread(take, *await waiting.popleft())
        while waiting:
            await asyncio.to_thread(take, *await waiting.popleft())
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await children.close()
