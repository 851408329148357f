"""Batches in a folder, for `vllm run-batch` on whatever machine has the processors for it.

There is no state but the folder: requests-MARK.jsonl is a batch, replies-MARK.jsonl ends it.
"""

import asyncio
import shlex
from collections.abc import Callable
from pathlib import Path

from datagen.errors import UsageError
from datagen.llm.batch_files import BatchLimits, Gathering, Replies, drop_torn, read_requests
from datagen.llm.client_address import Place

_REQUESTS = "requests-"


class FolderBatches:
    """Writes files of requests and waits for files of replies."""

    def __init__(
        self, folder: Path, frames: Path | None, limits: BatchLimits, say: Callable[[str], None]
    ) -> None:
        """`frames`: the folder that the server must be allowed to read; None where pictures are sent along.

        Raises UsageError when the folder cannot be written.
        """
        self._folder = folder.expanduser().resolve()
        self._frames = frames
        self._limits = limits
        self._say = say
        self._ids: dict[str, tuple[str, ...]] = {}
        self._models: dict[str, str] = {}
        self.place = Place(f"jsonl:{self._folder}")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{self.place.shown}: cannot be written: {error.strerror}") from None

    async def close(self) -> None:
        """Nothing is held open."""

    def begin(self) -> Gathering:
        """A new file of requests, under a name that nobody takes for a finished one."""
        return Gathering(self._folder, "gathering-{}.part")

    async def find(self) -> list[tuple[str, tuple[str, ...]]]:
        """Files of requests that were not known here yet: marks, and the requests in them."""
        found = []
        for mark in await asyncio.to_thread(self._unknown):
            ids, model = await asyncio.to_thread(read_requests, self._requests(mark))
            self._ids[mark], self._models[mark] = ids, model
            found.append((mark, ids))
        return found

    async def send(self, gathering: Gathering, model: str) -> None:
        """Give a finished file its name."""
        mark = gathering.mark
        self._ids[mark], self._models[mark] = tuple(gathering.ids), model
        with gathering.file:
            await asyncio.to_thread(gathering.finish)
            gathering.path.rename(self._requests(mark))

    async def collect(self, mark: str) -> Replies:
        """The replies to a batch, when each of its requests has one."""
        path = self._folder / f"replies-{mark}.jsonl"
        looked_at, told = (0, 0), False
        while True:
            if (at := _stamp(path)) != looked_at:
                looked_at = at
                most = self._limits.max_reply_bytes
                replies = await asyncio.to_thread(Replies, path.open("rb"), self._ids[mark], most)
                if len(replies) + len(replies.blamed) == len(self._ids[mark]):
                    if text := replies.ignored():
                        self._say(f"{path}: lines ignored: {text}")
                    return replies
                replies.close()
            if not told:
                self._say(self._command(path, mark))
                told = True
            await asyncio.sleep(self._limits.folder_poll_seconds)

    async def settle(self, mark: str, ids: list[str]) -> bool:
        """Keep everything: the files are the user's."""
        return False

    def _requests(self, mark: str) -> Path:
        return self._folder / f"{_REQUESTS}{mark}.jsonl"

    def _unknown(self) -> list[str]:
        drop_torn(self._folder.glob("gathering-*.part"))
        files = sorted(self._folder.glob(f"{_REQUESTS}*.jsonl"))
        marks = [path.stem.removeprefix(_REQUESTS) for path in files]
        return [mark for mark in marks if mark not in self._ids]

    def _command(self, path: Path, mark: str) -> str:
        """What the user is to do."""
        command = ["vllm", "run-batch", "-i", str(self._requests(mark)), "-o", str(path)]
        command += ["--model", self._models[mark]]
        if self._frames is not None:
            command += ["--allowed-local-media-path", str(self._frames)]
        return (
            f"{len(self._ids[mark])} requests wait for replies; run: {shlex.join(command)}\n"
            "Meanwhile this may be interrupted: started again, the same command goes on waiting."
        )


def _stamp(path: Path) -> tuple[int, int]:
    """Size and time of a file; zeros where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0, 0
    return found.st_size, found.st_mtime_ns
