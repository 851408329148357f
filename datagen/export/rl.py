"""RL rows: windows of a dialogue, with what came before as the prompt and the answers due as ground truth."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
from msgspec import Struct

from datagen.config import ExportOptions, Frames
from datagen.export.content import (
    Messages,
    conversation,
    frame_counts,
    frame_path,
    frame_paths,
    frame_times,
    spoken,
    turns_fault,
    without_marks,
)
from datagen.export.gain import window_gain
from datagen.export.schema import column, list_array, strings, table_schema
from datagen.export.spans import Due, due_answers
from datagen.export.tokens import TokenCounter
from datagen.records import Built, Dialogue, Rejection, Turn

Window = tuple[int, int]
"""Indices of the first and the last turn at which the model decides."""


class RlRow(Struct, frozen=True, kw_only=True):
    """One RL row before it is spelled out in columns."""

    question_id: str
    video_id: str
    texts: list[str]
    """As conversation() gives them, without the reply to the last user turn."""
    frames: list[int]
    """Number of frames of each user turn of the prompt."""
    ground_truth: dict[str, Any]
    user_turns: list[dict[str, Any]]
    """All user turns up to the end of the window, the prompt's own included."""
    interval: float
    tokens: int


def rl_rows(
    built: Built,
    dialogue: Dialogue,
    turns: Sequence[Turn],
    options: ExportOptions,
    interval: float,
    counter: TokenCounter,
) -> tuple[list[RlRow], list[Rejection]]:
    """The windows of a dialogue in which some answer can be earned.

    Everything before a window is in its prompt, so only turns within `max_frames` frames of the video's
    start are used, and of these as many as `max_tokens` allows with their true replies. Dropped, with a row
    each: answers no turn can earn (`unearnable`), answers beyond these bounds (`past_max_frames`,
    `past_max_tokens`), windows without an answer (`empty_window`), windows with text that
    trainers would misread (`format`) or in which being right hardly pays (`no_gain`, if `rl_min_gain` is
    set), and a rest that is too short for a window (`short_window`).
    """
    due, rejected = due_answers(dialogue, turns, interval)
    near = [turn for turn in turns if turn.last_frame <= options.max_frames]
    lengths = list(accumulate(counter.turns(near, built.video), initial=counter.opening()))[1:]
    usable = near[: bisect_right(lengths, options.max_tokens or math.inf)]
    for answer in due:
        if answer.first >= len(usable):
            near_enough = answer.first < len(near)
            kind, most = ("tokens", options.max_tokens) if near_enough else ("frames", options.max_frames)
            detail = f"due at {answer.start:g} s, after the first {most} {kind}: {answer.text}"
            rejected.append(_rejection(dialogue, answer.item, f"past_max_{kind}", detail))
    times_alone = interval if options.frames == "none" else None
    user_turns = [user_turn(built.video.id, turn, times_alone) for turn in usable]
    said = spoken(usable)
    windows = cut_windows([turn.time for turn in usable], due, *options.rl_window_seconds)
    rows = []
    for number, (first, last) in enumerate(windows):
        row_id = f"{dialogue.id}#seg{number}"
        answers = [d for d in due if d.first <= last and d.last >= first and d.placed >= first]
        fault = turns_fault([usable[turn] for turn in said if turn <= last])
        truth = _ground_truth(row_id, usable, (first, last), answers)
        if not answers:
            detail = f"no answer is due from {usable[first].time:g} to {usable[last].time:g} s"
            rejected.append(_rejection(dialogue, row_id, "empty_window", detail))
        elif fault:
            rejected.append(_rejection(dialogue, row_id, "format", fault))
        elif options.rl_min_gain is not None and (gain := window_gain(truth)) <= options.rl_min_gain:
            detail = f"the truth earns {gain:.3f} more than silence, no more than {options.rl_min_gain:g}"
            rejected.append(_rejection(dialogue, row_id, "no_gain", detail))
        else:
            rows.append(
                RlRow(
                    question_id=row_id,
                    video_id=built.video.id,
                    texts=conversation(usable[: first + 1], [turn for turn in said if turn <= first])[:-1],
                    frames=frame_counts(usable[: first + 1]),
                    ground_truth=truth,
                    user_turns=user_turns[: last + 1],
                    interval=interval,
                    tokens=lengths[last],
                )
            )
    rest = windows[-1][1] + 1 if windows else 0
    if rest < len(usable):
        detail = f"the turns from {usable[rest].time:g} s on do not make a window"
        rejected.append(_rejection(dialogue, f"{dialogue.id}#seg{len(windows)}", "short_window", detail))
    return rows, rejected


def cut_windows(times: Sequence[float], due: Sequence[Due], low: float, high: float) -> list[Window]:
    """Cut the turns at `times` (seconds) into consecutive windows of `low` to `high` seconds.

    A window closes at the first turn that ends an answer's span, leaves no other span open and leaves a
    rest of nothing or at least `low` seconds; where there is none, as late as allowed. Turns that are
    together shorter than `low` make one window; a shorter rest after other windows makes none.
    """
    spans = [(d.first, max(d.last, d.placed)) for d in due]
    ends = {last for _, last in spans}
    within = {turn for first, last in spans for turn in range(first, last)}
    windows: list[Window] = []
    first = 0
    while first < len(times):
        begin = times[first - 1] if first else 0.0
        allowed = [j for j in range(first, len(times)) if low <= times[j] - begin <= high]
        closing = [j for j in allowed if j == len(times) - 1 or times[-1] - times[j] >= low] or allowed
        if not closing:
            return windows or ([(0, len(times) - 1)] if times[-1] < low else [])
        last = next((j for j in closing if j in ends and j not in within), closing[-1])
        windows.append((first, last))
        first = last + 1
    return windows


def _rejection(dialogue: Dialogue, item: str, code: str, detail: str) -> Rejection:
    return Rejection("export", dialogue.video_id, item, code, detail)


def _ground_truth(row_id: str, turns: Sequence[Turn], window: Window, due: Sequence[Due]) -> dict[str, Any]:
    first, last = window
    return {
        "question_id": row_id,
        "answer": [
            {
                "role": "assistant",
                "content": answer.text,
                "question": answer.question,
                "reply_timespan": [answer.start, answer.end],
            }
            for answer in due
        ],
        "model_pred_timestamps": [turn.time for turn in turns[first : last + 1]],
        "prev_assistant_replies": [turn.text for turn in turns[:first] if turn.label == "reply"],
    }


def user_turn(video_id: str, turn: Turn, interval: float | None = None) -> dict[str, Any]:
    """A turn of the viewer as the trainer fetches it: its frames, then the question asked at it.

    With `interval` (seconds between two frames) the frames' times stand in their place, as `frame_times`.
    """
    frames = range(turn.first_frame, turn.last_frame + 1)
    images = [{"type": "image", "image": frame_path(video_id, frame)} for frame in frames]
    content = images if interval is None else []
    if turn.user:
        content.append({"type": "text", "text": turn.user})
    made: dict[str, Any] = {"role": "user", "time": turn.time, "content": content}
    if interval is not None:
        made["frame_times"] = [round(frame * interval, 6) for frame in frames]
    return made


def user_turns_json(rows: Sequence[RlRow]) -> bytes:
    """The user turns of rows as members of a JSON object, without its braces."""
    return b",\n".join(msgspec.json.encode({row.question_id: row.user_turns})[1:-1] for row in rows)


class UserTurnsFile:
    """rl/user_turns/<split>.json: one object with the user turns of each row, fetched by the RL trainer."""

    def __init__(self, folder: Path, split: str) -> None:
        self._path = folder / "rl" / "user_turns" / f"{split.removeprefix('rl/')}.json"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("wb")
        self._before = b"{"

    def add(self, turns: bytes) -> None:
        """Append what user_turns_json() made of some rows."""
        if turns:
            self._file.write(self._before + b"\n" + turns)
            self._before = b","

    def close(self) -> None:
        """End the object; without rows there is no file, which `datasets` would take for a split."""
        self._file.write(b"\n}\n")
        self._file.close()
        if self._before == b"{":
            self._path.unlink()


def rl_table(rows: Sequence[RlRow], split: str, layout: Frames = "paths") -> pa.Table:
    """Rows with the columns of schemas/rl.json; embedded frames are paths still.

    `index` is left 0 until the order of the file is known.
    """
    schema = table_schema("rl", "none" if layout == "none" else "paths")
    shown = [row.frames for row in rows]
    marks = without_marks(shown) if layout == "none" else shown
    counts = [sum(frames) for frames in marks]
    constant = strings(["proactive"] * len(rows))
    columns = {
        "data_source": constant,
        "ability": constant,
        "prompt": Messages([row.texts for row in rows], marks).strings(),
        "reward_model": column(
            [{"style": "rule", "ground_truth": row.ground_truth} for row in rows],
            schema.field("reward_model").type,
        ),
        "extra_info": column(
            [_extra_info(row, split, count) for row, count in zip(rows, counts, strict=True)],
            schema.field("extra_info").type,
        ),
        "agent_name": constant,
        "num_tokens": pa.array([row.tokens for row in rows], pa.int64()),
    }
    firsts = [1] * len(rows)
    if layout == "none":
        columns["frame_times"] = frame_times(firsts, shown, [row.interval for row in rows])
    else:
        paths = frame_paths([row.video_id for row in rows], firsts, counts)
        kinds = pa.array(["image"]).take(pa.array([0] * len(paths), pa.int8()))
        columns["images"] = list_array(counts, pa.StructArray.from_arrays([kinds, paths], ["type", "image"]))
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _extra_info(row: RlRow, split: str, num_images: int) -> dict[str, Any]:
    named = {"question_id": row.question_id}
    return {
        "index": 0,
        "split": split,
        "question_id": row.question_id,
        "video_id": row.video_id,
        "num_images": num_images,
        "need_tools_kwargs": True,
        "tools_kwargs": {"online_video_provider": {"create_kwargs": named, "execute_kwargs": named}},
    }
