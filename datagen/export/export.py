"""The export: all that the pipeline made of the videos becomes the published tables.

Two passes over the videos in id order: one to choose what stays and to see how much that is, one to write.
All files are written below `.work/export` first and then swapped in, one table's whole folder after the
other, so that no table ever mixes shards of two exports. A crash between two swaps can leave tables of two
exports side by side; the hashes in run.json, which the caller writes last, tell, and exporting again repairs
it.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from datagen.config import Config, Frames
from datagen.export.embed import SHARD_BYTES, embed_shard, folder_bytes
from datagen.export.part import NAMES, RL_SPLITS, Found, Item, Shared, no_cycles, unpack
from datagen.export.rl import UserTurnsFile
from datagen.export.schema import TABLES, rows_table, table_schema
from datagen.export.selection import Brief, Selection, select
from datagen.export.shards import ShardWriter, describe_shard, rewrite_shard, shard_count, shard_index
from datagen.export.split import assign_splits, hash64
from datagen.export.statistics import Statistics
from datagen.export.summary import summarise
from datagen.export.workers import STRETCH, make_parts
from datagen.records import Built, Rejection

WORTH_CHILDREN = 1500
"""Videos from which on children are worth the second that they take to start."""

SORTED_AT_ONCE = 4096
"""Dialogues to a shard of rejected and rl at most: their rows are put in order in memory."""


def export(
    builts: Callable[[], Iterator[Item]],
    rejected: Iterable[Rejection],
    out: Path,
    config: Config,
    workers: int = 1,
) -> dict[str, Any]:
    """Write all tables below `out`, replacing those of an earlier export; returns the counts for run.json.

    `builts` gives a fresh iterator at each call, in order of video id (as strings), each id once.
    `rejected` holds what belongs to none of them; what was rejected within a video is taken from its Built.
    With more than one of `workers`, that many children help where it is worth it; the bytes are the same.

    Raises ValueError where `builts` is out of order, UsageError where a file of exclusions cannot be used.
    """
    work = out / ".work" / "export"
    shutil.rmtree(work, ignore_errors=True)
    sizes: dict[str, int] = {}
    ids: list[str] = []
    with no_cycles():
        selection = select(_in_order(builts(), out, config.export.frames, ids, sizes), config)
    splits = assign_splits(selection.dialogues, config.export, config.seed)
    writers = _open_writers(work / "new", selection, splits, sizes, config)
    statistics = Statistics(config, selection.often)
    user_turns = {split: UserTurnsFile(work / "new", split) for split in RL_SPLITS}
    counts: Counter[str] = Counter()
    shards = len(writers["videos"].paths)

    def take(shard: int, tables: dict[str, pa.Table], found: Found) -> None:
        for name, rows in tables.items():
            _write_rows(writers[name], shard, shards, rows)
        counts.update(found.counts)
        statistics.add(found.sources, found.shapes, found.templates, found.tokens)
        for split, turns in found.user_turns.items():
            user_turns[split].add(turns)

    outside = list(rejected)
    if outside:
        rows = rows_table("rejected", outside)
        writers["rejected"].sort_in([rejection.video_id for rejection in outside], rows)
    children = workers if len(ids) >= WORTH_CHILDREN else 1
    shared = Shared(config, splits, selection)
    make_parts(_stretches(ids, builts(), shards), shared, work / "parts", children, take)
    for writer in writers.values():
        writer.close()
    for file in user_turns.values():
        file.close()
    _order_rows(writers, config)
    if config.export.frames == "embedded":
        _embed(writers, out)
    _drop_empty(writers)
    report = _report(work / "new", writers, statistics.total, counts)
    report["statistics"] = summarise(statistics, selection.questions, config.dataset)
    _swap(work, out)
    return report


def _in_order(
    builts: Iterable[Item], out: Path, frames: Frames, ids: list[str], sizes: dict[str, int]
) -> Iterator[Built | Brief]:
    """The videos, one by one. `ids` learns theirs, and `sizes`, where frames are embedded, their bytes."""
    last = ""
    for item in builts:
        built = unpack(item, Brief) if isinstance(item, bytes) else item
        if built.video.id <= last:
            raise ValueError(f"export: video {built.video.id!r} comes after {last!r}; ids must ascend")
        last = built.video.id
        ids.append(last)
        if frames == "embedded" and built.dialogues:
            sizes[last] = folder_bytes(out / "frames" / last)
        yield built


def _stretches(ids: Sequence[str], items: Iterable[Item], shards: int) -> Iterator[tuple[int, list[Item]]]:
    """The videos in stretches of one shard each, with its number."""
    waiting: list[list[Item]] = [[] for _ in range(shards)]
    for video, item in zip(ids, items, strict=True):
        shard = shard_index(video, shards)
        waiting[shard].append(item)
        if len(waiting[shard]) == STRETCH:
            yield shard, waiting[shard]
            waiting[shard] = []
    yield from ((shard, items) for shard, items in enumerate(waiting) if items)


def _write_rows(writer: ShardWriter, shard: int, shards: int, rows: pa.Table) -> None:
    """Write rows of shard number `shard` of `shards` to a table that may have more shards, or fewer."""
    own = len(writer.paths)
    if own <= shards:
        writer.add(shard * own // shards, rows)
    else:
        place = rows.schema.get_field_index("video_id")
        videos = rows["video_id"] if place >= 0 else pc.struct_field(rows["extra_info"], "video_id")
        writer.sort_in(videos.to_pylist(), rows)


def _open_writers(
    folder: Path, selection: Selection, splits: dict[str, str], sizes: dict[str, int], config: Config
) -> dict[str, ShardWriter]:
    options = config.export
    layout: Frames = "none" if options.frames == "none" else "paths"  # pictures are put in at the end
    dialogues = selection.dialogues
    shards = shard_count(max(selection.videos, sum(dialogues.values())), options.dialogues_per_shard)
    sorted_by = min(options.dialogues_per_shard, SORTED_AT_ONCE)
    writers = {}
    for name in NAMES:
        table, _, split = name.partition("/")
        enough = shards
        if table == "rejected":
            enough = shard_count(max(selection.videos, sum(dialogues.values())), sorted_by)
        if split:
            held = sum(number for video, number in dialogues.items() if splits[video] == name)
            enough = shard_count(held, sorted_by)
        if table in ("sft", "rl"):
            enough = max(
                enough, _shards_for_pictures(dialogues, splits, sizes, name if split else "sft/train")
            )
        stem = folder / table / (split or "train")
        writers[name] = ShardWriter(stem, enough, options.row_group_size, table_schema(table, layout))
    return writers


def _shards_for_pictures(
    dialogues: dict[str, int], splits: dict[str, str], sizes: dict[str, int], split: str
) -> int:
    held = sum(sizes.get(v, 0) * number for v, number in dialogues.items() if splits[v] == split)
    return shard_count(held, SHARD_BYTES)


def _embed(writers: dict[str, ShardWriter], out: Path) -> None:
    """Put the pictures into the rows."""
    for name in ("sft", *RL_SPLITS):
        for path in writers[name].paths:
            whole = path.with_suffix(".embedded")
            embed_shard(path, whole, out)
            whole.rename(path)


def _drop_empty(writers: dict[str, ShardWriter]) -> None:
    """A shard without rows has no file: `datasets` 4, which ms-swift asks for, fails on one among others.

    Of a table without any row the first stays, for its schema; of an RL split none does.
    """
    for name, writer in writers.items():
        full = [path for path in writer.paths if pq.read_metadata(path).num_rows]
        kept = full or ([] if name in RL_SPLITS else writer.paths[:1])
        for path in writer.paths:
            if path not in kept:
                path.unlink()
        writer.paths = kept


def _order_rows(writers: dict[str, ShardWriter], config: Config) -> None:
    size = config.export.row_group_size
    for path in writers["rejected"].paths:
        rewrite_shard(path, size, _sort_rejected)
    for split in RL_SPLITS:
        first = 0
        for path in writers[split].paths:
            rewrite_shard(path, size, partial(_shuffle_rl, first=first, seed=config.seed))
            first += pq.read_metadata(path).num_rows


def _sort_rejected(table: pa.Table) -> pa.Table:
    """Sorted by all columns of text; a reason given twice for the same thing is one row."""
    names = [field.name for field in table.schema if pa.types.is_string(field.type)]
    rows = table.sort_by([(name, "ascending") for name in names])
    texts = list(zip(*(rows[name].to_pylist() for name in names), strict=True))
    first = [n == 0 or texts[n] != texts[n - 1] for n in range(len(texts))]
    return rows.filter(pa.array(first, pa.bool_()))


def _shuffle_rl(table: pa.Table, first: int, seed: int) -> pa.Table:
    """In the order of a seeded hash, as the released trainer does not shuffle; numbered from `first` on."""
    info = table["extra_info"].combine_chunks()
    ids = pc.struct_field(info, "question_id").to_pylist()
    order = pa.array(sorted(range(len(ids)), key=lambda row: (hash64(seed, ids[row]), ids[row])), pa.int64())
    fields = {field.name: pc.struct_field(info, field.name).take(order) for field in info.type}
    fields["index"] = pa.array(range(first, first + len(ids)), pa.int64())
    numbered = pa.StructArray.from_arrays(list(fields.values()), fields=list(info.type))
    place = table.schema.get_field_index("extra_info")
    return table.take(order).set_column(place, table.schema.field(place), numbered)


def _report(
    folder: Path, writers: dict[str, ShardWriter], total: Counter[str], counts: Counter[str]
) -> dict[str, Any]:
    shards = {
        path.relative_to(folder).as_posix(): describe_shard(path)
        for writer in writers.values()
        for path in writer.paths
    }
    drops: Counter[str] = Counter()
    for path in writers["rejected"].paths:
        drops.update(pq.read_table(path, columns=["code"], partitioning=None)["code"].to_pylist())
    rows = {
        name if "/" in name else f"{name}/train": sum(
            shards[path.relative_to(folder).as_posix()]["rows"] for path in writer.paths
        )
        for name, writer in writers.items()
    }
    return {
        "rows": rows,
        "turns": total["turns"],
        "reply_turns": total["replies"],
        "reply_rate": _rate(total["replies"], total["turns"]),
        "sft_turns": counts["sft_turns"],
        "sft_reply_turns": counts["sft_reply_turns"],
        "sft_reply_rate": _rate(counts["sft_reply_turns"], counts["sft_turns"]),
        "drops": dict(sorted(drops.items())),
        "sft_dropped": _under(counts, "sft_dropped."),
        "rl_dropped": _under(counts, "rl_dropped."),
        "grid": _under(counts, "grid."),
        "shards": shards,
    }


def _rate(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0


def _under(counts: Counter[str], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): n for name, n in sorted(counts.items()) if name.startswith(prefix)}


def _swap(work: Path, out: Path) -> None:
    (work / "old").mkdir()
    for table in TABLES:
        if (out / table).exists():
            (out / table).rename(work / "old" / table)
        (work / "new" / table).rename(out / table)
    shutil.rmtree(work)
