"""What the page of each dialogue shows, as records that become JSON in the report."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from datagen.config import Config
from datagen.inspect.report_calls import Calls, Said
from datagen.inspect.report_survey import Flag, Survey, VideoFacts, active_turns, dialogues, given_at, rows
from datagen.records import Call, Dialogue, Question, Turn

_MOST_LOST = 20


class ShownSegment(Struct, frozen=True):
    """A stretch of the video with its caption. Times here and below are seconds."""

    start: float
    end: float
    seen: str
    heard: str
    by: str
    calls: tuple[int, ...]
    """Numbers of the calls that had a part in it, here and below."""


class ShownAnswer(Struct, frozen=True):
    """An answer, and where it ended up."""

    text: str
    evidence: tuple[int, ...]
    """Numbers of segments."""
    evidence_span: tuple[float, float]
    reply_span: tuple[float, float]
    immediate: bool
    modality: str
    turn: int | None
    """Index of the turn that gives it."""
    calls: tuple[int, ...]


class ShownQuestion(Struct, frozen=True):
    """A question and its answers."""

    text: str
    kind: str
    time: float
    answers: tuple[ShownAnswer, ...]
    calls: tuple[int, ...]


class ShownFlag(Struct, frozen=True):
    """Something to look at."""

    stage: str
    code: str
    item: str
    detail: str
    calls: tuple[int, ...]


class Page(Struct, frozen=True, kw_only=True):
    """All that the page of a dialogue shows."""

    id: str
    type: str
    by: str
    video: VideoFacts
    segments: tuple[ShownSegment, ...]
    questions: tuple[ShownQuestion, ...]
    turns: tuple[float, ...]
    """Time of each turn."""
    replies: tuple[tuple[int, str], ...]
    """Index and text of the turns that reply; all others are silent."""
    asked: tuple[tuple[int, int], ...]
    """Index of each turn that asks, and the number of its question."""
    flags: tuple[ShownFlag, ...]
    flag_count: int
    lost: tuple[ShownFlag, ...]
    """What was rejected of the video beside this dialogue."""
    calls: tuple[Call, ...]
    texts: dict[str, Said]
    """What was asked and said in the calls, by their ids, where that is known."""
    lines: tuple[str, ...]
    """Lines of the texts."""


class _Numbers:
    """Calls by their numbers on a page."""

    def __init__(self) -> None:
        self.calls: dict[Call, int] = {}

    def of(self, calls: Sequence[Call]) -> tuple[int, ...]:
        """The numbers of calls, new ones where they have none yet."""
        return tuple(self.calls.setdefault(call, len(self.calls)) for call in calls)

    def flags(self, flags: Sequence[Flag]) -> tuple[ShownFlag, ...]:
        """Flags with the numbers of their calls."""
        return tuple(ShownFlag(f.stage, f.code, f.item, f.detail, self.of(f.calls)) for f in flags)


def pages(out: Path, found: Survey, wanted: set[str], config: Config, calls: Calls) -> Iterator[Page]:
    """The pages of the wanted dialogues, in the order of the table.

    Raises Invalid where a table cannot be read.
    """
    videos = {id: video for id, video in found.videos.items() if id in found.talking}
    segments: dict[str, list[dict[str, Any]]] = {}
    columns = ["id", "video_id", "start", "end", "seen", "heard", "provenance", "calls"]
    for row in rows(out, "segments", columns):
        if row["video_id"] in videos:
            segments.setdefault(row["video_id"], []).append(row)
    for dialogue, video, turns in dialogues(out, videos, config):
        if dialogue.id in wanted and turns:
            yield _page(dialogue, video, turns, segments.get(video.id, []), found, calls)


def _page(
    dialogue: Dialogue,
    video: VideoFacts,
    turns: Sequence[Turn],
    segments: Sequence[dict[str, Any]],
    found: Survey,
    calls: Calls,
) -> Page:
    numbers = {row["id"]: number for number, row in enumerate(segments)}
    active = active_turns(dialogue, turns)
    called = _Numbers()
    shown_segments = tuple(
        ShownSegment(
            row["start"],
            row["end"],
            row["seen"],
            row["heard"],
            row["provenance"],
            called.of(_calls(row.get("calls"))),
        )
        for row in segments
    )
    questions = tuple(
        _question(question, turns, active.get(number), numbers, called)
        for number, question in enumerate(dialogue.questions)
    )
    flags = called.flags(found.flags.get(dialogue.id, ()))
    lost = called.flags(found.lost.get(video.id, ())[:_MOST_LOST])
    texts, lines = calls.texts(dialogue, [call.id for call in called.calls])
    return Page(
        id=dialogue.id,
        type=dialogue.type,
        by=dialogue.provenance,
        video=video,
        segments=shown_segments,
        questions=questions,
        turns=tuple(turn.time for turn in turns),
        replies=tuple((n, turn.text) for n, turn in enumerate(turns) if turn.label == "reply"),
        asked=tuple((own.start, number) for number, own in active.items()),
        flags=flags,
        flag_count=found.flag_counts[dialogue.id],
        lost=lost,
        calls=tuple(called.calls),
        texts=texts,
        lines=lines,
    )


def _calls(value: Any) -> tuple[Call, ...]:
    try:
        return msgspec.convert(value, tuple[Call, ...])
    except msgspec.ValidationError:
        return ()


def _question(
    question: Question,
    turns: Sequence[Turn],
    active: range | None,
    numbers: dict[str, int],
    called: _Numbers,
) -> ShownQuestion:
    answers = tuple(
        ShownAnswer(
            text=answer.text,
            evidence=tuple(numbers[id] for id in answer.evidence if id in numbers),
            evidence_span=(answer.evidence_start, answer.evidence_end),
            reply_span=(answer.reply_start, answer.reply_end),
            immediate=answer.immediate,
            modality=answer.modality,
            turn=given_at(answer, turns, active) if active else None,
            calls=called.of(answer.calls),
        )
        for answer in question.answers
    )
    own = called.of(question.calls)
    return ShownQuestion(question.text, question.kind, question.ask_time, answers, own)
