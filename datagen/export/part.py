"""What a stretch of videos becomes: their rows of all tables, and what is counted on the way.

Stretches know nothing of each other, so that several processes can work on them.
"""

import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pyarrow as pa
from msgspec import Struct

from datagen.config import Config, Frames
from datagen.dialogue.grid import make_turns
from datagen.export.rl import rl_rows, rl_table, user_turns_json
from datagen.export.schema import TABLES, rows_table
from datagen.export.selection import Selection
from datagen.export.sft import SftRow, sft_rows, sft_table
from datagen.export.statistics import Statistics
from datagen.export.tables import dialogue_rows, rejected_rows, segment_rows, video_row
from datagen.export.tokens import TokenCounter
from datagen.records import NO_REPLY, Built, Dialogue, Location, Rejection

RL_SPLITS = ("rl/train", "rl/val")
NAMES = (*(table for table in TABLES if table != "rl"), *RL_SPLITS)
"""The tables as they are written, those of RL one for each split."""

Item = Built | bytes
"""A video with all that was made of it; as bytes, as pack() makes them and the ledger keeps them."""


class Shared(Struct, frozen=True):
    """What all stretches of an export have in common."""

    config: Config
    splits: dict[str, str]
    """Of each video that has a dialogue."""
    selection: Selection


class Found(Struct):
    """What a stretch has beside its tables."""

    counts: dict[str, int]
    sources: dict[str, dict[str, int]]
    shapes: dict[str, dict[str, int]]
    templates: dict[str, dict[str, int]]
    tokens: dict[str, dict[int, int]]
    """These four as in Statistics."""
    user_turns: dict[str, bytes]
    """Of each RL split, as UserTurnsFile takes them."""


class _Rows:
    """The rows of a stretch as far as they are known."""

    def __init__(self, shared: Shared, counter: TokenCounter) -> None:
        self.config = shared.config
        self.counter = counter
        self.rows: dict[str, list[Any]] = {name: [] for name in NAMES}
        self.counts: Counter[str] = Counter()
        self.statistics = Statistics(shared.config, shared.selection.often)


def pack(built: Built) -> bytes:
    """A video as the ledger keeps it."""
    return zlib.compress(msgspec.json.encode(built), 1)


_Kind = TypeVar("_Kind")


def unpack(item: bytes, kind: type[_Kind]) -> _Kind:
    """The opposite of pack(), or of it as much as `kind` holds."""
    return msgspec.json.decode(zlib.decompress(item), type=kind)


def make_part(items: Iterable[Item], shared: Shared) -> tuple[dict[str, pa.Table], Found]:
    """The tables of those of NAMES of which there are rows, in the order of the videos, and the rest."""
    made = _Rows(shared, _counter(shared.config))
    for item in items:
        whole = unpack(item, Built) if isinstance(item, bytes) else item
        built, lost = shared.selection.apply(whole)
        if built:
            lost += _add_video(built, shared.splits.get(built.video.id, "none"), made)
        made.rows["rejected"] += rejected_rows(whole, lost)
    tables = {name: _table(name, rows, shared.config) for name, rows in made.rows.items() if rows}
    found = made.statistics
    user_turns = {split: user_turns_json(made.rows[split]) for split in RL_SPLITS}
    return tables, Found(
        dict(made.counts),
        dict(found.sources),
        dict(found.shapes),
        dict(found.templates),
        dict(found.tokens),
        user_turns,
    )


def save_part(items: list[bytes], shared: Location, folder: Location) -> Found:
    """The same with the tables in `folder`, for a process of its own; `shared` is a file of JSON."""
    tables, found = make_part(items, _read_shared(shared.path))
    Path(folder.path).mkdir(parents=True, exist_ok=True)  # a child may have died at it
    for name, table in tables.items():
        with pa.OSFile(str(_file(folder, name)), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    return found


def load_tables(folder: Location) -> dict[str, pa.Table]:
    """The tables that save_part() left. They may be used after the files are deleted."""
    files = {name: _file(folder, name) for name in NAMES}
    return {
        name: pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        for name, path in files.items()
        if path.exists()
    }


def _file(folder: Location, name: str) -> Path:
    return Path(folder.path) / f"{name.replace('/', '-')}.arrow"


@lru_cache(maxsize=1)
def _read_shared(path: str) -> Shared:
    return msgspec.json.decode(Path(path).read_bytes(), type=Shared)


_counters: list[tuple[Config, TokenCounter]] = []


def _counter(config: Config) -> TokenCounter:
    """The one used before, where that serves: a tokenizer takes seconds to load."""
    if not _counters or _counters[0][0] != config:
        _counters[:] = [(config, TokenCounter(config))]
    return _counters[0][1]


def _table(name: str, rows: Sequence[Any], config: Config) -> pa.Table:
    layout: Frames = "none" if config.export.frames == "none" else "paths"  # pictures are put in at the end
    if name == "sft":
        return sft_table(rows, layout)
    if name in RL_SPLITS:
        return rl_table(rows, name.removeprefix("rl/"), layout)
    return rows_table(name, rows)


def _add_video(built: Built, split: str, made: _Rows) -> list[Rejection]:
    made.rows["videos"].append(video_row(built, split, made.config.frames.interval))
    made.rows["segments"] += segment_rows(built)
    made.rows["dialogues"] += dialogue_rows(built)
    if built.dialogues:
        made.statistics.add_video(built)
    rejected = []
    for dialogue in sorted(built.dialogues, key=lambda d: d.id):
        rejected += _add_dialogue(built, dialogue, split, made)
    return rejected


def _add_dialogue(built: Built, dialogue: Dialogue, split: str, made: _Rows) -> list[Rejection]:
    config, counts = made.config, made.counts
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
    made.statistics.add_dialogue(built, dialogue, turns)
    if split == "sft/train":
        sft, dropped = sft_rows(built, dialogue, turns, config.export, interval, made.counter)
        made.rows["sft"] += sft
        _count_sft(sft, counts)
        made.statistics.tokens["sft"].update(row.tokens for row in sft)
    else:
        rl, dropped = rl_rows(built, dialogue, turns, config.export, interval, made.counter)
        made.rows[split] += rl
        made.statistics.tokens["rl"].update(row.tokens for row in rl)
    kind = split.partition("/")[0]
    counts.update(f"{kind}_dropped.{rejection.code}" for rejection in dropped)
    return [*rejected, *dropped]


def _count_sft(rows: Iterable[SftRow], counts: Counter[str]) -> None:
    for row in rows:
        counts["sft_turns"] += len(row.frames)
        counts["sft_reply_turns"] += len(row.frames) - row.texts[2::2].count(NO_REPLY)
