"""Memoised steps on SQLite: everything about resuming.

A result is stored under a key that says what it is a result of. Whoever obtained it first appends it to
a spool file of its own, before anything uses it; the driver takes events into one ledger in groups, and
takes in left-over spools at the next start. So a process killed at any moment loses nothing it had.
"""

import contextlib
import fcntl
import hashlib
import os
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from datagen.errors import UsageError
from datagen.records import Entry, Location

FLOW = "flow"
"""The step name under which the outcome of a whole video is kept."""

# Results have a rowid: so they are appended, while the pages of a table ordered by a hash are all rewritten.
SCHEMA = """
CREATE TABLE IF NOT EXISTS results (
    key TEXT PRIMARY KEY, item TEXT NOT NULL, step TEXT NOT NULL, code TEXT, value BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS results_by_item ON results (item);
CREATE TABLE IF NOT EXISTS flows (
    key TEXT PRIMARY KEY, video_id TEXT NOT NULL, code TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS calls (
    id BLOB PRIMARY KEY, prompt TEXT NOT NULL, model TEXT NOT NULL, batch INT NOT NULL, failed INT NOT NULL,
    tries INT NOT NULL, prompt_tokens INT NOT NULL, completion_tokens INT NOT NULL,
    expected_tokens INT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS contents (item TEXT PRIMARY KEY, mark TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS contents_by_mark ON contents (mark);
CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""

_HANDFUL = 1000
"""Events of a spool taken in at a time."""

_COPIES = "SELECT ? UNION SELECT item FROM contents WHERE mark = (SELECT mark FROM contents WHERE item = ?)"


class Cost(Struct, frozen=True, kw_only=True):
    """What one model call took, or with `calls` several of a kind; tries that failed are paid for too."""

    prompt: str
    """Name of the prompt, followed by those of the follow-ups: caption, caption+repair."""
    model: str
    batch: bool = False
    """Asked through a batch interface."""
    calls: int = 1
    failed: int = 0
    """Calls among them that ended without a reply."""
    tries: int
    prompt_tokens: int
    """As the endpoint counted them, and so with the tokens of replies."""
    completion_tokens: int
    expected_tokens: int = 0
    """What the rule of `llm.prices` makes of the prompts of those tries that got a reply."""


_COST = Cost.__struct_fields__


class Lost(Struct, frozen=True):
    """The value of a step that failed."""

    detail: str
    attempts: msgspec.Raw = msgspec.Raw(b"[]")
    """The tries of a model call."""


class Event(Struct, frozen=True):
    """One finished step. `value` is the result as JSON, or with a `code` what is kept of the failure: a Lost,
    and of a flow a Rejection.
    """

    key: str
    item: str
    step: str
    value: msgspec.Raw
    code: str | None = None
    video_id: str = ""
    """Only of a flow: the id its video got, or its name where it got none."""
    cost: Cost | None = None
    """Only of a model call."""
    seconds: float = 0.0
    """What a step in a child took, without waiting for its turn. Not kept in the ledger."""


class Known(Struct, frozen=True):
    """A result from the ledger."""

    value: msgspec.Raw
    code: str | None = None


def key_of(step: str, version: int, args: Iterable[Any]) -> str:
    """Key of a result: a hash of the step's name, its version and its arguments, but for Locations."""
    parts = [arg for arg in args if not isinstance(arg, Location)]
    text = msgspec.json.encode([step, version, parts], order="deterministic")
    return hashlib.blake2b(text, digest_size=16).hexdigest()


def item_of(entry: Entry) -> str:
    """Under which name the results of an entry are looked up; a moved folder keeps them."""
    mark = [Path(entry.path).name, entry.size, entry.mtime_ns, entry.start, entry.end]
    return hashlib.blake2b(msgspec.json.encode(mark), digest_size=8).hexdigest()


class Damaged(UsageError):
    """The ledger's file is none, or not as it was written."""


class Ledger:
    """All results of one output folder. One process at a time may have it open."""

    def __init__(self, work: Path) -> None:
        """Open or create the ledger in the folder `work`, and take in what killed runs left behind.

        Raises UsageError when another run has it open, or the folder cannot be written, and Damaged.
        """
        self._spools = work / "spool"
        with contextlib.ExitStack() as opened:
            opened.callback(os.close, take_lock(work))
            try:
                self._spools.mkdir(exist_ok=True)
                self._database = sqlite3.connect(work / "ledger.sqlite", isolation_level=None)
                opened.callback(self._database.close)
                self._database.execute("PRAGMA journal_mode = WAL")
                self._database.execute("PRAGMA synchronous = NORMAL")
                self._database.executescript(SCHEMA)
            except (OSError, sqlite3.OperationalError) as error:
                raise UsageError(f"--out {work.parent}: cannot be written: {error}") from None
            except sqlite3.DatabaseError as error:
                found = f"{work / 'ledger.sqlite'}: damaged ({error})"
                raise Damaged(f"{found}; restore it, or delete it to start anew") from None
            self.take_in_spools()
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Close the database and let the next run in."""
        self._opened.close()

    def take_in_spools(self) -> int:
        """Take in every left-over spool, waiting for those still being written. Returns the events found."""
        return sum(map(self._take_in, sorted(self._spools.glob("*.jsonl"))))

    def take_in_spool(self, name: str) -> int:
        """The same for one runner that has died. Raises BlockingIOError while it has not quite."""
        return sum(self._take_in(path, fcntl.LOCK_NB) for path in self._files(name))

    def drop_spool(self, name: str) -> None:
        """Delete the spool of a runner all of whose events have been added."""
        self._settle()
        for path in self._files(name):
            path.unlink()

    def _settle(self) -> None:
        """Have all that was added in its final place: the last write may yet be torn, with all since it."""
        self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _files(self, name: str) -> list[Path]:
        """The files of a spool, the earlier one first."""
        return sorted(self._spools.glob(f"{name}.*"))

    def _take_in(self, path: Path, how: int = 0) -> int:
        """Take in one file of a spool, then delete it.

        A handful of events at a time is in memory. They have been added in their order, so those up to the
        first handful that is not all known need not be added again.
        """
        count, known = 0, True
        with path.open("rb") as spool:
            fcntl.flock(spool, fcntl.LOCK_EX | how)
            events = _read_spool(spool)
            while handful := list(islice(events, _HANDFUL)):
                known = known and self._has_all(handful)
                if not known:
                    self.add(handful)
                count += len(handful)
        self._settle()
        path.unlink()
        return count

    def _has_all(self, events: list[Event]) -> bool:
        keys = {event.key for event in events}
        marks = ",".join("?" * len(keys))
        query = f"SELECT COUNT(*) FROM results WHERE key IN ({marks})"
        return bool(self._database.execute(query, list(keys)).fetchone()[0] == len(keys))

    def add(self, events: Iterable[Event]) -> None:
        """Store events, in one transaction."""
        events = list(events)
        rows = [(e.key, e.item, e.step, e.code, zlib.compress(bytes(e.value), 1)) for e in events]
        flows = [(e.key, e.video_id, e.code) for e in events if e.step == FLOW]
        with _transaction(self._database) as run:
            run("INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?)", rows)
            run("INSERT OR REPLACE INTO flows VALUES (?, ?, ?)", flows)
            # What was paid stays paid when results are forgotten; an event taken in twice counts once.
            run("INSERT OR REPLACE INTO calls VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", _calls(events))

    def note_content(self, item: str, mark: str) -> None:
        """Remember what copies of an item can be known by."""
        if mark:
            self._database.execute("INSERT OR REPLACE INTO contents VALUES (?, ?)", (item, mark))

    def known(self, item: str, but: str = "") -> dict[str, Known]:
        """All results of one item and of its copies by key, but for flows and what the step `but` yielded."""
        rows = self._database.execute(
            f"SELECT key, code, value FROM results WHERE item IN ({_COPIES})"
            " AND step != ? AND NOT (step = ? AND code IS NULL)",
            (item, item, FLOW, but),
        )
        return {key: Known(msgspec.Raw(zlib.decompress(value)), code) for key, code, value in rows}

    def yields(self, item: str, step: str) -> list[bytes]:
        """The results of one step of an item and of its copies, but for failures."""
        rows = self._database.execute(
            f"SELECT value FROM results WHERE item IN ({_COPIES}) AND step = ? AND code IS NULL",
            (item, item, step),
        )
        return [zlib.decompress(value) for (value,) in rows]

    def is_done(self, key: str) -> bool:
        """Whether the flow with this key has ended."""
        return bool(self._database.execute("SELECT 1 FROM flows WHERE key = ?", (key,)).fetchone())

    def costs(self) -> list[Cost]:
        """What all model calls ever made for this output took, by prompt, model and way of asking."""
        rows = self._database.execute(
            "SELECT prompt, model, batch, COUNT(*), SUM(failed), SUM(tries), SUM(prompt_tokens),"
            " SUM(completion_tokens), SUM(expected_tokens) FROM calls GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        )
        return [msgspec.convert(dict(zip(_COST, row, strict=True)), Cost, strict=False) for row in rows]

    def flows(self) -> dict[str, tuple[str, str | None]]:
        """(video id, failure code or None) of every flow ever finished, by key."""
        return {key: (video, code) for key, video, code in self._database.execute("SELECT * FROM flows")}

    def values(self, keys: list[str]) -> Iterator[bytes]:
        """The results under `keys`, in that order, read a few at a time."""
        return map(zlib.decompress, self.packed(keys))

    def packed(self, keys: list[str]) -> Iterator[bytes]:
        """The same, compressed as they are kept."""
        for at in range(0, len(keys), 64):
            chunk = keys[at : at + 64]
            marks = ",".join("?" * len(chunk))
            rows = self._database.execute(f"SELECT key, value FROM results WHERE key IN ({marks})", chunk)
            found = dict(rows.fetchall())
            if lost := set(chunk) - found.keys():
                raise Damaged(f"the ledger does not have {len(lost)} results that it should have")
            yield from (found[key] for key in chunk)

    def forget(self, keys: Iterable[str]) -> None:
        """Forget results, so that they are owed again."""
        rows = [(key,) for key in keys]
        with _transaction(self._database) as run:
            run("DELETE FROM results WHERE key = ?", rows)
            run("DELETE FROM flows WHERE key = ?", rows)

    def forget_item_step(self, item: str, step: str) -> None:
        """Forget the results of one step of one item."""
        with _transaction(self._database) as run:
            run("DELETE FROM results WHERE item = ? AND step = ?", [(item, step)])

    def forget_step(self, step: str, note: tuple[str, str]) -> None:
        """Forget all results of a step and all flows, and write a note, as one change."""
        with _transaction(self._database) as run:
            run("DELETE FROM results WHERE step IN (?, ?)", [(step, FLOW)])
            run("DELETE FROM flows", [()])
            run("INSERT OR REPLACE INTO notes VALUES (?, ?)", [note])

    def forget_failures(self, code: str | None) -> int:
        """Forget failed steps, of one class or all, and the flows they belong to. Returns how many flows."""
        failed = "code IS NOT NULL" if code is None else "code = :code"
        values = {"code": code}
        items = f"SELECT item FROM results WHERE {failed}"
        copies = f"SELECT mark FROM contents WHERE item IN ({items})"
        items += f" UNION SELECT item FROM contents WHERE mark IN ({copies})"
        flows = f"SELECT key FROM results WHERE step = '{FLOW}' AND item IN ({items})"
        keys = [key for (key,) in self._database.execute(flows, values)]
        self.forget(keys)
        with _transaction(self._database) as run:
            run(f"DELETE FROM results WHERE {failed}", [values])
        return len(keys)

    def note(self, name: str) -> str | None:
        """A value kept beside the results, or None."""
        row = self._database.execute("SELECT value FROM notes WHERE name = ?", (name,)).fetchone()
        return row[0] if row else None


def _calls(events: list[Event]) -> list[tuple[Any, ...]]:
    """Rows of the table of calls. An answer holds its seconds: no two calls have the same one."""
    rows: list[tuple[Any, ...]] = []
    for event in events:
        if (cost := event.cost) is not None:
            call = hashlib.blake2b(event.key.encode() + bytes(event.value), digest_size=12).digest()
            fields = msgspec.structs.asdict(cost)
            rows.append((call, *(fields[name] for name in _COST if name != "calls")))
    return rows


def _read_spool(spool: Iterable[bytes]) -> Iterator[Event]:
    for line in spool:
        try:
            event = msgspec.json.decode(line, type=Event)
        except msgspec.MsgspecError:
            continue  # torn by a kill in mid-write: that result is owed again
        yield event


def take_lock(work: Path) -> int:
    """The file that says, until it is closed, that a ledger is in use. Raises UsageError as Ledger does."""
    try:
        work.mkdir(parents=True, exist_ok=True)
        file = os.open(work / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        taken = f"--out {work.parent}: another run is writing there"
        raise UsageError(f"{taken}; wait for it or choose another folder") from None
    except OSError as error:
        raise UsageError(f"--out {work.parent}: cannot be written: {error}") from None
    return file


@contextlib.contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[Callable[[str, list[Any]], Any]]:
    """All or nothing."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield database.executemany
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")
