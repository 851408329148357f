"""A dataset as it lies in a folder, whoever wrote it: shards, user turns, frames. Nothing here is trusted."""

import math
import mmap
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from datagen.config import Config
from datagen.dialogue.grid import make_turns
from datagen.errors import Invalid
from datagen.export.content import FRAME
from datagen.records import Dialogue, Turn

FOLDERS = ("videos", "segments", "dialogues", "sft", "rl", "rejected")
SPLIT = re.compile(r"(train|val)-[0-9]{5}-of-[0-9]{5}\.parquet")
_MOST_FRAMES = 10_000_000
"""A frame count beyond this (half a year at 2 s) is none."""


def shards(out: Path) -> dict[str, list[Path]]:
    """The Parquet files of each table by the name of its folder, in order of name."""
    return {folder: sorted((out / folder).glob("*.parquet")) for folder in FOLDERS}


def read_run(out: Path) -> dict[str, Any]:
    """run.json. Raises Invalid, with the file's name."""
    try:
        run = msgspec.json.decode((out / "run.json").read_bytes())
    except OSError as error:
        raise Invalid(f"run.json: {error.strerror}; give the folder of a finished build") from None
    except (ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise Invalid(f"run.json: cannot be read: {one_line(error)}; run the build again") from None
    if isinstance(run, dict) and run.get("status") != "done":
        status = str(run.get("status"))[:40]
        raise Invalid(f"run.json: status is {status!r}, not 'done': run the build to its end")
    if not isinstance(run, dict) or not isinstance(run.get("shards"), dict):
        raise Invalid("run.json: does not list the shards with their hashes; run the build again")
    return run


def read_config(run: dict[str, Any]) -> Config:
    """The pipeline's values that the dataset was built with. Raises Invalid, with the file's name."""
    try:
        return msgspec.convert(run.get("pipeline"), Config)
    except msgspec.ValidationError as error:
        raise Invalid(f"run.json: pipeline: {one_line(error)}") from None


def read_rows(path: Path, columns: list[str] | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a shard with their numbers from 0, one row group in memory at a time.

    Raises Invalid where it cannot be read on; text that is no Unicode ends there too.
    """
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            if missing := set(columns or ()) - set(file.schema_arrow.names):
                raise ValueError(f"has no column {', '.join(sorted(missing))}")
            for group in range(file.num_row_groups):
                for batch in file.read_row_group(group, columns=columns).to_batches(max_chunksize=256):
                    for row in batch.to_pylist():
                        yield number, row
                        number += 1
    except (OSError, pa.ArrowException, ValueError, KeyError) as error:
        raise Invalid(f"cannot be read after row {number}: {one_line(error)}") from None


def all_rows(out: Path, table: str, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a table. Raises Invalid, with the file's name."""
    for path in shards(out)[table]:
        try:
            yield from (row for _, row in read_rows(path, columns))
        except Invalid as error:
            raise Invalid(f"{table}/{path.name}: {error}") from None


def turns_again(dialogue: Dialogue, frames: int, interval: float, config: Config) -> tuple[Turn, ...]:
    """The turns of a dialogue made again; none where a time in it is none, or the frames are none."""
    times = [interval, *(question.ask_time for question in dialogue.questions)]
    for answer in (answer for question in dialogue.questions for answer in question.answers):
        times += [answer.evidence_start, answer.evidence_end, answer.reply_start, answer.reply_end]
    if not all(map(math.isfinite, times)) or interval <= 0 or not 0 <= frames <= _MOST_FRAMES:
        return ()
    words = config.dialogue.max_reply_words
    return make_turns(dialogue, frames, interval, config.export, words, config.seed)[0]


def read_schema(path: Path) -> pa.Schema:
    """The schema of a shard. Raises Invalid."""
    try:
        return pq.read_schema(path)
    except (OSError, pa.ArrowException, ValueError) as error:
        raise Invalid(f"cannot be read as Parquet: {one_line(error)}") from None


class Block(msgspec.Struct, frozen=True):
    """A frame or a question of a user turn, or a frame of an RL row."""

    type: str
    image: str = ""
    text: str = ""


class UserTurn(msgspec.Struct, frozen=True):
    """One turn of the viewer, as the RL trainer fetches it."""

    role: str
    time: float
    content: tuple[Block, ...]
    frame_times: tuple[float, ...] = ()
    """Seconds of its frames, where they are not in `content`."""


class UserTurns:
    """A file of user turns, mapped into memory and decoded row by row.

    Raises Invalid where it is missing or no JSON object.
    """

    def __init__(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                # Never closed by hand: the rows below point into it.
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._rows = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        except (OSError, ValueError, msgspec.MsgspecError, RecursionError) as error:
            raise Invalid(f"cannot be read as a JSON object: {one_line(error)}") from None

    def get(self, question_id: str) -> tuple[UserTurn, ...]:
        """The turns of a row. Raises Invalid."""
        try:
            return msgspec.json.decode(self._rows[question_id], type=tuple[UserTurn, ...])
        except KeyError:
            raise Invalid("has no user turns") from None
        except (ValueError, msgspec.MsgspecError, RecursionError) as error:
            raise Invalid(f"user turns: {one_line(error)}") from None


class Frames:
    """Which frames are there; where the whole folder is missing, `there` tells once for all."""

    def __init__(self, out: Path) -> None:
        self._root = out / "frames"
        self._names = lru_cache(maxsize=256)(self._list)
        self.there = self._root.is_dir()

    def faults(self, paths: Sequence[str], video: str) -> Iterator[str]:
        """What is wrong with the frames of a row: the first that cannot be read, or a gap between them."""
        numbers = []
        for path in paths:
            match = FRAME.fullmatch(path)
            if not match or match[1] != video or video in (".", ".."):
                yield f"{path[:200]!r} is not frames/{video}/<number>.jpg"
                return
            if self.there and f"{match[2]}.jpg" not in self._names(video):
                yield f"{path} does not exist"
                return
            numbers.append(int(match[2]))
        if numbers and numbers != list(range(numbers[0], numbers[0] + len(numbers))):
            yield "frames do not follow one another"

    def _list(self, video: str) -> frozenset[str]:
        try:
            return frozenset(entry.name for entry in (self._root / video).iterdir())
        except (OSError, ValueError):
            return frozenset()


def one_line(error: Exception) -> str:
    """What went wrong, short enough for a message."""
    return " ".join(str(error).split())[:200]
