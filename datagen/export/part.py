"""What a stretch of videos becomes: their rows of all tables, and what is counted on the way.

Stretches know nothing of each other, so that several processes can work on them.
"""

import gc
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import msgspec
import pyarrow as pa
from msgspec import Struct

from datagen.config import Config, Frames
from datagen.dialogue.grid import make_turns
from datagen.export.rl import RlRow, rl_rows, rl_table, user_turns_json
from datagen.export.schema import TABLES, rows_table
from datagen.export.selection import Selection
from datagen.export.sft import SftRow, sft_rows, sft_table
from datagen.export.statistics import Statistics
from datagen.export.tables import dialogues_table, segments_table, videos_table, with_calls
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
        self.builts: list[Built] = []
        self.rejected: list[Rejection] = []
        self.sft: list[SftRow] = []
        self.rl: dict[str, list[RlRow]] = {split: [] for split in RL_SPLITS}
        self.counts: Counter[str] = Counter()
        self.statistics = Statistics(shared.config, shared.selection.often)


def pack(built: Built) -> bytes:
    """A video as the ledger keeps it."""
    return zlib.compress(msgspec.json.encode(built), 1)


_Kind = TypeVar("_Kind")


def unpack(item: bytes, kind: type[_Kind]) -> _Kind:
    """The opposite of pack(), or of it as much as `kind` holds."""
    return msgspec.json.decode(zlib.decompress(item, bufsize=1 << 16), type=kind)


@contextmanager
def no_cycles() -> Iterator[None]:
    """Nothing made within has cycles, and looking for them would take a tenth of the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@no_cycles()
def make_part(items: Iterable[Item], shared: Shared) -> tuple[dict[str, pa.Table], Found]:
    """The tables of those of NAMES of which there are rows, in the order of the videos, and the rest."""
    made = _Rows(shared, _counter(shared.config))
    for item in items:
        whole = unpack(item, Built) if isinstance(item, bytes) else item
        built, lost = shared.selection.apply(whole)
        if built:
            made.builts.append(built)
            lost += _add_video(built, shared.splits.get(built.video.id, "none"), made)
        made.rejected += with_calls(whole, lost)
    tables = _tables(made, shared)
    found = made.statistics
    found.count_grids()
    user_turns = {split: user_turns_json(made.rl[split]) for split in RL_SPLITS}
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


def _tables(made: _Rows, shared: Shared) -> dict[str, pa.Table]:
    """A table for each of NAMES of which there are rows."""
    frames = shared.config.export.frames
    layout: Frames = "none" if frames == "none" else "paths"  # pictures are put in at the end
    tables = {
        "videos": videos_table(made.builts, shared.splits, shared.config.frames.interval),
        "segments": segments_table(made.builts),
        "dialogues": dialogues_table(made.builts),
        "sft": sft_table(made.sft, layout),
        "rejected": rows_table("rejected", made.rejected),
    }
    for split, rows in made.rl.items():
        if rows:
            tables[split] = rl_table(rows, split.removeprefix("rl/"), layout)
    return {name: table for name, table in tables.items() if table.num_rows}


def _add_video(built: Built, split: str, made: _Rows) -> list[Rejection]:
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
    made.statistics.add_dialogue(built, dialogue, turns)
    for name, number in grid.items():
        counts[f"grid.{name}"] += number
    if split == "sft/train":
        sft, dropped = sft_rows(built, dialogue, turns, config.export, interval, made.counter)
        made.sft += sft
        _count_sft(sft, counts)
        made.statistics.tokens["sft"].update([row.tokens for row in sft])
    else:
        rl, dropped = rl_rows(built, dialogue, turns, config.export, interval, made.counter)
        made.rl[split] += rl
        made.statistics.tokens["rl"].update([row.tokens for row in rl])
    kind = split.partition("/")[0]
    for rejection in dropped:
        counts[f"{kind}_dropped.{rejection.code}"] += 1
    return [*rejected, *dropped]


def _count_sft(rows: Iterable[SftRow], counts: Counter[str]) -> None:
    for row in rows:
        counts["sft_turns"] += len(row.frames)
        counts["sft_reply_turns"] += len(row.frames) - row.texts[2::2].count(NO_REPLY)
