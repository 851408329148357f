"""Shards with the pictures inside, which need no other file.

Frames become a list of structs of bytes and path, as Hugging Face's `Image` holds them. The Hub's viewer
reads no row group above 286 MiB, so groups are bounded in rows and in bytes.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from datagen.errors import UsageError
from datagen.export.content import FRAME
from datagen.export.schema import PICTURES, list_array

GROUP_ROWS = 16
GROUP_BYTES = 128 << 20
"""A row group is closed with 16 rows, or earlier once it holds this much."""
SHARD_BYTES = 100 << 20
"""A shard should hold about this much."""


def embed_shard(
    source: Path,
    target: Path,
    out: Path,
    keep: Callable[[str], bool] | None = None,
    viewable: bool = False,
) -> int:
    """Write the rows of an sft or rl shard to `target` with the pictures of `out`; returns how many.

    `keep` chooses rows of sft by their video_id. `viewable` marks the pictures for the Hub's viewer and for
    `datasets`, which then decodes them; not all trainers take decoded pictures. One row group is in memory
    at a time. Raises UsageError where a frame is missing.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with pq.ParquetFile(source) as file:
        schema = file.schema_arrow
        schema = schema.set(schema.get_field_index("images"), pa.field("images", PICTURES))
        schema = as_pictures(schema) if viewable else schema
        with picture_writer(target, schema) as writer:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group)
                if keep:
                    kept = [keep(video) for video in table["video_id"].to_pylist()]
                    table = table.filter(pa.array(kept, pa.bool_()))
                for piece in _pieces(table, out):
                    writer.write_table(piece.cast(schema))
                count += table.num_rows
    return count


def picture_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """A Parquet file for tables with pictures.

    Uncompressed: JPEG does not shrink, and so the Hub's storage finds pictures again that have moved.
    """
    return pq.ParquetWriter(path, schema, compression="none", use_dictionary=False)


def frame_file(out: Path, path: str) -> Path:
    """The file of a frame that a row names. Raises UsageError where it is none."""
    match = FRAME.fullmatch(path)
    if not match or match[1] in (".", "..") or not (out / path).is_file():
        raise UsageError(f"{path[:200]!r}: no such frame in {out}; build again, or leave the frames out")
    return out / path


def folder_bytes(folder: Path) -> int:
    """Size of the files in a folder; 0 where there is none."""
    try:
        with os.scandir(folder) as entries:
            return sum(entry.stat().st_size for entry in entries)
    except FileNotFoundError:
        return 0


def as_pictures(schema: pa.Schema) -> pa.Schema:
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


def _pieces(table: pa.Table, out: Path) -> Iterator[pa.Table]:
    """The rows in groups of bounded size, with their pictures."""
    place = table.schema.get_field_index("images")
    first, size = 0, 0
    found: list[list[dict[str, Any]]] = []
    for number, images in enumerate(table["images"].to_pylist(), 1):
        found.append([_picture(out, image) for image in images])
        size += sum(len(image["bytes"]) for image in found[-1])
        if len(found) == GROUP_ROWS or size >= GROUP_BYTES or number == table.num_rows:
            flat = pa.array([image for row in found for image in row], PICTURES.value_type)
            column = list_array([len(row) for row in found], flat)
            yield table.slice(first, len(found)).set_column(place, "images", column)
            first, size, found = number, 0, []


def _picture(out: Path, image: Any) -> dict[str, Any]:
    """A frame of a row of any layout: its path, a block of type image, or already a picture."""
    if isinstance(image, dict) and "bytes" in image:
        return image
    path = image if isinstance(image, str) else image["image"]
    return {"bytes": frame_file(out, path).read_bytes(), "path": path}
