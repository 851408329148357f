"""What must hold of a dataset's files: their schemas, their hashes, and which video is in which split."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from datagen.config import Config
from datagen.errors import Invalid
from datagen.export.schema import frames_layout, table_schema
from datagen.export.shards import describe_shard
from datagen.inspect.dataset import SPLIT, read_rows, read_schema, shards

BANNED_COLUMNS = {
    "label", "channel", "state", "questions", "kinds", "options", "criteria", "tools", "videos", "objects",
}  # fmt: skip
"""Names that ms-swift takes for something of its own."""


def read_run(out: Path) -> dict[str, Any]:
    """run.json. Raises Invalid."""
    try:
        run = msgspec.json.decode((out / "run.json").read_bytes())
    except (OSError, ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise Invalid(f"cannot be read: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(run, dict) or not isinstance(run.get("shards"), dict):
        raise Invalid("does not list the shards with their hashes")
    if run.get("status") != "done":
        raise Invalid(f"status is {str(run.get('status'))[:40]!r}, not 'done': run the build to its end")
    return run


def was_published(out: Path) -> bool:
    """Whether this is a published copy, which leaves the folder of frames behind."""
    try:
        return "published" in read_run(out)
    except Invalid:
        return False


def read_config(run: dict[str, Any]) -> Config:
    """The pipeline's values that the dataset was built with. Raises Invalid."""
    try:
        return msgspec.convert(run.get("pipeline"), Config)
    except msgspec.ValidationError as error:
        raise Invalid(f"pipeline: {' '.join(str(error).split())[:200]}") from None


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
            yield name, f"cannot be read: {' '.join(str(error).split())[:200]}"
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
            try:
                videos = _videos(path, table)
            except Invalid:
                continue
            for video in sorted(videos):
                if home.setdefault(video, split) != split:
                    yield f"{table}/{path.name}", f"video {video!r} is in {home[video]} too"


def _videos(path: Path, table: str) -> set[str]:
    videos = set()
    column = "video_id" if table == "sft" else "extra_info"
    for _, row in read_rows(path, [column]):
        value = row.get(column)
        value = value.get("video_id") if isinstance(value, dict) else value
        if isinstance(value, str):
            videos.add(value)
    return videos


def _short(kind: pa.DataType) -> str:
    text = " ".join(str(kind).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
