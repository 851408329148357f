"""Tables with frames inside: SFT shards that need no other file, and a preview of a few dialogues.

Frames are a list of Hugging Face's `Image` (struct of bytes and path), which `datasets` and the Hub's viewer
show as pictures. The viewer reads no row group above 286 MiB, so groups and shards are bounded in bytes.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from datagen.config import Config
from datagen.dialogue.grid import make_turns
from datagen.errors import UsageError
from datagen.export.content import frame_path
from datagen.export.schema import column, table_schema
from datagen.export.shards import shard_count, shard_index
from datagen.export.split import hash64
from datagen.inspect.dataset import FRAME, read_rows
from datagen.records import Dialogue, Question

GROUP_ROWS = 16
GROUP_BYTES = 128 << 20
"""A row group is closed with 16 rows, or earlier once it holds this much."""
SHARD_BYTES = 400 << 20
"""A shard holds about this much at most: the Hub advises less than 500 MB."""
PREVIEW_BYTES = 8 << 20
PREVIEW_DIALOGUES = 12

_IMAGES = pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
_PREVIEW = pa.schema(
    [
        ("id", pa.string()),
        ("video_id", pa.string()),
        ("data_source", pa.string()),
        ("licence", pa.string()),
        ("type", pa.string()),
        ("provenance", pa.string()),
        ("turns", pa.list_(pa.struct([(n, pa.string()) for n in ("label", "user", "text")]))),
        ("turn_times", pa.list_(pa.float64())),
        ("images", _IMAGES),
    ]
)


def write_embedded(out: Path, sft: Sequence[Path], folder: Path) -> list[Path]:
    """Write the rows of SFT shards with their frames to `folder`, split by ranges of the video id's hash.

    One row group is in memory at a time. Raises UsageError where a frame is missing.
    """
    size = sum(_frames_size(out, row["images"]) for path in sft for _, row in read_rows(path, ["images"]))
    # Both counts are powers of two, so each of these shards takes its rows from a single one of `sft`.
    shards = max(shard_count(size, SHARD_BYTES), len(sft))
    schema = table_schema("sft")
    schema = schema.set(schema.get_field_index("images"), pa.field("images", _IMAGES))
    paths = []
    count = 0
    for number in range(shards):
        source = sft[number * len(sft) // shards]
        paths.append(folder / f"train-{number:05d}-of-{shards:05d}.parquet")
        rows = (row for _, row in read_rows(source) if shard_index(row["video_id"], shards) == number)
        count += _write(paths[-1], map(partial(_with_images, out), rows), schema)
    if count != sum(pq.read_metadata(path).num_rows for path in sft):
        raise UsageError(f"{out}/sft: rows are not in the shards of their videos; build again")
    return paths


def write_preview(out: Path, path: Path, licences: dict[str, str], config: Config) -> bool:
    """Write a few dialogues, chosen by the seed, with the last frame of each turn; False where there is none.

    Only videos that have an entry in `licences` are shown; at most PREVIEW_DIALOGUES and PREVIEW_BYTES.
    """
    facts = ["id", "source", "frame_count", "frame_interval"]
    videos = {row["id"]: row for row in _table(out, "videos", facts) if row["id"] in licences}
    ids = [row["id"] for row in _table(out, "dialogues", ["id", "video_id"]) if row["video_id"] in videos]
    ranked = sorted(ids, key=lambda id: (hash64(config.seed, "preview", id), id))
    chosen = dict.fromkeys(ranked[: 4 * PREVIEW_DIALOGUES])
    dialogues = {row["id"]: row for row in _table(out, "dialogues") if row["id"] in chosen}
    rows: list[dict[str, Any]] = []
    left = PREVIEW_BYTES
    for id in chosen:
        video = videos[dialogues[id]["video_id"]]
        row = _preview_row(dialogues[id], video, licences[video["id"]], config)
        size = _frames_size(out, row["images"])
        if row["turns"] and size <= left and len(rows) < PREVIEW_DIALOGUES:
            rows.append(_with_images(out, row))
            left -= size
    path.unlink(missing_ok=True)
    if rows:
        _write(path, iter(rows), _PREVIEW)
    return bool(rows)


def _preview_row(row: dict[str, Any], video: dict[str, Any], licence: str, config: Config) -> dict[str, Any]:
    dialogue = Dialogue(
        id=row["id"],
        video_id=row["video_id"],
        type=row["type"],
        questions=msgspec.convert(row["questions"], tuple[Question, ...]),
        provenance=row["provenance"],
    )
    turns, _, _ = make_turns(
        dialogue,
        video["frame_count"],
        video["frame_interval"],
        config.export,
        config.dialogue.max_reply_words,
        config.seed,
    )
    return {
        **{name: row[name] for name in ("id", "video_id", "type", "provenance")},
        "data_source": video["source"],
        "licence": licence,
        "turns": [{"label": turn.label, "user": turn.user, "text": turn.text} for turn in turns],
        "turn_times": [turn.time for turn in turns],
        "images": [frame_path(video["id"], turn.last_frame) for turn in turns],
    }


def _table(out: Path, table: str, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
    for path in sorted((out / table).glob("*.parquet")):
        for _, row in read_rows(path, columns):
            yield row


def _with_images(out: Path, row: dict[str, Any]) -> dict[str, Any]:
    images = [{"bytes": _frame(out, path).read_bytes(), "path": path} for path in row["images"]]
    return {**row, "images": images}


def _frames_size(out: Path, paths: Sequence[str]) -> int:
    return sum(_frame(out, path).stat().st_size for path in paths)


def _frame(out: Path, path: str) -> Path:
    match = FRAME.fullmatch(path)
    if not match or match[1] in (".", "..") or not (out / path).is_file():
        raise UsageError(f"{path[:200]!r}: no such frame in {out}; build again, or push with --frames none")
    return out / path


def _write(path: Path, rows: Iterator[dict[str, Any]], schema: pa.Schema) -> int:
    """Write rows in groups; returns how many there were."""
    schema = _as_pictures(schema)
    count = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    # Uncompressed: JPEG does not shrink, and so the Hub's storage finds pictures again that have moved.
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as file:
        group: list[dict[str, Any]] = []
        size = 0
        for row in rows:
            group.append(row)
            count += 1
            size += sum(len(image["bytes"]) for image in row["images"])
            if len(group) == GROUP_ROWS or size >= GROUP_BYTES:
                file.write_table(_as_table(group, schema))
                group, size = [], 0
        if group:
            file.write_table(_as_table(group, schema))
    return count


def _as_table(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    arrays = [column([row[field.name] for row in rows], field.type) for field in schema]
    return pa.table(arrays, schema=schema)


def _as_pictures(schema: pa.Schema) -> pa.Schema:
    """The schema with the metadata by which `datasets` and the viewer know `images` for pictures.

    Written as `datasets.Features.arrow_schema` writes it, without the second that importing it takes.
    """
    features = {field.name: _feature(field.type) for field in schema}
    features["images"] = {"feature": {"_type": "Image"}, "_type": "List"}
    return schema.with_metadata({"huggingface": msgspec.json.encode({"info": {"features": features}})})


def _feature(kind: pa.DataType) -> dict[str, Any]:
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    if pa.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    return {"dtype": "float64" if pa.types.is_float64(kind) else str(kind), "_type": "Value"}
