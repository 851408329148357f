"""Arrow schemas of the published tables, read from schemas/*.json, and columns built to them."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import chain
from operator import attrgetter, itemgetter
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from datagen.config import Frames
from datagen.resources import resource

PICTURES = pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
"""Frames inside a row, as Hugging Face's Image holds them."""
TABLES = ("videos", "segments", "dialogues", "sft", "rl", "rejected")

_LEAVES = {"string": pa.string(), "double": pa.float64(), "int64": pa.int64(), "bool": pa.bool_()}


@cache
def table_schema(name: str, frames: Frames = "paths") -> pa.Schema:
    """The schema of one of TABLES. The same one stands in every shard, so that shards load together.

    `frames`: how sft and rl hold frames. Embedded, `images` holds PICTURES; none, `frame_times` (for each
    turn a list of seconds) stands in its place.
    """
    columns = msgspec.json.decode((resource("schemas") / f"{name}.json").read_bytes())["columns"]
    schema = pa.schema([(column, _arrow_type(entry["type"])) for column, entry in columns.items()])
    place = schema.get_field_index("images")
    if place < 0 or frames == "paths":
        return schema
    if frames == "none":
        return schema.set(place, pa.field("frame_times", pa.list_(pa.list_(pa.float64()))))
    return schema.set(place, pa.field("images", PICTURES))


def frames_layout(schema: pa.Schema) -> Frames:
    """How a table of sft or rl rows holds its frames, by its schema."""
    if "frame_times" in schema.names:
        return "none"
    place = schema.get_field_index("images")
    return "embedded" if place >= 0 and schema.field(place).type.equals(PICTURES) else "paths"


def _arrow_type(spec: Any) -> pa.DataType:
    if isinstance(spec, str):
        return _LEAVES[spec]
    if "list" in spec:
        return pa.list_(_arrow_type(spec["list"]))
    return pa.struct([(name, _arrow_type(inner)) for name, inner in spec["struct"].items()])


def rows_table(name: str, rows: Sequence[Any], frames: Frames = "paths") -> pa.Table:
    """Rows, dicts or records, as a table with exactly the schema of `name`.

    Raises KeyError for a missing column and TypeError for None in place of a list or struct.
    """
    names = table_schema(name, frames).names
    return columns_table(name, {column: _picked(rows, column) for column in names}, frames)


def columns_table(
    name: str, columns: Mapping[str, Sequence[Any] | pa.Array], frames: Frames = "paths"
) -> pa.Table:
    """The same of the values of each column, or of the columns themselves."""
    schema = table_schema(name, frames)
    return pa.table([column(columns[f.name], f.type) for f in schema], schema=schema)


def column(values: Sequence[Any] | pa.Array, kind: pa.DataType) -> pa.Array:
    """An array of nested values, built leaf by leaf; a struct may be a dict, a record or a tuple."""
    if isinstance(values, pa.Array):
        return values
    if pa.types.is_list(kind):
        return list_array(list(map(len, values)), column(list(chain.from_iterable(values)), kind.value_type))
    if pa.types.is_struct(kind):
        if values and isinstance(values[0], tuple):
            fields: Iterable[Sequence[Any]] = zip(*values, strict=True)
        else:
            fields = [_picked(values, f.name) for f in kind]
        inner = [column(each, f.type) for each, f in zip(fields, kind, strict=True)]
        return pa.StructArray.from_arrays(inner, fields=list(kind))
    if pa.types.is_string(kind):
        return strings(values)
    return pa.array(values, kind)


def _picked(values: Sequence[Any], name: str) -> list[Any]:
    pick: Any = attrgetter if values and isinstance(values[0], msgspec.Struct) else itemgetter
    return list(map(pick(name), values))


def list_array(lengths: Any, values: pa.Array) -> pa.Array:
    """Lists of the given lengths over one flat array."""
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), values)


def strings(values: Sequence[str | None]) -> pa.Array:
    """Text as an array; what is no valid Unicode (a file name in a foreign encoding) is written escaped."""
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:
        clean = [v and v.encode("utf-8", "backslashreplace").decode() for v in values]
        return pa.array(clean, pa.string())
