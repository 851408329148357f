"""The export: all that the pipeline made of the videos becomes the published tables.

Two passes over the videos in id order: one to choose what stays and to see how much that is, one to write.
All files are written below `.work/export` first and then swapped in, one table's whole folder after the
other, so that no table ever mixes shards of two exports. A crash between two swaps can leave tables of two
exports side by side; the hashes in run.json, which the caller writes last, tell, and exporting again repairs
it.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from datagen.config import Config
from datagen.dialogue.grid import make_turns
from datagen.export.rl import UserTurnsFile, rl_rows, rl_table
from datagen.export.schema import TABLES, rows_table, table_schema
from datagen.export.selection import select
from datagen.export.sft import SftRow, sft_rows, sft_table
from datagen.export.shards import ShardWriter, describe_shard, rewrite_shard, shard_count
from datagen.export.split import assign_splits, hash64
from datagen.export.statistics import Statistics
from datagen.export.summary import summarise
from datagen.export.tables import dialogue_rows, rejected_row, segment_rows, video_row
from datagen.records import NO_REPLY, Built, Dialogue, Rejection

RL_SPLITS = ("rl/train", "rl/val")


def export(
    builts: Callable[[], Iterator[Built]], rejected: Iterable[Rejection], out: Path, config: Config
) -> dict[str, Any]:
    """Write all tables below `out`, replacing those of an earlier export; returns the counts for run.json.

    `builts` gives a fresh iterator at each call, in order of video id (as strings), each id once.
    `rejected` holds what belongs to none of them; what was rejected within a video is taken from its Built.

    Raises ValueError where `builts` is out of order, UsageError where a file of exclusions cannot be used.
    """
    work = out / ".work" / "export"
    shutil.rmtree(work, ignore_errors=True)
    selection = select(_in_order(builts()), config)
    splits = assign_splits(selection.dialogues, config.export, config.seed)
    writers = _open_writers(work / "new", selection.videos, selection.dialogues, splits, config)
    statistics = Statistics(config, selection.often)
    user_turns = {split: UserTurnsFile(work / "new", split) for split in RL_SPLITS}
    counts: Counter[str] = Counter()
    for rejection in rejected:
        writers["rejected"].add(rejection.video_id, [rejected_row(rejection)])
    for whole in builts():
        built, lost = selection.apply(whole)
        if built:
            split = splits.get(built.video.id, "none")
            lost += _write_video(built, split, writers, user_turns, counts, statistics, config)
        writers["rejected"].add(whole.video.id, [rejected_row(rejection) for rejection in lost])
    for writer in writers.values():
        writer.close()
    for file in user_turns.values():
        file.close()
    _order_rows(writers, config)
    report = _report(work / "new", writers, counts)
    report["statistics"] = summarise(statistics, selection.questions, config.dataset)
    _swap(work, out)
    return report


def _in_order(builts: Iterable[Built]) -> Iterator[Built]:
    last = ""
    for built in builts:
        if built.video.id <= last:
            raise ValueError(f"export: video {built.video.id!r} comes after {last!r}; ids must ascend")
        last = built.video.id
        yield built


def _open_writers(
    folder: Path, videos: int, dialogues: dict[str, int], splits: dict[str, str], config: Config
) -> dict[str, ShardWriter]:
    options = config.export
    writers = {}
    shards = shard_count(max(videos, sum(dialogues.values())), options.dialogues_per_shard)
    for table in TABLES:
        if table != "rl":
            path = folder / table / "train"
            build = sft_table if table == "sft" else partial(rows_table, table)
            writers[table] = ShardWriter(path, shards, options.row_group_size, table_schema(table), build)
    for split in RL_SPLITS:
        held = sum(number for video, number in dialogues.items() if splits[video] == split)
        shards = shard_count(held, options.dialogues_per_shard)
        build = partial(rl_table, split=split.removeprefix("rl/"))
        writers[split] = ShardWriter(
            folder / split, shards, options.row_group_size, table_schema("rl"), build
        )
    return writers


def _write_video(
    built: Built,
    split: str,
    writers: dict[str, ShardWriter],
    user_turns: dict[str, UserTurnsFile],
    counts: Counter[str],
    statistics: Statistics,
    config: Config,
) -> list[Rejection]:
    video = built.video.id
    writers["videos"].add(video, [video_row(built, split, config.frames.interval)])
    writers["segments"].add(video, segment_rows(built))
    writers["dialogues"].add(video, dialogue_rows(built))
    if built.dialogues:
        statistics.add_video(built)
    rejected = []
    for dialogue in sorted(built.dialogues, key=lambda d: d.id):
        rejected += _write_dialogue(built, dialogue, split, writers, user_turns, counts, statistics, config)
    return rejected


def _write_dialogue(
    built: Built,
    dialogue: Dialogue,
    split: str,
    writers: dict[str, ShardWriter],
    user_turns: dict[str, UserTurnsFile],
    counts: Counter[str],
    statistics: Statistics,
    config: Config,
) -> list[Rejection]:
    interval = config.frames.interval
    turns, rejected, grid = make_turns(
        dialogue,
        built.watched.frame_count,
        interval,
        config.export,
        config.dialogue.max_reply_words,
        config.seed,
    )
    labels = [turn.label for turn in turns]
    counts.update({"turns": len(labels), "reply_turns": labels.count("reply")})
    counts.update({f"grid.{name}": number for name, number in grid.items()})
    statistics.add_dialogue(built, dialogue, turns)
    if split == "sft/train":
        sft, dropped = sft_rows(built, dialogue, turns, config.export, interval)
        writers["sft"].add(built.video.id, sft)
        _count_sft(sft, counts, config.frames.max_pixels)
    else:
        rl, dropped = rl_rows(built, dialogue, turns, config.export, interval)
        writers[split].add(built.video.id, rl)
        user_turns[split].add(rl)
    kind = split.partition("/")[0]
    counts.update(f"{kind}_dropped.{rejection.code}" for rejection in dropped)
    return [*rejected, *dropped]


def _count_sft(rows: Iterable[SftRow], counts: Counter[str], max_pixels: int) -> None:
    # A tokenizer makes at most one token of a byte; a message is wrapped in at most 8, a frame in 2.
    for row in rows:
        counts["sft_turns"] += len(row.frames)
        counts["sft_reply_turns"] += len(row.frames) - row.texts[2::2].count(NO_REPLY)
        tokens = len("".join(row.texts).encode()) + 8 * len(row.texts)
        tokens += sum(row.frames) * (max_pixels // (28 * 28) + 2)
        counts["sft_row_tokens_at_most"] = max(counts["sft_row_tokens_at_most"], tokens)


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
    """Sorted by all columns; a reason given twice for the same thing is one row."""
    rows = table.group_by(table.column_names, use_threads=False).aggregate([])
    return rows.sort_by([(name, "ascending") for name in table.column_names]).cast(table.schema)


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


def _report(folder: Path, writers: dict[str, ShardWriter], counts: Counter[str]) -> dict[str, Any]:
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
        "turns": counts["turns"],
        "reply_turns": counts["reply_turns"],
        "reply_rate": _rate(counts["reply_turns"], counts["turns"]),
        "sft_turns": counts["sft_turns"],
        "sft_reply_turns": counts["sft_reply_turns"],
        "sft_reply_rate": _rate(counts["sft_reply_turns"], counts["sft_turns"]),
        "sft_row_tokens_at_most": counts["sft_row_tokens_at_most"],
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
