"""A manifest: a table of videos, one a row, as .jsonl, .csv or .parquet.

Columns: `path` (required), `id`, `start`, `end` (seconds), `licence`, `source`, `sidecar`, `sidecar_licence`,
`language`; others are ignored, unless they look like one of these misspelt. Paths are relative to the
manifest's folder. An empty cell is as good as none.
"""

import csv
import difflib
import io
import math
import os
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from datagen.errors import Corrupt, Failure, Invalid, UsageError
from datagen.records import Entry, Rejection
from datagen.remote import Known, Stamp, ask, is_remote, join, without_keys
from datagen.sources import beside
from datagen.sources.rows import seconds
from datagen.sources.texts import clean, shown, valid_name

TYPES = (".jsonl", ".csv", ".parquet")

_TEXTS = ("id", "licence", "source", "sidecar", "sidecar_licence", "language")
_COLUMNS = ("path", "start", "end", *_TEXTS)
_ALIKE = 0.85
"""How much of its letters a column shares with the one it is taken for."""
_LONGEST_ID = 100
"""Characters; and 240 bytes, since a folder of that name is made."""

_NOTHING = Known({}, {})

_Row = dict[str, Any]


class _Found(NamedTuple):
    """A row that holds, before its sidecar is looked for."""

    stamp: Stamp
    id: str | None
    start: float | None
    end: float | None
    texts: dict[str, str]


def read_manifest(path: Path, folder: str = "") -> tuple[list[Entry], list[Rejection]]:
    """The videos of a manifest in its order; rows that cannot be used become rejections.

    Paths are as seen from its folder, or from `folder`, which may be an address.

    Raises UsageError where the table cannot be read, a row has no path, or two rows are the same video or
    have the same id.
    """
    file = " ".join(valid_name(str(path)).split())
    if valid_name(str(path)) != str(path):
        raise UsageError(f"{file}: the path is not valid UTF-8; rename the file or its folder")
    rows = list(_read(path, file))
    if not rows:
        raise UsageError(f"{file}: has no rows; each row needs the `path` of a video file")
    folder = folder or str(path.parent)
    paths = _paths(rows, folder, file)
    _check_columns({column: where for where, row in reversed(rows) for column in row}, file)
    _check_doubles(rows, paths, file)
    known = ask(paths, {join(folder, name) for _, row in rows if (name := _text(row, "sidecar"))})
    entries: list[Entry] = []
    rejected: list[Rejection] = []
    folders: dict[str, dict[str, list[beside.Candidate]]] = {}
    for (where, row), place in zip(rows, paths, strict=True):
        name = _shown_path(row["path"])
        try:
            found = _check(row, place, known)
        except Failure as problem:
            detail = f"{path.name}: {where}: {problem}"
            rejected.append(Rejection("probe", name, name, type(problem).__name__, detail))
            continue
        wanted = found.texts.get("sidecar")
        sidecar = _sidecar(place, found, folder, folders, known)
        if wanted and sidecar[0] is None:
            wanted = clean(_shown_path(wanted))
            detail = (
                f"{path.name}: {where}: `sidecar` {shown(wanted)} is no file; the video is used without it"
            )
            rejected.append(Rejection("sidecar", name, wanted, "Invalid", detail))
        entries.append(_entry(name, place, found, sidecar))
    return entries, rejected


def _read(path: Path, file: str) -> Iterator[tuple[str, _Row]]:
    """(where, row) for each row, such as ("line 3", {...})."""
    try:
        match path.suffix.lower():
            case ".jsonl":
                yield from _read_jsonl(path.read_bytes(), file)
            case ".csv":
                yield from _read_csv(path.read_bytes(), file)
            case _:
                yield from _read_parquet(path, file)
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror or clean(str(error))[:200]}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{file}: byte {error.start} is not UTF-8; save the manifest as UTF-8") from None


def _read_jsonl(data: bytes, file: str) -> Iterator[tuple[str, _Row]]:
    decoder = msgspec.json.Decoder(dict[str, Any])
    for number, line in enumerate(data.decode("utf-8-sig").split("\n"), 1):
        if not line.strip():
            continue
        try:
            yield f"line {number}", decoder.decode(line)
        except (ValueError, RecursionError) as error:
            raise UsageError(
                f"{file}: line {number}: is not a JSON object ({clean(str(error))[:100]}); "
                'write each video on one line, such as {"path": "videos/a.mp4"}'
            ) from None


def _read_csv(data: bytes, file: str) -> Iterator[tuple[str, _Row]]:
    reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""))
    try:
        header = [cell.strip() for cell in next(reader, [])]
        if header and "path" not in header:
            raise UsageError(
                f"{file}: line 1: no column `path` in {shown(','.join(header))}; name the columns in "
                "the first line, with commas between them"
            )
        if double := next((name for name in header if name and header.count(name) > 1), None):
            raise UsageError(f"{file}: line 1: two columns {shown(double)}; remove one of them")
        while True:
            number = reader.line_num + 1
            cells = next(reader, None)
            if cells is None:
                return
            if len(cells) > len(header):
                raise UsageError(
                    f"{file}: line {number}: {len(cells)} values for {len(header)} columns; "
                    "put values that contain commas in double quotes"
                )
            if cells:
                yield f"line {number}", dict(zip(header, cells, strict=False))
    except csv.Error as error:
        raise UsageError(f"{file}: line {reader.line_num}: cannot be read as CSV: {error}") from None


def _read_parquet(path: Path, file: str) -> Iterator[tuple[str, _Row]]:
    import pyarrow as pa  # slow to import, and few manifests need it
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as table:
            _check_columns(dict.fromkeys(table.schema_arrow.names, "schema"), file)
            columns = [name for name in _COLUMNS if name in table.schema_arrow.names]
            if "path" not in columns:
                raise UsageError(
                    f"{file}: no column `path`; add it, with the path of a video file in each row"
                )
            rows = table.read(columns=columns).to_pylist()
    except (pa.ArrowException, ValueError) as error:
        raise UsageError(f"{file}: cannot be read as Parquet: {clean(str(error))[:200]}") from None
    for number, row in enumerate(rows, 1):
        yield f"row {number}", row


def _paths(rows: list[tuple[str, _Row]], folder: str, file: str) -> list[str]:
    """The absolute path of each row."""
    paths = []
    for where, row in rows:
        path = row.get("path")
        if not isinstance(path, str) or not path.strip():
            raise UsageError(f"{file}: {where}: no `path`; add that of a video file, such as videos/a.mp4")
        paths.append(join(folder, path))
    return paths


def _check_columns(found: dict[str, str], file: str) -> None:
    """A column meant for one of ours would be ignored without a word: `license`, `Start`, `sidecars`."""
    for column in sorted(found.keys() - _COLUMNS):
        word = column.strip().lower()
        others = [name for name in _COLUMNS if name not in found and name[0] == word[:1]]
        if close := difflib.get_close_matches(word, others, 1, _ALIKE):
            where = f"{file}: {found[column]}: column {shown(column)}"
            raise UsageError(f"{where}: did you mean `{close[0]}`? Rename it, or leave it out")


def _check_doubles(rows: list[tuple[str, _Row]], paths: list[str], file: str) -> None:
    ids: dict[str, str] = {}
    spans: dict[tuple[object, ...], str] = {}
    for (where, row), path in zip(rows, paths, strict=True):
        chosen = _text(row, "id")
        if chosen and (first := ids.setdefault(chosen, where)) != where:
            raise UsageError(f"{file}: {where}: `id` {shown(chosen)} is that of {first} too; ids must differ")
        span = (path, _bound(row, "start") or None, _bound(row, "end"))
        if (first := spans.setdefault(span, where)) != where:
            called = shown(_shown_path(row["path"]))
            raise UsageError(
                f"{file}: {where}: `path` {called} with the same `start` and `end` is in {first} "
                "too; remove one of them"
            )


def _bound(row: _Row, key: str) -> float | str | None:
    """An end of a span, or what stands there instead, to compare rows by."""
    time = seconds(row.get(key))
    return time if time is not None else _text(row, key) or None


def _shown_path(path: str) -> str:
    return without_keys(path) if is_remote(path) else path


def _check(row: _Row, path: str, known: Known) -> _Found:
    """Raises Corrupt or Invalid, saying which key is wrong."""
    texts: dict[str, str] = {}
    for key in _TEXTS:
        value = _text(row, key)
        if value is None:
            raise Invalid(f"`{key}` is {shown(row[key])}, not text")
        texts[key] = value
    if texts["id"]:
        _check_id(texts["id"])
    start, end = _time(row, "start"), _time(row, "end")
    if end is not None and end <= (start or 0):
        raise Invalid(f"`end` is {end:g}, not after `start` at {start or 0:g}")
    stamp = known.stamps[path] if is_remote(path) else _stamp(path, shown(row["path"]))
    if isinstance(stamp, Failure):
        raise stamp
    return _Found(stamp, texts["id"] or None, start, end, texts)


def _stamp(path: str, called: str) -> Stamp:
    try:
        status = os.stat(path)  # noqa: PTH116 speed
    except OSError as error:
        raise Corrupt(f"`path` {called} cannot be read: {error.strerror}") from None
    except ValueError:
        raise Invalid(f"`path` {called} is no path") from None
    if not stat.S_ISREG(status.st_mode):
        raise Invalid(f"`path` {called} is not a regular file")
    return Stamp(status.st_size, status.st_mtime_ns)


def _text(row: _Row, key: str) -> str | None:
    """A cell as text, empty where there is none; None where it is something else. Whole numbers count."""
    value = row.get(key)
    if isinstance(value, str):
        return value.strip()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _time(row: _Row, key: str) -> float | None:
    value = row.get(key)
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    time = seconds(value)
    if time is None or time < 0:
        raise Invalid(f"`{key}` is {shown(value)}, not a number of seconds from 0 up")
    return time


def _check_id(chosen: str) -> None:
    """An id becomes the name of a folder."""
    if len(chosen) > _LONGEST_ID or len(chosen.encode()) > 240:
        raise Invalid(f"`id` {shown(chosen)} is longer than {_LONGEST_ID} characters or 240 bytes")
    # Marks are what many scripts write their vowels with.
    if chosen.startswith(".") or any(
        not c.isalnum() and c not in "_.-" and unicodedata.category(c)[0] not in "LNM" for c in chosen
    ):
        raise Invalid(f"`id` {shown(chosen)} may hold letters, digits, `_`, `.` and `-` only, first no `.`")


def _sidecar(
    path: str,
    found: _Found,
    folder: str,
    folders: dict[str, dict[str, list[beside.Candidate]]],
    known: Known,
) -> tuple[str | None, int, int]:
    if wanted := found.texts["sidecar"]:
        return stat_sidecar(folder, wanted, known)
    place, _, name = _shown_path(path).rpartition("/")
    if place not in folders:
        try:
            names = known.names[place] if is_remote(path) else os.listdir(place)  # noqa: PTH208 speed
            folders[place] = beside.index(names)
        except OSError:  # a folder one may enter but not list
            folders[place] = {}
    return stat_sidecar(place, beside.choose(folders[place], name, found.texts["language"]), known)


def stat_sidecar(folder: str, name: str | None, known: Known = _NOTHING) -> tuple[str | None, int, int]:
    """(path, bytes, mtime_ns) of a sidecar file; (None, 0, 0) where there is no such file.

    Of remote ones by what is known. An address with a key is not taken: it would end in the tables.
    """
    if name is None or valid_name(name) != name:
        return None, 0, 0
    path = join(folder, name)
    if is_remote(path):
        stamp = known.stamps.get(path)
        return (path, *stamp) if isinstance(stamp, Stamp) and _shown_path(path) == path else (None, 0, 0)
    try:
        status = os.stat(path)  # noqa: PTH116 speed
    except (OSError, ValueError):
        return None, 0, 0
    return (path, status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else (None, 0, 0)


def _entry(name: str, path: str, found: _Found, sidecar: tuple[str | None, int, int]) -> Entry:
    plain = _shown_path(path)
    return Entry(
        path=plain,
        signed=path if path != plain else UNSET,
        name=name,
        size=found.stamp.size,
        mtime_ns=found.stamp.mtime_ns,
        id=found.id,
        start=found.start,
        end=found.end,
        licence=found.texts["licence"] or None,
        source=found.texts["source"] or "local",
        language=found.texts["language"] or None,
        sidecar=sidecar[0],
        sidecar_size=sidecar[1],
        sidecar_mtime_ns=sidecar[2],
        sidecar_licence=found.texts["sidecar_licence"] or UNSET,
    )
