"""Asks by batches: the face of `Client`, but calls are gathered, sent together, and waited for, if need be
by a later process.

A request is known by a hash: whoever asks it again, in this process or another, waits for the batch that it
went into before.
"""

import asyncio
import contextlib
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from msgspec import Struct

from datagen.errors import Failure, Invalid, NoSpace, UsageError
from datagen.llm.batch_api import ApiBatches
from datagen.llm.batch_files import BatchLimits, Gathering, Replies, custom_id, request_line
from datagen.llm.batch_folder import FolderBatches
from datagen.llm.batch_load import Load
from datagen.llm.chat import ChatReply, ChatRequest
from datagen.llm.client_reply import Completion, Fault
from datagen.llm.messages import RequestEncoder
from datagen.llm.tries import Tries

FOLDER_SCHEME = "jsonl:"
_LIMITS = BatchLimits()
_LARGE = 1 << 16
"""Bytes that are written in another thread; for fewer, that takes longer than writing them."""
_LOOK_SECONDS = 1.0
"""Between two looks for batches of other processes."""


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


Carrier = ApiBatches | FolderBatches
"""Where batches go."""


class _Call(Struct):
    """How one call fares."""

    tries: Tries
    seen: list[tuple[Load, str]] = []
    """Batches whose replies it has had, and the names under which it was in them."""
    sent: int = 0
    """Batches that it was put into."""


class BatchClient:
    """Asks one endpoint by batches. Belongs to one event loop; any number of calls may be waiting."""

    def __init__(self, carrier: Carrier, encoder: RequestEncoder, limits: BatchLimits) -> None:
        self._carrier = carrier
        self._encoder = encoder
        self._limits = limits
        self._most_requests = limits.most_requests
        self._open: dict[str, tuple[Load, Gathering]] = {}
        """Batches still being gathered, by model: a batch has but one."""
        self._homes: dict[str, list[Load]] = {}
        """By the name of a request: the batches it is in."""
        self._out: set[asyncio.Task[Any]] = set()
        self._tasks: set[asyncio.Task[Replies | None]] = set()
        self._settled: list[tuple[Load, str]] = []
        self._settling: asyncio.Task[None] | None = None
        self._looked: float | None = None
        self._looking = asyncio.Lock()
        self._adding = asyncio.Lock()
        self._fatal: UsageError | None = None

    async def ask(self, request: ChatRequest) -> ChatReply:
        """See Asks."""
        call = _Call(Tries(request, self._carrier.place))
        try:
            reply = await self._converse(call)
        except Failure as failure:
            failure.attempts = tuple(call.tries.attempts)
            self._settle(call.seen)
            raise
        except UsageError as error:
            self._fatal = error
            raise
        except OSError as error:
            raise NoSpace(f"{error.filename or self._carrier.place.shown}: {error.strerror}") from None
        self._settle(call.seen)
        return reply

    async def close(self) -> None:
        """Stop waiting. What is at the endpoint stays there, for the next process to fetch."""
        tasks = [*self._tasks, *([self._settling] if self._settling else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _, gathering in self._open.values():
            gathering.discard()
        # Whoever closes has kept every reply that was handed over.
        await self._note_settled(self._settled)
        await self._carrier.close()

    async def _converse(self, call: _Call) -> ChatReply:
        loop = asyncio.get_running_loop()
        while self._fatal is None:
            began = loop.time()
            try:
                completion = await self._completion(call)
            except Fault as fault:
                again = call.tries.fail(fault, loop.time() - began)
                if not again or (call.sent >= self._limits.rounds and fault.kind != "unsupported"):
                    return call.tries.give_up()
                continue
            if (reply := call.tries.take(completion, loop.time() - began)) is not None:
                return reply
        raise self._fatal

    async def _completion(self, call: _Call) -> Completion:
        """What one batch, not seen yet, has in answer to a call. Raises Fault."""
        while True:
            name = custom_id(call.tries.request, call.tries.max_tokens, self._carrier.place.unsupported)
            await self._look()
            batch = self._home(name, call) or await self._gather(call, name)
            if batch.replies is None:
                self._start(batch, self._collect(batch))
            replies = await batch.wait()
            if replies is None:  # the endpoint has too much to do: nothing was done or paid
                call.sent -= 1
                continue
            call.seen.append((batch, name))
            return replies.completion(name)

    def _home(self, name: str, call: _Call) -> Load | None:
        """A batch that may hold the answer."""
        return next((batch for batch in self._homes.get(name, ()) if (batch, name) not in call.seen), None)

    async def _look(self) -> None:
        """Learn of batches that other processes have sent, or had sent."""
        loop = asyncio.get_running_loop()
        async with self._looking:
            if self._looked is not None and loop.time() < self._looked + _LOOK_SECONDS:
                return
            for mark, ids in await self._carrier.find():
                batch = Load(mark)
                for name in ids:
                    self._settle_in(batch, name)
            self._looked = loop.time()

    def _settle_in(self, batch: Load, name: str) -> None:
        batch.names.append(name)
        self._homes.setdefault(name, []).append(batch)

    def _move_out(self, batch: Load) -> None:
        """Nobody looks for replies in a batch any more."""
        for name in batch.names:
            if batch in (homes := self._homes.get(name, [])):
                homes.remove(batch)
            if not homes:
                self._homes.pop(name, None)

    async def _gather(self, call: _Call, name: str) -> Load:
        """Put a request into the file that goes out next. One at a time: bodies are large."""
        request = call.tries.request
        async with self._adding:
            if (home := self._home(name, call)) is not None:
                return home
            unsupported = self._carrier.place.unsupported
            body = await self._encoder.encode(request, call.tries.max_tokens, unsupported)
            line = request_line(name, body)
            if len(line) > self._limits.most_bytes:
                raise Invalid(f"request of {request.prompt}: {len(line)} bytes, too many for a batch")
            batch, gathering = await self._batch_with_room(request.model, len(line))
            if len(line) < _LARGE:
                gathering.add(name, line)
            else:
                await asyncio.to_thread(gathering.add, name, line)
            batch.last = asyncio.get_running_loop().time()
            self._settle_in(batch, name)
            call.sent += 1
            return batch

    async def _batch_with_room(self, model: str, size: int) -> tuple[Load, Gathering]:
        if model in self._open:
            batch, gathering = self._open[model]
            full = len(gathering.ids) >= self._most_requests
            if not full and gathering.size + size <= self._limits.most_bytes:
                return batch, gathering
            batch.full.set()
        gathering = await asyncio.to_thread(self._carrier.begin)
        batch = Load(gathering.mark)
        batch.last = asyncio.get_running_loop().time()
        self._open[model] = batch, gathering
        self._start(batch, self._carry(batch, gathering, model))
        return batch, gathering

    def _start(self, batch: Load, work: Coroutine[Any, Any, Replies | None]) -> None:
        task = batch.start(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, batch: Load, gathering: Gathering, model: str) -> Replies | None:
        """Wait until a file is complete, send it, and wait for the replies."""
        loop = asyncio.get_running_loop()
        while (left := batch.last + self._limits.quiet_seconds - loop.time()) > 0 and not batch.full.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(batch.full.wait(), left)
        async with self._adding:
            if self._open.get(model) == (batch, gathering):
                del self._open[model]
        try:
            await self._carrier.send(gathering, model)
        except (Fault, UsageError):
            self._move_out(batch)
            raise
        return await self._collect(batch)

    async def _collect(self, batch: Load) -> Replies | None:
        """The replies to a batch under way; None where the endpoint turned it away for being too much."""
        task = asyncio.current_task()
        assert task is not None
        self._out.add(task)
        try:
            return await self._carrier.collect(batch.mark)
        except Fault as fault:
            self._move_out(batch)
            if fault.kind != "busy":
                raise
        finally:
            self._out.discard(task)
        await self._make_room(len(batch.names))
        return None

    async def _make_room(self, requests: int) -> None:
        """Wait until one of the batches under way has ended; where there is none, send smaller ones."""
        if self._out:
            await asyncio.wait(self._out, return_when=asyncio.FIRST_COMPLETED)
            return
        if requests == 1:
            raise Fault("broken", "the endpoint's limit is below a single request")
        self._most_requests = max(1, requests // 2)
        await asyncio.sleep(self._limits.max_backoff_seconds)

    def _settle(self, seen: list[tuple[Load, str]]) -> None:
        """These replies have been handed over; they are noted as used when they will have been kept."""
        self._settled += seen
        if self._settled and self._settling is None:
            self._settling = asyncio.create_task(self._settle_later())

    async def _settle_later(self) -> None:
        try:
            while self._settled:
                kept = len(self._settled)
                await asyncio.sleep(self._limits.settle_seconds)
                settled, self._settled = self._settled[:kept], self._settled[kept:]
                await self._note_settled(settled)
        finally:
            self._settling = None

    async def _note_settled(self, settled: list[tuple[Load, str]]) -> None:
        names: dict[Load, list[str]] = {}
        for batch, name in settled:
            names.setdefault(batch, []).append(name)
        for batch, used in names.items():
            try:
                forgotten = await self._carrier.settle(batch.mark, used)
            except OSError:
                continue  # only tidying
            if forgotten:
                self._move_out(batch)
                if batch.replies is not None and (replies := batch.replies.result()) is not None:
                    replies.close()


def open_batch_client(
    url: str,
    key: str | None,
    frames: Path,
    state: Path,
    limits: BatchLimits = _LIMITS,
    *,
    file_urls: bool = False,
    say: Callable[[str], None] = _say,
) -> BatchClient:
    """A client for an endpoint with a Batch API, or for a folder where `url` is jsonl:FOLDER.

    `state` must outlive the process; any number of clients, in any number of processes, may share it.
    `say` tells the user what is waited for. Raises UsageError.
    """
    carrier: Carrier
    if url.startswith(FOLDER_SCHEME):
        folder = Path(url.removeprefix(FOLDER_SCHEME))
        carrier = FolderBatches(folder, frames if file_urls else None, limits, say)
    else:
        carrier = ApiBatches(url, key, state, limits, say)
    return BatchClient(carrier, RequestEncoder(frames, file_urls=file_urls), limits)
