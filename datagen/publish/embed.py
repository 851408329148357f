"""What is published with pictures in it: SFT rows that need no other file, and a preview of a few dialogues.

`datasets` and the Hub's viewer show them as pictures.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from datagen.config import Config
from datagen.dialogue.grid import make_turns
from datagen.errors import UsageError
from datagen.export.content import frame_path
from datagen.export.embed import SHARD_BYTES, as_pictures, embed_shard, frame_file, picture_writer
from datagen.export.schema import PICTURES, column
from datagen.export.shards import shard_count, shard_index
from datagen.export.split import hash64
from datagen.inspect.dataset import read_rows
from datagen.records import Dialogue, Question

PREVIEW_BYTES = 8 << 20
PREVIEW_DIALOGUES = 12

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
        ("images", PICTURES),
    ]
)


def write_embedded(out: Path, sft: Sequence[Path], folder: Path) -> list[Path]:
    """Write the rows of SFT shards with their frames to `folder`, split by ranges of the video id's hash.

    One row group is in memory at a time. Raises UsageError where a frame is missing.
    """
    size = sum(_frames_size(out, row["images"]) for path in sft for _, row in read_rows(path, ["images"]))
    # Both counts are powers of two, so each of these shards takes its rows from a single one of `sft`.
    shards = max(shard_count(size, SHARD_BYTES), len(sft))
    paths = []
    count = 0
    for number in range(shards):
        source = sft[number * len(sft) // shards]
        paths.append(folder / f"train-{number:05d}-of-{shards:05d}.parquet")

        def keep(video: str, number: int = number) -> bool:
            return shard_index(video, shards) == number

        count += embed_shard(source, paths[-1], out, keep, viewable=True)
    if count != sum(pq.read_metadata(path).num_rows for path in sft):
        raise UsageError(f"{out}/sft: rows are not in the shards of their videos; build again")
    return paths


def write_preview(out: Path, path: Path, licences: dict[str, str], config: Config) -> bool:
    """Write a few dialogues, chosen by the seed, with the last frame of each turn; False where there is none.

    Only videos that have an entry in `licences` are shown; at most PREVIEW_DIALOGUES and PREVIEW_BYTES.
    """
    facts = ["id", "source", "frame_count", "frame_interval"]
    shown = licences if config.export.frames != "none" else {}
    videos = {row["id"]: row for row in _table(out, "videos", facts) if row["id"] in shown}
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
        path.parent.mkdir(parents=True, exist_ok=True)
        schema = as_pictures(_PREVIEW)
        arrays = [column([row[field.name] for row in rows], field.type) for field in schema]
        with picture_writer(path, schema) as file:
            file.write_table(pa.table(arrays, schema=schema))
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
    images = [{"bytes": frame_file(out, path).read_bytes(), "path": path} for path in row["images"]]
    return {**row, "images": images}


def _frames_size(out: Path, images: Sequence[Any]) -> int:
    """Bytes of the frames that a row names or holds."""
    return sum(len(i["bytes"]) if isinstance(i, dict) else frame_file(out, i).stat().st_size for i in images)
