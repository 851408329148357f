"""What the page of each dialogue shows, as values that become JSON in the report. Times are seconds."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from datagen.config import Config
from datagen.inspect.dataset import all_rows
from datagen.inspect.report_calls import Calls
from datagen.inspect.report_survey import Survey, VideoFacts, active_turns, dialogues, given_at
from datagen.records import Call, Dialogue, Question, Rejection, Turn

_MOST_LOST = 20
"""Of what was rejected of a video beside a dialogue."""


class _Numbers:
    """Calls by their numbers on a page."""

    def __init__(self) -> None:
        self.calls: dict[Call, int] = {}

    def of(self, calls: Sequence[Call]) -> list[int]:
        """The numbers of calls, new ones where they have none yet."""
        return [self.calls.setdefault(call, len(self.calls)) for call in calls]

    def flags(self, flags: Sequence[Rejection]) -> list[dict[str, Any]]:
        """Flags with the numbers of their calls."""
        return [
            {
                "stage": f.stage,
                "code": f.code,
                "item": f.item_id,
                "detail": f.detail,
                "calls": self.of(f.calls),
            }
            for f in flags
        ]


def pages(
    out: Path, found: Survey, wanted: set[str], config: Config, calls: Calls
) -> Iterator[dict[str, Any]]:
    """The pages of the wanted dialogues, in the order of the table.

    Raises Invalid where a table cannot be read.
    """
    videos = {id: video for id, video in found.videos.items() if id in found.talking}
    segments: dict[str, list[dict[str, Any]]] = {}
    columns = ["id", "video_id", "start", "end", "seen", "heard", "provenance", "calls"]
    for row in all_rows(out, "segments", columns):
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
) -> dict[str, Any]:
    numbers = {row["id"]: number for number, row in enumerate(segments)}
    active = active_turns(dialogue, turns)
    called = _Numbers()
    page: dict[str, Any] = {
        "id": dialogue.id,
        "type": dialogue.type,
        "by": dialogue.provenance,
        "video": video,
        "segments": [
            {name: row[name] for name in ("start", "end", "seen", "heard")}
            | {"by": row["provenance"], "calls": called.of(_calls(row.get("calls")))}
            for row in segments
        ],
        "questions": [
            _question(question, turns, active.get(number), numbers, called)
            for number, question in enumerate(dialogue.questions)
        ],
        "turns": [turn.time for turn in turns],
        # Index and text of the turns that reply; all others are silent.
        "replies": [(n, turn.text) for n, turn in enumerate(turns) if turn.label == "reply"],
        # Index of each turn that asks, and the number of its question.
        "asked": [(own.start, number) for number, own in active.items()],
        "flags": called.flags(found.flags.get(dialogue.id, ())),
        "flag_count": sum(found.severity[dialogue.id]),
        "lost": called.flags(found.lost.get(video.id, ())[:_MOST_LOST]),
        "calls": list(called.calls),
    }
    texts, lines = calls.texts(dialogue, [call.id for call in called.calls])
    return page | {"texts": texts, "lines": lines}


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
) -> dict[str, Any]:
    """A question with its answers, which name segments and the turns that give them by number."""
    answers = [
        {
            "text": answer.text,
            "evidence": [numbers[id] for id in answer.evidence if id in numbers],
            "evidence_span": (answer.evidence_start, answer.evidence_end),
            "reply_span": (answer.reply_start, answer.reply_end),
            "immediate": answer.immediate,
            "modality": answer.modality,
            "turn": given_at(answer, turns, active) if active else None,
            "calls": called.of(answer.calls),
        }
        for answer in question.answers
    ]
    asked = {"text": question.text, "kind": question.kind, "time": question.ask_time, "answers": answers}
    return asked | {"calls": called.of(question.calls)}
