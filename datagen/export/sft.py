"""SFT rows: a dialogue as one conversation of user turns with frames, each answered by a reply or silence."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
from msgspec import Struct

from datagen.config import ExportOptions
from datagen.export.balance import turn_weights, without_tail
from datagen.export.content import Messages, conversation, frame_paths, text_fault, turns_fault
from datagen.export.schema import list_array, strings, table_schema
from datagen.records import Built, Dialogue, Rejection, Turn


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


def sft_rows(
    built: Built, dialogue: Dialogue, turns: Sequence[Turn], options: ExportOptions, interval: float
) -> tuple[list[SftRow], list[Rejection]]:
    """The rows of a dialogue: one, or several of about equal length where it exceeds `max_frames` frames.

    A later part opens with the question that is still active. A part in which no question is active teaches
    nothing and is dropped (`no_question`), as is a part with text that trainers would misread (`format`).
    Silence at the end that lasts longer than `silent_tail` is left out first (`silence_balance`).
    """
    rows = []
    rejected = []
    active: str | None = None
    kept = without_tail(turns, options.silent_tail)
    if len(kept) < len(turns):
        detail = f"{len(turns) - len(kept)} silent turns after {kept[-1].time:g} s, beyond export.silent_tail"
        rejected.append(Rejection("export", built.video.id, dialogue.id, "silence_balance", detail))
    for part in _parts(kept, options.max_frames):
        start = round((part[0].first_frame - 1) * interval, 6)
        row_id = dialogue.id if part[0].first_frame == 1 else f"{dialogue.id}@{round(start * 1000)}"
        question = None if part[0].user else active
        active = next((turn.user for turn in reversed(part) if turn.user), active)
        fault = turns_fault(part)
        if question and (carried := text_fault(question)):
            fault = f"the question asked before {carried}"
        if active is None:
            detail = f"no question is asked before {part[-1].time:g} s"
            rejected.append(Rejection("export", built.video.id, row_id, "no_question", detail))
        elif fault:
            rejected.append(Rejection("export", built.video.id, row_id, "format", fault))
        else:
            rows.append(
                SftRow(
                    question_id=row_id,
                    video_id=built.video.id,
                    data_source=built.video.source,
                    dialogue_type=dialogue.type,
                    start=start,
                    first_frame=part[0].first_frame,
                    texts=conversation(part, question),
                    frames=[turn.last_frame - turn.first_frame + 1 for turn in part],
                    weights=turn_weights(part, options.weights),
                    interval=interval,
                )
            )
    return rows, rejected


def _parts(turns: Sequence[Turn], max_frames: int) -> list[Sequence[Turn]]:
    if not turns:
        return []
    largest = max([turn.last_frame - turn.first_frame + 1 for turn in turns])
    capacity = max(1, max_frames // largest)
    count = -(-len(turns) // capacity)
    cuts = [len(turns) * k // count for k in range(count + 1)]
    return [turns[a:b] for a, b in pairwise(cuts)]


def sft_table(rows: Sequence[SftRow]) -> pa.Table:
    """Rows with the columns of schemas/sft.json."""
    messages = Messages([row.texts for row in rows], [row.frames for row in rows])
    ids = strings([row.video_id for row in rows])
    frames = [sum(row.frames) for row in rows]
    paths = frame_paths([row.video_id for row in rows], [row.first_frame for row in rows], frames)
    columns = {
        "messages": messages.strings(),
        "messages_blocks": messages.blocks(),
        "images": list_array(frames, paths),
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
    }
    schema = table_schema("sft")
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _turn_times(rows: Sequence[SftRow]) -> pa.Array:
    if not rows:
        return pa.array([], pa.float64())
    lasts = [row.first_frame - 1 + np.cumsum(row.frames) for row in rows]
    return pa.array(
        np.round(np.concatenate([n * row.interval for n, row in zip(lasts, rows, strict=True)]), 6)
    )
