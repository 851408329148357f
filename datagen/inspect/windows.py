"""RL windows with all that a policy may say in them: questions, captions, the true answers, SFT's replies."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from datagen.config import Config
from datagen.errors import Invalid
from datagen.export.pauc import Span
from datagen.inspect.dataset import UserTurn, read_rows, shards, turns_again
from datagen.inspect.rows import RlRecord
from datagen.records import NO_REPLY, Dialogue, Turn

_MOST_TURNS = 3600
"""A window of more decisions than this (an hour at one a second) is none."""


class Window(Struct, frozen=True, kw_only=True):
    """One RL row as a policy sees it. Tuples without more said have one item a decision turn."""

    id: str
    times: tuple[float, ...]
    """Seconds of the decision turns."""
    questions: tuple[str, ...]
    """The question active at each turn; empty before the first."""
    captions: tuple[str, ...]
    """Caption of the segment shown at each turn; empty where there is none."""
    spans: tuple[Span, ...]
    """The answers that can be earned, in order of time."""
    earlier: tuple[str, ...]
    """The replies in the prompt."""
    placed: tuple[str, ...] | None
    """What the dialogue's own turns say, as SFT teaches it; None where that cannot be derived."""


class Beside(NamedTuple):
    """What the other tables say about the videos of an RL shard."""

    captions: dict[str, list[tuple[float, str]]]
    """Start (seconds) and caption of each video's segments, in order."""
    turns: dict[str, tuple[Turn, ...]]
    """The turns of each dialogue, made again."""


def read_beside(out: Path, videos: set[str], config: Config | None) -> Beside:
    """Captions and turns of the given videos; rows that cannot be read are left out."""
    captions: dict[str, list[tuple[float, str]]] = {}
    for row in _rows(out, "segments", ["video_id", "start", "seen", "heard"], videos, "video_id"):
        if isinstance(row["start"], float):
            caption = row["seen"] or row["heard"] or ""
            captions.setdefault(row["video_id"], []).append((row["start"], caption))
    captions = {video: sorted(segments) for video, segments in captions.items()}
    turns: dict[str, tuple[Turn, ...]] = {}
    if config:
        counts = {
            row["id"]: (row["frame_count"], row["frame_interval"])
            for row in _rows(out, "videos", ["id", "frame_count", "frame_interval"], videos, "id")
        }
        columns = ["id", "video_id", "type", "questions", "provenance"]
        for row in _rows(out, "dialogues", columns, videos, "video_id"):
            if made := _turns(row, counts.get(row["video_id"]), config):
                turns[row["id"]] = made
    return Beside(captions, turns)


def _rows(
    out: Path, table: str, columns: list[str], videos: set[str], column: str
) -> Iterable[dict[str, Any]]:
    for path in shards(out)[table]:
        try:
            for _, row in read_rows(path, columns):
                if row.keys() >= set(columns) and row[column] in videos:
                    yield row
        except (Invalid, TypeError):
            continue


def _turns(row: dict[str, Any], frames: Any, config: Config) -> tuple[Turn, ...]:
    try:
        dialogue = msgspec.convert(row, Dialogue)
        count, interval = msgspec.convert(frames, tuple[int, float])
    except msgspec.ValidationError:
        return ()
    return turns_again(dialogue, count, interval, config)


def make_window(row: RlRecord, user_turns: Sequence[UserTurn], beside: Beside) -> Window:
    """The window of a row. Raises Invalid where its turns do not fit together."""
    truth = row.reward_model.ground_truth
    times = truth.model_pred_timestamps
    first = sum(message.role == "user" for message in row.prompt) - 1
    if first < 0 or not 0 < len(times) <= _MOST_TURNS or len(times) != len(user_turns) - first:
        raise Invalid("its turns and model_pred_timestamps do not fit together")
    if not all(map(math.isfinite, times)):
        raise Invalid("model_pred_timestamps are no times")
    spans = [Span(*answer.reply_timespan, answer.question, answer.content) for answer in truth.answer]
    if not all(math.isfinite(span.start) and math.isfinite(span.end) for span in spans):
        raise Invalid("a reply_timespan is no stretch of time")
    asked = ""
    questions = []
    for turn in user_turns:
        asked = next((block.text for block in turn.content if block.text), asked)
        questions.append(asked)
    segments = beside.captions.get(row.extra_info.video_id, [])
    turns = beside.turns.get(truth.question_id.rpartition("#seg")[0])
    return Window(
        id=truth.question_id,
        times=times,
        questions=tuple(questions[first:]),
        captions=tuple(_shown(segments, time) for time in times),
        spans=tuple(sorted(spans, key=lambda span: (span.start, span.end))),
        earlier=truth.prev_assistant_replies,
        placed=_placed(turns, times) if turns else None,
    )


def prompt_fault(row: RlRecord, turns: Sequence[Turn]) -> str | None:
    """How the prompt differs from the dialogue exported anew, or None."""
    said = [message.content for message in row.prompt if message.role == "assistant"]
    again = [turn.text for turn in turns[: len(said)]]
    if said == again:
        return None
    at = next((n for n, (a, b) in enumerate(zip(said, again, strict=False)) if a != b), len(again))
    place = f"at {turns[at].time:g} s" if at < len(turns) else "after the dialogue's end"
    return f"prompt: the reply {place} is not the one that the dialogues table gives on export"


def _shown(segments: Sequence[tuple[float, str]], time: float) -> str:
    """The caption of the segment that the frame at `time` belongs to; a turn on a seam shows the earlier."""
    return next((caption for start, caption in reversed(segments) if start < time), "")


def _placed(turns: Sequence[Turn], times: Sequence[float]) -> tuple[str, ...] | None:
    said = {turn.time: turn.text if turn.label == "reply" else NO_REPLY for turn in turns}
    return tuple(said[time] for time in times) if all(time in said for time in times) else None
