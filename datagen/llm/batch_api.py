"""Batches at an endpoint, as they are noted on disk and carried out.

A batch is created once: what is about to be done is noted before it is done, and where it is not known
whether it was done, the endpoint's list of batches is searched for the batch's mark.

Beside MARK.json, the note, lie MARK.jsonl, the requests until the batch has been created, and MARK.taken, the
requests whose replies have been used.
"""

import asyncio
import contextlib
import os
import re
import tempfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, cast

import msgspec
from msgspec import Struct, structs

from datagen.errors import UsageError
from datagen.llm.batch_endpoint import Batch, BatchEndpoint, BatchError
from datagen.llm.batch_files import BatchLimits, Gathering, Replies, drop_torn, take_lock
from datagen.llm.client_reply import Fault, read_fault
from datagen.llm.transport_http import Response

_ENDED = ("completed", "failed", "expired", "cancelled")
_DOWNLOADS = 3
_LIMITED = re.compile(r"limit|quota|billing", re.I)


class Note(Struct, frozen=True, kw_only=True):
    """One batch. Without a `batch_id` it is an intention."""

    mark: str
    """Its name here; also in the batch's metadata."""
    endpoint: str
    model: str
    ids: tuple[str, ...]
    """Names of its requests, in the order of the lines."""
    file_id: str = ""
    batch_id: str = ""


def write_note(folder: Path, note: Note) -> None:
    """Write a note as one change; it is on the disk when this returns."""
    path = folder / f"{note.mark}.json"
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        file.write(msgspec.json.encode(note))
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def read_note(folder: Path, mark: str) -> Note | None:
    """A note; None where there is none (any more), or none that can be read."""
    try:
        return msgspec.json.decode((folder / f"{mark}.json").read_bytes(), type=Note)
    except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def drop_note(folder: Path, mark: str) -> None:
    """Forget a batch."""
    for ending in (".json", ".jsonl", ".taken"):
        (folder / f"{mark}{ending}").unlink(missing_ok=True)


def add_taken(folder: Path, mark: str, ids: list[str]) -> set[str]:
    """Note that replies have been used; returns all of the batch's that have been, by anyone."""
    if not (folder / f"{mark}.json").exists():
        return set()
    with (folder / f"{mark}.taken").open("ab") as file:
        file.write("".join(f"{name}\n" for name in ids).encode())
    return taken_of(folder, mark)


def taken_of(folder: Path, mark: str) -> set[str]:
    """Requests of a batch whose replies have been used."""
    try:
        return set((folder / f"{mark}.taken").read_text("utf-8", "replace").split())
    except FileNotFoundError:
        return set()


class ApiBatches:
    """Sends files of requests to an endpoint and fetches the replies. `state` outlives the process.

    Any number of processes may share one `state`: each finds the batches of the others there, living or dead.
    """

    def __init__(
        self, url: str, key: str | None, state: Path, limits: BatchLimits, say: Callable[[str], None]
    ) -> None:
        self._endpoint = BatchEndpoint(url, key, limits)
        self.place = self._endpoint.place
        self._state = state
        self._limits = limits
        self._say = say
        self._notes: dict[str, Note] = {}

    async def close(self) -> None:
        """End all connections."""
        await self._endpoint.close()

    def begin(self) -> Gathering:
        """A new file of requests."""
        return Gathering(self._state, "{}.jsonl")

    async def find(self) -> list[tuple[str, tuple[str, ...]]]:
        """Batches in the state that were not known here yet: marks, and requests with replies still to use.

        What a dead process was about to send is dropped, unless it turns out to have been sent.
        """
        found: list[tuple[str, tuple[str, ...]]] = []
        for note in await asyncio.to_thread(self._unknown_notes):
            kept = note if note.batch_id else await self._recover(note.mark)
            if kept is not None:
                self._notes[kept.mark] = kept
                taken = await asyncio.to_thread(taken_of, self._state, kept.mark)
                found.append((kept.mark, tuple(name for name in kept.ids if name not in taken)))
        return found

    async def send(self, gathering: Gathering, model: str) -> None:
        """Create a batch of the requests gathered. Raises Fault and UsageError."""
        mark = gathering.mark
        note = Note(mark=mark, endpoint=self.place.shown, model=model, ids=tuple(gathering.ids))
        self._notes[mark] = note
        with gathering.file:  # it stays locked until then: nobody else takes the batch up meanwhile
            await asyncio.to_thread(gathering.finish)
            await asyncio.to_thread(write_note, self._state, note)
            try:
                file_id = await self._endpoint.upload(f"datagen-{gathering.path.name}", gathering.file)
                note = structs.replace(note, file_id=file_id)
                await asyncio.to_thread(write_note, self._state, note)
                note = await self._note_batch(note, await self._endpoint.create(note.file_id, mark))
            except (Fault, UsageError) as error:
                del self._notes[mark]
                if not note.file_id or isinstance(error, UsageError):
                    drop_note(self._state, mark)
                raise
        count = f"{len(note.ids)} requests" if len(note.ids) > 1 else "1 request"
        self._say(
            f"{self.place.shown}: {count} sent as batch {note.batch_id}; replies may take hours. Interrupted "
            "and started again, the same command goes on waiting."
        )

    async def collect(self, mark: str) -> Replies:
        """The replies to a batch, when it has ended. Raises Fault and UsageError."""
        note = self._notes[mark]
        try:
            batch = await self._wait(note)
            if batch.status.lower() == "failed":
                return await self._turned_away(note, batch)
            replies = await self._fetch(note, batch)
        except Fault as fault:
            if fault.status == 404:  # the endpoint does not have it any more, or it is another's
                await self.forget(mark)
            raise
        replies.ended = batch.status.lower()
        if text := replies.ignored():
            self._say(f"{self.place.shown}: batch {note.batch_id}: lines ignored: {text}")
        return replies

    async def settle(self, mark: str, ids: list[str]) -> bool:
        """Note that replies have been used. True: all of the batch's were, and it is forgotten."""
        note = self._notes.get(mark)
        if note is None:
            return True
        taken = await asyncio.to_thread(add_taken, self._state, mark, ids)
        if not taken.issuperset(note.ids):
            return False
        await self.forget(mark)
        return True

    async def forget(self, mark: str) -> None:
        """Drop a batch from the state, and its files at the endpoint as far as they are known."""
        note = self._notes.pop(mark)
        await asyncio.to_thread(drop_note, self._state, mark)
        await self._endpoint.delete(note.file_id)

    def _unknown_notes(self) -> list[Note]:
        if not self._state.is_dir():
            return []
        drop_torn(self._state.glob("*.jsonl"))
        marks = sorted(path.stem for path in self._state.glob("*.json"))
        notes = [read_note(self._state, mark) for mark in marks if mark not in self._notes]
        return [note for note in notes if note is not None and note.endpoint == self.place.shown]

    async def _recover(self, mark: str) -> Note | None:
        """An intention with its batch, if there is one; None: it was dropped, or is being carried out."""
        lock = take_lock(self._requests(mark))
        with lock or contextlib.nullcontext():
            note = read_note(self._state, mark)
            if lock is None or note is None or note.batch_id:
                return note if note is not None and note.batch_id else None
            if note.file_id:
                # A batch created a moment ago may not be listed yet.
                for pause in (0.0, min(5.0, self._limits.poll_seconds)):
                    await asyncio.sleep(pause)
                    if batch_id := await self._endpoint.find(note.file_id, mark):
                        return await self._note_batch(note, batch_id)
                await self._endpoint.delete(note.file_id)
            drop_note(self._state, mark)
            return None

    async def _note_batch(self, note: Note, batch_id: str) -> Note:
        note = structs.replace(note, batch_id=batch_id)
        await asyncio.to_thread(write_note, self._state, note)
        self._requests(note.mark).unlink(missing_ok=True)
        self._notes[note.mark] = note
        return note

    def _requests(self, mark: str) -> Path:
        return self._state / f"{mark}.jsonl"

    async def _wait(self, note: Note) -> Batch:
        loop = asyncio.get_running_loop()
        until = loop.time() + self._limits.longest_seconds
        pause = self._limits.backoff_seconds
        while True:
            batch = await self._endpoint.retrieve(note.batch_id)
            if batch.status.lower() in _ENDED:
                return batch
            if loop.time() > until:
                raise Fault("unusable", f"batch {note.batch_id} is still {batch.status[:40]}")
            pause = min(2 * pause, self._limits.poll_seconds)
            await asyncio.sleep(pause)

    async def _fetch(self, note: Note, batch: Batch) -> Replies:
        """Replies from the batch's files: of those that went well, and of those that did not."""
        for left in reversed(range(_DOWNLOADS)):
            file = cast(BinaryIO, tempfile.TemporaryFile(dir=self._state))  # noqa: SIM115 - Replies keeps it
            for file_id in (batch.output_file_id, batch.error_file_id):
                if file_id:
                    await self._endpoint.download(file_id, file)
            replies = await asyncio.to_thread(Replies, file, note.ids, self._limits.max_reply_bytes)
            # A line that is no reply may be one that was torn on its way here.
            if not replies.unreadable or not left:
                break
            replies.close()
        return replies

    async def _turned_away(self, note: Note, batch: Batch) -> Replies:
        """What a batch that failed as a whole says of its requests: which of them were at fault."""
        errors = batch.reasons or [BatchError(message="for no reason given")]
        first = msgspec.json.encode({"error": errors[0]})
        limited = _LIMITED.search(errors[0].code or "")
        fault = read_fault(Response(429 if limited else 400, {}, first))
        text = " ".join(f"{errors[0].code or ''}: {errors[0].message or ''}".split())[:300]
        if fault.kind in ("busy", "fatal", "unsupported"):
            await self.forget(note.mark)
            raise Fault(fault.kind, f"batch {note.batch_id} failed: {text}", 0, fault.option)
        replies = Replies(BytesIO(), (), 0)
        replies.ended = f"failed ({text})"
        for error in errors:
            if error.line is not None and 0 < error.line <= len(note.ids):
                replies.blamed[note.ids[error.line - 1]] = f"{error.code}: {error.message}"[:300]
        return replies
