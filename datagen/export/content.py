"""What stands in the messages of a row: frames, text, and no text that a trainer would read as markup."""

import re
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datagen.export.schema import list_array, strings
from datagen.records import NO_REPLY, SYSTEM_PROMPT, Turn

IMAGE = "<image>"
FRAME = re.compile(r"frames/([^/\0]{1,255})/([0-9]{6,12})\.jpg")
"""Path of a frame: the video's id and the number."""
ROLES = ("system", "user", "assistant")

_MARKUP = re.compile(r"<(?:image|video|audio|bbox|ref-object|cot-process|/?think)>|<\|", re.IGNORECASE)


def frame_path(video_id: str, frame: int) -> str:
    """Path of a training frame below the output folder; frames count from 1."""
    return f"frames/{video_id}/{frame:06d}.jpg"


def text_fault(text: str) -> str | None:
    """Why a question or reply cannot stand in a message, or None if it can.

    Trainers count <image> in all text, take <|...|> for special tokens, and the released reward finds
    turns by lines that name a role.
    """
    if "<" in text and (found := _MARKUP.search(text)):
        return f"contains {found.group()}"
    for line in text.splitlines():
        if line.strip() in ROLES or line.rstrip().endswith("assistant"):
            return f"has a line that reads as a role: {line.strip()[-40:]!r}"
    if not text or text.isspace():
        return "is empty"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "is not valid Unicode"
    return None


def spoken(turns: Sequence[Turn]) -> list[int]:
    """Which turns ask or reply; the others, which are most, hold frames and silence alone."""
    return [number for number, turn in enumerate(turns) if turn.user or turn.label == "reply"]


def frame_counts(turns: Sequence[Turn]) -> list[int]:
    """Number of frames of each turn; only the last of a dialogue can hold fewer than the others."""
    held = [turn.last_frame - turn.first_frame + 1 for turn in (*turns[:1], *turns[-1:])]
    return held[:1] * (len(turns) - 1) + held[1:]


def turns_fault(turns: Iterable[Turn]) -> str | None:
    """Why some turn of these cannot stand in a row, or None if all can."""
    for turn in turns:
        if turn.user and (fault := text_fault(turn.user)):
            return f"the question at {turn.time:g} s {fault}"
        if turn.label == "reply":
            fault = f"contains {NO_REPLY}" if NO_REPLY in turn.text else text_fault(turn.text)
            if fault:
                return f"the reply at {turn.time:g} s {fault}"
    return None


def conversation(turns: Sequence[Turn], said: Iterable[int], question: str | None = None) -> list[str]:
    """Texts of the messages system, user, assistant, user, ... without their frames.

    `said` is what spoken() gives; `question` opens the first turn if that asks none itself.
    """
    texts = [SYSTEM_PROMPT, *["", NO_REPLY] * len(turns)]
    for number in said:
        turn = turns[number]
        texts[2 * number + 1] = turn.user or ""
        if turn.label == "reply":
            texts[2 * number + 2] = turn.text
    if turns and question and not texts[1]:
        texts[1] = question
    return texts


class Messages:
    """The messages of many rows as flat arrays, from which the columns of the trainers are made.

    Takes for each row its texts as conversation() gives them (with or without the last reply) and the
    number of frames of each user turn.
    """

    def __init__(self, texts: Sequence[list[str]], frames: Sequence[list[int]]) -> None:
        lengths = np.array([len(row) for row in texts], np.int64)
        starts = np.cumsum(lengths) - lengths
        place = np.arange(lengths.sum()) - np.repeat(starts, lengths)
        self._lengths = lengths
        asks = place % 2 == 1
        self._frames = np.zeros(len(place), np.int64)
        self._frames[asks] = np.fromiter(chain.from_iterable(frames), np.int64, asks.sum())
        self._text = strings(list(chain.from_iterable(texts)))
        self._roles = pa.array(ROLES).take(pa.array(np.where(place == 0, 0, 2 - asks).astype(np.int8)))

    def strings(self) -> pa.Array:
        """list<struct<role, content: string>>, one <image> before the text for each frame."""
        most = int(self._frames.max(initial=0))
        marks = pa.array([IMAGE * n for n in range(most + 1)]).take(pa.array(self._frames))
        content = pc.binary_join_element_wise(marks, self._text, "")
        return list_array(
            self._lengths, pa.StructArray.from_arrays([self._roles, content], ["role", "content"])
        )

    def blocks(self) -> pa.Array:
        """list<struct<role, content: list<struct<type, text>>>>; the text of an image block is null."""
        has_text = pc.binary_length(self._text).to_numpy() > 0
        counts = self._frames + has_text
        is_text = np.zeros(counts.sum(), bool)
        is_text[(np.cumsum(counts) - 1)[has_text]] = True
        source = np.zeros(len(is_text), np.int64)
        source[is_text] = np.flatnonzero(has_text)
        text = self._text.take(pa.array(source, mask=~is_text))
        kind = pa.array(["image", "text"]).take(pa.array(is_text.astype(np.int8)))
        content = list_array(counts, pa.StructArray.from_arrays([kind, text], ["type", "text"]))
        return list_array(
            self._lengths, pa.StructArray.from_arrays([self._roles, content], ["role", "content"])
        )


def without_marks(frames: Sequence[list[int]]) -> list[list[int]]:
    """Numbers of frames for Messages of rows that hold none."""
    return [[0] * len(row) for row in frames]


def frame_times(first: Sequence[int], frames: Sequence[list[int]], interval: Sequence[float]) -> pa.Array:
    """list<list<double>>: for each row and turn the seconds of its frames; `first` is the row's first one."""
    counts = np.array([sum(row) for row in frames], np.int64)
    row = np.repeat(np.arange(len(counts)), counts)
    number = np.arange(len(row)) - (np.cumsum(counts) - counts)[row] + np.asarray(first, np.int64)[row]
    times = pa.array(np.round(number * np.asarray(interval, np.float64)[row], 6))
    turns = list_array(list(chain.from_iterable(frames)), times)
    return list_array([len(row) for row in frames], turns)


def frame_paths(video_ids: Sequence[str], first: Sequence[int], counts: Any) -> pa.Array:
    """Flat array of frame_path(): for each row `counts` frames of its video from frame `first` on."""
    counts = np.asarray(counts, np.int64)
    row = np.repeat(np.arange(len(counts)), counts)
    number = np.arange(len(row)) - (np.cumsum(counts) - counts)[row] + np.asarray(first, np.int64)[row]
    low = int(number.min(initial=1 << 40))
    names = pa.array([f"/{n:06d}.jpg" for n in range(low, number.max(initial=0) + 1)], pa.string())
    folders = strings([f"frames/{video}" for video in video_ids])
    return pc.binary_join_element_wise(folders.take(pa.array(row)), names.take(pa.array(number - low)), "")
