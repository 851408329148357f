"""Writes tables as Parquet shards: bounded memory, the same bytes for the same rows.

A row's shard is chosen by the hash of its video's id, so that a small change of a build touches few shards.
Nothing else than rows, schema and the version of the Parquet writer goes into a file: no clock, no host.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from datagen.export.split import hash64


def shard_count(items: int, per_shard: int) -> int:
    """Smallest power of two that leaves at most about `per_shard` items in a shard.

    A power of two, so that a build that outgrows its number of shards splits each of them in two.
    """
    return 1 << max(0, -(-items // per_shard) - 1).bit_length()


def shard_index(video_id: str, shards: int) -> int:
    """The shard of all rows of a video: ranges of the id's hash, equally wide."""
    return hash64(video_id) * shards >> 64


class ShardWriter:
    """The shards of one split of a table, all open at once, each buffering less than one row group.

    The files are `<stem>-00000-of-00004.parquet` and so on. Rows of a shard stand in the order in which they
    are added.
    """

    def __init__(self, stem: Path, shards: int, row_group_size: int, schema: pa.Schema) -> None:
        stem.parent.mkdir(parents=True, exist_ok=True)
        self.paths = [Path(f"{stem}-{k:05d}-of-{shards:05d}.parquet") for k in range(shards)]
        self._size = row_group_size
        self._buffers = [schema.empty_table() for _ in self.paths]
        self._files = [open_shard(path, schema) for path in self.paths]

    def add(self, shard: int, rows: pa.Table) -> None:
        """Append rows to a shard."""
        rows = pa.concat_tables([self._buffers[shard], rows])
        whole = rows.num_rows // self._size * self._size
        if whole:
            self._write(shard, rows.slice(0, whole))
        self._buffers[shard] = rows.slice(whole)

    def sort_in(self, video_ids: Sequence[str], rows: pa.Table) -> None:
        """Append rows of any videos, each to the shard of its video."""
        places = [shard_index(video, len(self.paths)) for video in video_ids]
        for shard in sorted(set(places)):
            self.add(shard, rows.filter(pa.array([place == shard for place in places])))

    def close(self) -> None:
        """Write what is buffered. A shard without rows is a valid file without a row group."""
        for shard, rows in enumerate(self._buffers):
            if rows.num_rows:
                self._write(shard, rows)
            self._files[shard].close()

    def _write(self, shard: int, rows: pa.Table) -> None:
        self._files[shard].write_table(rows.combine_chunks(), row_group_size=self._size)


def open_shard(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """A Parquet file to write tables of `schema` to."""
    return pq.ParquetWriter(path, schema, compression="zstd", compression_level=3)


def rewrite_shard(path: Path, row_group_size: int, change: Callable[[pa.Table], pa.Table]) -> None:
    """Replace the rows of a shard, held in memory, by what `change` makes of them."""
    table = change(pq.read_table(path, partitioning=None))
    with open_shard(path, table.schema) as file:
        if table.num_rows:  # datasets fails on a row group without rows
            file.write_table(table.combine_chunks(), row_group_size=row_group_size)


def describe_shard(path: Path) -> dict[str, Any]:
    """Hash, size and number of rows of a file, for the run's record."""
    with path.open("rb") as file:
        digest = sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return {
        "sha256": digest.hexdigest(),
        "bytes": path.stat().st_size,
        "rows": pq.read_metadata(path).num_rows,
    }
