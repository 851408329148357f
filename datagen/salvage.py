"""What can still be read of a damaged ledger becomes a new one; the rest is owed again."""

import os
import sqlite3
import zlib
from contextlib import closing, suppress
from pathlib import Path

import msgspec

from datagen.errors import UsageError
from datagen.ledger import FLOW, SCHEMA, Damaged, take_lock
from datagen.records import Built, Rejection

_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_PAGE = 4096
_UNREADABLE = (sqlite3.Error, zlib.error, UnicodeError, msgspec.MsgspecError, TypeError)
"""SQLite's own messages may quote what is no text."""
_LEAST_BYTES = 40
"""Of a result."""


def is_damage(error: Exception) -> bool:
    """Whether an error says that the ledger is not as it was written."""
    if isinstance(error, sqlite3.DatabaseError):
        # Without a code: text that is none.
        return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF in _CORRUPT
    return isinstance(error, Damaged | zlib.error | UnicodeDecodeError)


def salvage(work: Path) -> str:
    """Replace the ledger in the folder `work`; returns what was kept, in words. The old file stays beside it.

    Raises UsageError when nothing can be read, or another run is using it.
    """
    path, damaged, fresh = (work / f"ledger{kind}.sqlite" for kind in ("", ".damaged", ".fresh"))
    lock = take_lock(work)
    try:
        fresh.unlink(missing_ok=True)
        with closing(sqlite3.connect(fresh)) as new:
            new.executescript(SCHEMA)
            _put_aside(path, damaged, fresh.read_bytes()[:_PAGE])
            with closing(sqlite3.connect(damaged)) as old:
                kept, lost = _copy_results(old, new, damaged.stat().st_size)
                for table in ("calls", "contents", "notes"):
                    _copy(old, new, table)
            new.commit()
        if not kept:
            fresh.unlink()
            raise UsageError(f"{damaged}: nothing in it can be read; restore it, or run again to start anew")
        fresh.replace(path)
    finally:
        os.close(lock)
    torn = f", {lost} or more cannot" if lost else ""
    return (
        f"{path} was damaged: {kept} results in it can be read and are kept{torn}. What is missing is done "
        f"again. The damaged file is now {damaged}."
    )


def _put_aside(path: Path, damaged: Path, first_page: bytes) -> None:
    """Move the ledger. Where its first page cannot be read, a new one with the same tables goes there."""
    with suppress(*_UNREADABLE), closing(sqlite3.connect(path)) as old:
        old.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for ending in ("", "-wal", "-shm"):
        if Path(f"{path}{ending}").exists():
            Path(f"{path}{ending}").replace(f"{damaged}{ending}")
    try:
        with closing(sqlite3.connect(damaged)) as old:
            old.execute("SELECT key FROM results LIMIT 0")
    except _UNREADABLE:
        with damaged.open("r+b") as file:
            # Its counters do not agree: then SQLite goes by the size that the file has.
            file.write(first_page[:92] + bytes(4) + first_page[96:])


def _copy_results(old: sqlite3.Connection, new: sqlite3.Connection, size: int) -> tuple[int, int]:
    """Copy whole results one by one, and make the table of flows from them. How many, and how many not."""
    kept = lost = torn = 0
    try:
        (last,) = old.execute("SELECT MAX(rowid) FROM results").fetchone()
    except _UNREADABLE:
        last = size // _LEAST_BYTES
    for number in range(1, (last or 0) + 1):
        try:
            row = old.execute("SELECT * FROM results WHERE rowid = ?", (number,)).fetchone()
            if row is None:
                continue
            key, _, step, code, value = row
            text = zlib.decompress(value)
            new.execute("INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?)", row)
            if step == FLOW:
                flow = (key, _video_id(text, code), code)
                new.execute("INSERT OR REPLACE INTO flows VALUES (?, ?, ?)", flow)
            kept, lost, torn = kept + 1, lost + torn, 0
        except _UNREADABLE:
            torn += 1
    return kept, lost


def _video_id(outcome: bytes, code: str | None) -> str:
    if code is None:
        return msgspec.json.decode(outcome, type=Built).video.id
    return msgspec.json.decode(outcome, type=Rejection).video_id


def _copy(old: sqlite3.Connection, new: sqlite3.Connection, table: str) -> None:
    """Copy what can be read of a table from either end."""
    for order in ("ASC", "DESC"):
        with suppress(*_UNREADABLE):
            for row in old.execute(f"SELECT * FROM {table} ORDER BY 1 {order}"):
                new.execute(f"INSERT OR IGNORE INTO {table} VALUES ({','.join('?' * len(row))})", row)
