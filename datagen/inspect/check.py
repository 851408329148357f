"""All that `datagen validate` looks at in a dataset, in one pass over its shards."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from msgspec import Struct, field

from datagen.config import Config
from datagen.errors import Invalid
from datagen.export.schema import frames_layout, table_schema
from datagen.export.shards import describe_shard
from datagen.inspect.dataset import (
    SPLIT,
    Frames,
    UserTurns,
    one_line,
    read_config,
    read_rows,
    read_run,
    read_schema,
    shards,
)
from datagen.inspect.forecast import Forecast
from datagen.inspect.rows import RlRecord, SftRecord, read_row, rl_faults, sft_faults, take_pictures_out
from datagen.inspect.windows import make_window, prompt_fault, read_beside

KEPT = 1000
"""Faults kept with their text; the others are only counted."""
BANNED_COLUMNS = {
    "label", "channel", "state", "questions", "kinds", "options", "criteria", "tools", "videos", "objects",
}  # fmt: skip
"""Names that ms-swift takes for something of its own."""


class Fault(Struct, frozen=True):
    """Something that does not keep to the contracts, and where."""

    file: str
    row: int | None
    id: str
    message: str


class Findings(Struct):
    """What is wrong with a dataset, and what there is in it."""

    fault_count: int = 0
    faults: list[Fault] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)

    def add(self, file: str, message: str, row: int | None = None, id: str = "") -> None:
        """One more fault."""
        self.fault_count += 1
        if len(self.faults) < KEPT:
            self.faults.append(Fault(file, row, id, message))

    def add_all(self, file: str, messages: Iterable[str], row: int | None = None, id: str = "") -> None:
        """Several faults of one file or row."""
        for message in messages:
            self.add(file, message, row, id)


def check_dataset(out: Path, margin: float) -> tuple[Findings, Forecast]:
    """Check every file and row below `out` and score the policies on its RL windows.

    In memory: one row group, what the other tables say about the videos of one RL shard, and ids.
    """
    findings, forecast = Findings(), Forecast(margin)
    config, published = _check_run(out, findings)
    for file, message in split_faults(out):
        findings.add(file, message)
    frames = Frames(out)
    wanted = not config or config.export.frames != "none"
    if wanted and not (frames.there or published):
        findings.add("frames", "the folder is missing: whether the frames exist was not checked")
    for table, paths in shards(out).items():
        seen: set[str] = set()
        for path in paths:
            name = f"{table}/{path.name}"
            faults = list(schema_faults(path, table))
            findings.add_all(name, faults)
            if faults and table in ("sft", "rl"):
                findings.add(name, "its rows were not checked, as its schema is wrong")
            elif table == "sft":
                _check_sft(path, frames, seen, findings)
            elif table == "rl":
                _check_rl(path, config, frames, seen, findings, forecast)
    return findings, forecast


def _check_run(out: Path, findings: Findings) -> tuple[Config | None, bool]:
    """The pipeline's values, and whether this is a published copy, which leaves its frames behind."""
    published = False
    try:
        run = read_run(out)
        published = "published" in run
        for file, message in hash_faults(out, run):
            findings.add(file, message)
        return read_config(run), published
    except Invalid as error:
        findings.add("run.json", str(error).removeprefix("run.json: "))
        return None, published


def _rows(path: Path, table: str, findings: Findings) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a shard with their numbers, counted, with paths in the place of pictures."""
    name = f"{table}/{path.name}"
    try:
        for number, values in read_rows(path):
            findings.rows[table] = findings.rows.get(table, 0) + 1
            pictures = list(take_pictures_out(values, table))
            findings.add_all(name, pictures, number, str(values.get("question_id", "")))
            yield number, values
    except Invalid as error:
        findings.add(name, str(error))


def _check_sft(path: Path, frames: Frames, seen: set[str], findings: Findings) -> None:
    name = f"sft/{path.name}"
    for number, values in _rows(path, "sft", findings):
        try:
            row = read_row(values, SftRecord)
        except Invalid as error:
            findings.add(name, str(error), number, str(values.get("question_id")))
            continue
        _check_id(row.question_id, seen, name, number, findings)
        findings.add_all(name, sft_faults(row, frames), number, row.question_id)


def _check_id(id: str, seen: set[str], name: str, number: int, findings: Findings) -> None:
    if id in seen:
        findings.add(name, "question_id stands in another row too", number, id)
    seen.add(id)


def _check_rl(
    path: Path,
    config: Config | None,
    frames: Frames,
    seen: set[str],
    findings: Findings,
    forecast: Forecast,
) -> None:
    match = SPLIT.fullmatch(path.name)
    split = match[1] if match else ""
    name, turns_name = f"rl/{path.name}", f"rl/user_turns/{split}.json"
    out = path.parent.parent
    try:
        user_turns = UserTurns(out / turns_name)
    except Invalid as error:
        findings.add(turns_name, str(error))
        return
    beside = read_beside(out, video_ids(path, "rl"), config)
    for number, values in _rows(path, "rl", findings):
        id = ""
        try:
            row = read_row(values, RlRecord)
            id = row.extra_info.question_id
            _check_id(id, seen, name, number, findings)
            turns = user_turns.get(id)
            findings.add_all(name, rl_faults(row, turns, split, frames), number, id)
            again = beside.turns.get(id.rpartition("#seg")[0])
            if again and (fault := prompt_fault(row, again)):
                findings.add(name, fault, number, id)
            elif config and not again:
                findings.add(name, "its dialogue and video are not in their tables", number, id)
            forecast.add(make_window(row, turns, beside))
        except Invalid as error:
            findings.add(name, str(error), number, id)


def schema_faults(path: Path, table: str) -> Iterator[str]:
    """How the columns of a shard differ from schemas/<table>.json."""
    try:
        found = read_schema(path)
    except Invalid as error:
        yield str(error)
        return
    wanted = table_schema(table, frames_layout(found))
    for name in wanted.names:
        if name not in found.names:
            yield f"column {name} is missing"
        elif found.field(name).type != wanted.field(name).type:
            yield f"column {name} is {_short(found.field(name).type)}, not {_short(wanted.field(name).type)}"
    for name in found.names:
        if name not in wanted.names:
            yield f"column {name!r} is not in the schema"
        if name in BANNED_COLUMNS and table in ("sft", "rl"):
            yield f"column {name} is one that ms-swift acts on"
    if found.names != wanted.names and sorted(found.names) == sorted(wanted.names):
        yield "columns stand in another order"
    if table in ("sft", "rl") and not SPLIT.fullmatch(path.name):
        yield "is not named train- or val-00000-of-00001.parquet"


def hash_faults(out: Path, run: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(file, fault) for each shard that is not what run.json says, or not listed, or missing."""
    listed = run["shards"]
    there = {path.relative_to(out).as_posix(): path for paths in shards(out).values() for path in paths}
    for name, path in there.items():
        if name not in listed:
            yield name, "is not listed in run.json"
            continue
        facts = listed[name] if isinstance(listed[name], dict) else {}
        try:
            found = describe_shard(path)
        except (OSError, pa.ArrowException) as error:
            yield name, f"cannot be read: {one_line(error)}"
            continue
        wrong = [key for key in ("rows", "bytes", "sha256") if facts.get(key) != found[key]]
        if wrong:
            yield name, f"{', '.join(wrong)} not as in run.json: the file was changed after the build"
    for name in sorted(set(listed) - set(there)):
        yield name[:200], "is listed in run.json but not there"


def split_faults(out: Path) -> Iterator[tuple[str, str]]:
    """(file, fault) for each file that shares a video with one of another split."""
    home: dict[str, str] = {}
    found = shards(out)
    for table in ("sft", "rl"):
        for path in found[table]:
            split = f"{table}/{path.name.partition('-')[0]}"
            for video in sorted(video_ids(path, table)):
                if home.setdefault(video, split) != split:
                    yield f"{table}/{path.name}", f"video {video!r} is in {home[video]} too"


def video_ids(path: Path, table: str) -> set[str]:
    """The videos of a shard of SFT or RL rows, as far as it can be read."""
    videos = set()
    column = "video_id" if table == "sft" else "extra_info"
    with contextlib.suppress(Invalid):
        for _, row in read_rows(path, [column]):
            value = row.get(column)
            value = value.get("video_id") if isinstance(value, dict) else value
            if isinstance(value, str):
                videos.add(value)
    return videos


def _short(kind: pa.DataType) -> str:
    text = " ".join(str(kind).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
