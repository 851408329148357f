"""SFT rows: a dialogue as one conversation of user turns with frames, each answered by a reply or silence."""

import math
from collections.abc import Callable, Sequence
from itertools import chain, pairwise

import numpy as np
import pyarrow as pa
from msgspec import Struct

from datagen.config import ExportOptions, Frames
from datagen.export.balance import turn_weights, without_tail
from datagen.export.content import (
    Messages,
    conversation,
    frame_counts,
    frame_paths,
    frame_times,
    spoken,
    text_fault,
    turns_fault,
    without_marks,
)
from datagen.export.schema import list_array, strings, table_schema
from datagen.export.tokens import TokenCounter
from datagen.records import Built, Dialogue, Rejection, Turn

Part = tuple[int, int, int]
"""First turn, the one after the last, and the tokens of a part of a dialogue."""


class SftRow(Struct, frozen=True, kw_only=True):
    """One SFT row before it is spelled out in columns."""

    question_id: str
    video_id: str
    data_source: str
    dialogue_type: str
    start: float
    first_frame: int
    texts: list[str]
    """As conversation() gives them."""
    frames: list[int]
    """Number of frames of each turn."""
    weights: list[float]
    """Of each turn, as turn_weights() gives them."""
    interval: float
    tokens: int


def sft_rows(
    built: Built,
    dialogue: Dialogue,
    turns: Sequence[Turn],
    options: ExportOptions,
    interval: float,
    counter: TokenCounter,
) -> tuple[list[SftRow], list[Rejection]]:
    """The rows of a dialogue: one, or several of about equal length where it exceeds `max_frames` frames.

    Those that still exceed `max_tokens` are halved, at a turn, until they do not; nothing is ever truncated.
    A later part opens with the question that is still active. A part in which no question is active teaches
    nothing and is dropped (`no_question`), as is a part with text that trainers would misread (`format`),
    and a single turn beyond `max_tokens` (`past_max_tokens`).
    Silence at the end that lasts longer than `silent_tail` is left out first (`silence_balance`).
    """
    rows = []
    rejected = []
    kept = without_tail(turns, options.silent_tail)
    if len(kept) < len(turns):
        detail = f"{len(turns) - len(kept)} silent turns after {kept[-1].time:g} s, beyond export.silent_tail"
        rejected.append(Rejection("export", built.video.id, dialogue.id, "silence_balance", detail))
    each = counter.turns(kept, built.video)
    said = spoken(kept)

    def tokens(first: int, end: int) -> int:
        return counter.opening(_carried(kept, first)) + sum(each[first:end])

    most = math.inf if options.max_tokens is None else options.max_tokens
    for first, end, length in _parts(kept, options.max_frames, tokens, most):
        part = kept[first:end]
        start = round((part[0].first_frame - 1) * interval, 6)
        row_id = dialogue.id if part[0].first_frame == 1 else f"{dialogue.id}@{round(start * 1000)}"
        question = _carried(kept, first)
        own = [number - first for number in said if first <= number < end]
        fault = turns_fault([part[number] for number in own])
        if question and (carried := text_fault(question)):
            fault = f"the question asked before {carried}"
        if question is None and not any(part[number].user for number in own):
            detail = f"no question is asked before {part[-1].time:g} s"
            rejected.append(Rejection("export", built.video.id, row_id, "no_question", detail))
        elif fault:
            rejected.append(Rejection("export", built.video.id, row_id, "format", fault))
        elif length > most:
            detail = f"the turn at {part[0].time:g} s alone takes {length} tokens"
            rejected.append(Rejection("export", built.video.id, row_id, "past_max_tokens", detail))
        else:
            rows.append(
                SftRow(
                    question_id=row_id,
                    video_id=built.video.id,
                    data_source=built.video.source,
                    dialogue_type=dialogue.type,
                    start=start,
                    first_frame=part[0].first_frame,
                    texts=conversation(part, own, question),
                    frames=frame_counts(part),
                    weights=turn_weights(part, options.weights),
                    interval=interval,
                    tokens=length,
                )
            )
    return rows, rejected


def _carried(turns: Sequence[Turn], first: int) -> str | None:
    """The question that is active when turn `first` begins, unless that turn asks one itself."""
    if turns[first].user:
        return None
    return next((turn.user for turn in reversed(turns[:first]) if turn.user), None)


def _parts(
    turns: Sequence[Turn], max_frames: int, tokens: Callable[[int, int], int], most: float
) -> list[Part]:
    """The parts of at most `max_frames` frames and, but for single turns, `most` tokens."""
    if not turns:
        return []
    largest = turns[0].last_frame - turns[0].first_frame + 1  # only the last turn can be smaller
    capacity = max(1, max_frames // largest)
    count = -(-len(turns) // capacity)
    cuts = [len(turns) * k // count for k in range(count + 1)]
    return [part for first, end in pairwise(cuts) for part in _halved(first, end, tokens, most)]


def _halved(first: int, end: int, tokens: Callable[[int, int], int], most: float) -> list[Part]:
    length = tokens(first, end)
    if end - first == 1 or length <= most:
        return [(first, end, length)]
    middle = (first + end) // 2
    return _halved(first, middle, tokens, most) + _halved(middle, end, tokens, most)


def sft_table(rows: Sequence[SftRow], layout: Frames = "paths") -> pa.Table:
    """Rows with the columns of schemas/sft.json; embedded frames are paths still."""
    shown = [row.frames for row in rows]
    firsts = [row.first_frame for row in rows]
    marks = without_marks(shown) if layout == "none" else shown
    messages = Messages([row.texts for row in rows], marks)
    ids = strings([row.video_id for row in rows])
    columns = {
        "messages": messages.strings(),
        "messages_blocks": messages.blocks(),
        "question_id": strings([row.question_id for row in rows]),
        "video_id": ids,
        "data_source": strings([row.data_source for row in rows]),
        "dialogue_type": strings([row.dialogue_type for row in rows]),
        "start": pa.array([row.start for row in rows], pa.float64()),
        "turn_weights": list_array(
            [len(row.weights) for row in rows],
            pa.array([weight for row in rows for weight in row.weights], pa.float64()),
        ),
        "turn_times": list_array([len(row.frames) for row in rows], _turn_times(rows)),
        "frame_interval": pa.array([row.interval for row in rows], pa.float64()),
        "num_tokens": pa.array([row.tokens for row in rows], pa.int64()),
    }
    if layout == "none":
        columns["frame_times"] = frame_times(firsts, shown, [row.interval for row in rows])
    else:
        counts = [sum(frames) for frames in shown]
        columns["images"] = list_array(counts, frame_paths([row.video_id for row in rows], firsts, counts))
    schema = table_schema("sft", "none" if layout == "none" else "paths")
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _turn_times(rows: Sequence[SftRow]) -> pa.Array:
    """Flat: number of the last frame of each turn, times the interval."""
    counts = np.array([len(row.frames) for row in rows], np.int64)
    shown = np.cumsum(np.fromiter(chain.from_iterable([row.frames for row in rows]), np.int64))
    ends = np.cumsum(counts)
    before = np.append(0, shown)[ends - counts]  # frames of the rows before
    firsts = np.array([row.first_frame for row in rows], np.int64)
    lasts = shown + np.repeat(firsts - 1 - before, counts)
    return pa.array(np.round(lasts * np.repeat([row.interval for row in rows], counts), 6), pa.float64())
