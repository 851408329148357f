"""Rows of a dataset by their ids, and what the ledger beside it still remembers."""

import contextlib
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from heapq import nlargest
from itertools import takewhile
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.dataset as ds

from datagen.errors import UsageError
from datagen.ledger import FLOW, Known, Lost
from datagen.llm.chat import ChatReply
from datagen.records import Built, Sidecar

_IDS = {"dialogues": "id", "segments": "id", "videos": "id", "sft": "question_id", "rejected": "item_id"}


def read_table(
    out: Path, table: str, where: ds.Expression | None = None, columns: Sequence[str] | None = None
) -> Any:
    """The rows of a table that match, as Arrow. Raises UsageError where it is missing or cannot be read."""
    files = sorted((out / table).glob("*.parquet"))
    if not files:
        raise UsageError(f"OUT {out}: holds no {table}/*.parquet; give the folder of a finished build")
    try:
        return ds.dataset(files, format="parquet").to_table(columns=columns, filter=where)
    except (OSError, ValueError) as error:
        raise UsageError(f"OUT {out}: {table} cannot be read: {str(error).splitlines()[0]}") from None


def table_rows(out: Path, table: str, *which: Any) -> list[dict[str, Any]]:
    """The same as dicts."""
    rows: list[dict[str, Any]] = read_table(out, table, *which).to_pylist()
    return rows


def row_of(out: Path, row_id: str) -> tuple[str, dict[str, Any]] | None:
    """A row to train on by its question_id, with the name of its table."""
    for table, path in (("sft", ("question_id",)), ("rl", ("extra_info", "question_id"))):
        if any((out / table).glob("*.parquet")):
            for row in table_rows(out, table, ds.field(*path) == row_id):
                return table, row
    return None


def nearest_ids(out: Path, wanted: str) -> list[str]:
    """The ids that share most of their beginning and end with one that is not there."""

    def alike(id: str) -> int:
        both_ends = zip(wanted, id, strict=False), zip(wanted[::-1], id[::-1], strict=False)
        return sum(len(list(takewhile(lambda pair: pair[0] == pair[1], end))) for end in both_ends)

    return nlargest(3, dict.fromkeys(_ids(out)), key=alike)


def _ids(out: Path) -> Iterator[str]:
    for table, column in _IDS.items():
        if any((out / table).glob("*.parquet")):
            yield from (row[column] for row in table_rows(out, table, None, [column]))


class Memory:
    """The ledger of a build, opened to read; without one nothing is remembered."""

    def __init__(self, out: Path) -> None:
        path = out / ".work" / "ledger.sqlite"
        self.is_there = path.is_file()
        self._database = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro" if self.is_there else ":memory:", uri=self.is_there
        )

    def close(self) -> None:
        """Close the ledger."""
        self._database.close()

    def reply(self, call_id: str) -> ChatReply | Lost | None:
        """What came of a model call."""
        for code, value in self._values("SELECT code, value FROM results WHERE key = ?", call_id):
            found: ChatReply | Lost | None = _decoded(value, Lost if code else ChatReply)
            return found
        return None

    def sidecar_lines(self, video_id: str) -> dict[str, str]:
        """The texts of a video's sidecar by line or key, as it was last read."""
        query = (
            "SELECT code, value FROM results WHERE step = 'read_sidecar' AND code IS NULL AND item IN (SELECT"
            " item FROM results WHERE key IN (SELECT key FROM flows WHERE video_id = ?)) ORDER BY rowid"
        )
        lines: dict[str, str] = {}
        for _, value in self._values(query, video_id):
            sidecar = _decoded(value, Sidecar)
            fresh: dict[str, list[str]] = {}
            for narration in sidecar.narrations if sidecar else ():
                fresh.setdefault(narration.key, []).append(narration.text)
            lines |= {key: " / ".join(texts) for key, texts in fresh.items()}
        return lines

    def outcomes(self, video_id: str) -> Iterator[tuple[str, Built]]:
        """What was made of a video, each time with the item it was made of."""
        query = (
            "SELECT item, value FROM results WHERE key IN (SELECT key FROM flows WHERE video_id = ? AND code"
            " IS NULL) AND step = ? ORDER BY key"
        )
        for item, value in self._values(query, video_id, FLOW):
            if built := _decoded(value, Built):
                yield item, built

    def results(self, item: str, step: str) -> dict[str, Known]:
        """What a step yielded for an item or a copy of it, by key."""
        query = (
            "SELECT key, code, value FROM results WHERE step = ? AND item IN (SELECT ? UNION SELECT item FROM"
            " contents WHERE mark = (SELECT mark FROM contents WHERE item = ?)) ORDER BY key"
        )
        found = self._values(query, step, item, item)
        return {key: Known(msgspec.Raw(value), code) for key, code, value in found}

    def _values(self, query: str, *values: str) -> Iterator[tuple[Any, ...]]:
        """Rows whose last column is kept compressed."""
        try:
            for *row, value in self._database.execute(query, values).fetchall():
                with contextlib.suppress(zlib.error):
                    yield *row, zlib.decompress(value)
        except sqlite3.Error:  # none of ours, or damaged: it remembers nothing
            self.is_there = False


def _decoded(value: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(value, type=kind)
    except msgspec.MsgspecError:
        return None
