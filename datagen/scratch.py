"""Copies of remote files on this machine's disk: few at a time, and gone with the process that needs them."""

import asyncio
import fcntl
import hashlib
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from datagen.errors import NoSpace
from datagen.records import Location
from datagen.remote import is_remote

_LONGEST_NAME = 60
"""Characters; in UTF-8 fewer bytes than any file system allows."""


class Scratch:
    """Room for the copies of so many videos below the folder for temporary files (TMPDIR).

    Nothing is fetched here: a step that needs the file does that, in its child, by `remote.fetched`. What
    killed runs have left behind goes when the next one begins.
    """

    def __init__(self, videos: int) -> None:
        self._room = asyncio.Semaphore(videos)
        self._numbers = itertools.count()
        self._folder: Path | None = None
        self._lock = -1

    @asynccontextmanager
    async def copy_of(self, url: str, size: int) -> AsyncIterator[Location]:
        """Where the file is, and if it is remote where its copy goes; that is deleted at the end."""
        if not is_remote(url):
            yield Location(url)
            return
        async with self._room:
            folder = self._own() / str(next(self._numbers))
            try:
                yield Location(url, copy=str(folder / _name(url)), size=size)
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    @asynccontextmanager
    async def kept(self, url: str, size: int) -> AsyncIterator[Location]:
        """The same of a file that many videos share: one copy, until the end of the run."""
        if not is_remote(url):
            yield Location(url)
            return
        folder = self._own() / hashlib.blake2b(url.encode(), digest_size=8).hexdigest()
        yield Location(url, copy=str(folder / _name(url)), size=size)

    async def close(self) -> None:
        """Delete all copies."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            os.close(self._lock)
            self._folder = None

    def _own(self) -> Path:
        if self._folder is None:
            base = Path(tempfile.gettempdir()) / f"datagen-{os.getuid()}"
            base.mkdir(mode=0o700, exist_ok=True)
            if base.lstat().st_uid != os.getuid():
                raise NoSpace(f"{base}: belongs to somebody else; TMPDIR says where copies of videos go")
            every = os.open(base, os.O_RDONLY)
            try:
                fcntl.flock(every, fcntl.LOCK_EX)
                _sweep(base)
                self._folder = Path(tempfile.mkdtemp(dir=base))
                self._lock = os.open(self._folder, os.O_RDONLY)
                fcntl.flock(self._lock, fcntl.LOCK_EX)
            finally:
                os.close(every)
        return self._folder


def _sweep(base: Path) -> None:
    """Delete the folders that no living process has locked."""
    for folder in base.iterdir():
        with suppress(OSError):
            lock = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


def _name(url: str) -> str:
    """The last part of an address, as messages name it, that is safe on any disk."""
    name = url.partition("?")[0].rpartition("/")[2][-_LONGEST_NAME:]
    return "".join(c for c in name if c.isprintable()).lstrip(".") or "video"
