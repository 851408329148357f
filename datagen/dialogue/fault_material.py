"""Clean dialogues that were written by hand, for measuring the checks: see prompts/faults."""

from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import yaml

from datagen.records import Answer, Caption, Dialogue, Question, Segment
from datagen.resources import resource

SETS = ("known", "held_out")
"""Wordings and videos that the checks were written with, and those kept apart from that."""
_ASKED = 2
"""Number of the stretch after which the second question is asked."""
_LENGTHS = (8.0, 11.0, 9.5, 12.0, 8.5, 10.0)
"""Seconds of the six stretches."""


class Clean(NamedTuple):
    """A dialogue without a fault, with what is known of its video, and what faults may be made of."""

    dialogue: Dialogue
    segments: tuple[Segment, ...]
    captions: tuple[Caption, ...]
    thing: str = ""
    """Something known from a late stretch on only."""
    event: str = ""
    """Something that comes, as a sentence without capital and full stop."""


def read_wordings(name: str) -> dict[str, tuple[str, ...]]:
    """The wordings of faults of one of SETS, by code."""
    return {code: tuple(lines) for code, lines in _read(f"{name}.yaml").items()}


def written(name: str) -> list[Clean]:
    """Two dialogues of each video of one of SETS: what comes next is asked, or waited for after a recall."""
    cleans = []
    for video, told in _read(f"videos_{name}.yaml").items():
        segments, captions = _material(video, told)
        for kind, questions in (("next", _going_on(told, segments)), ("wait", _waiting(told, segments))):
            dialogue = Dialogue(
                id=f"{video}#{kind}", video_id=video, type="nQnA", questions=questions, provenance="written"
            )
            cleans.append(Clean(dialogue, segments, captions, told["later"], told["event"]))
    return cleans


def _read(name: str) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(
        (resource("prompts") / "faults" / name).read_text(encoding="utf-8")
    )
    return values


def _going_on(told: dict[str, Any], segments: tuple[Segment, ...]) -> tuple[Question, ...]:
    """A question at the start and one in the middle, with a reply to each stretch."""
    then = _question(
        told["then"], "monitor", segments[_ASKED].end, segments, told, range(_ASKED + 1, len(segments))
    )
    return _first(told, segments), then


def _waiting(told: dict[str, Any], segments: tuple[Segment, ...]) -> tuple[Question, ...]:
    """What has been so far, answered at once; then something is waited for that comes."""
    past, following = segments[: _ASKED + 1], segments[_ASKED + 1]
    recalled = Answer(
        text=told["so_far"],
        evidence=tuple(segment.id for segment in past),
        evidence_start=0.0,
        evidence_end=past[-1].end,
        reply_start=past[-1].end,
        reply_end=following.end,
        immediate=True,
    )
    asked = "What has happened so far?"
    recall = Question(text=asked, ask_time=past[-1].end, kind="recall", answers=(recalled,))
    wait, at = f"Tell me when {told['event']}.", range(told["at"], told["at"] + 1)
    return _first(told, segments), recall, _question(wait, "detect", following.end, segments, told, at)


def _first(told: dict[str, Any], segments: tuple[Segment, ...]) -> Question:
    return _question(told["ask"], "narrate", 0.0, segments, told, range(_ASKED + 1))


def _material(video: str, told: dict[str, Any]) -> tuple[tuple[Segment, ...], tuple[Caption, ...]]:
    segments = tuple(
        Segment(id=f"{video}:{number}", video_id=video, start=start, end=end, method="sentences")
        for number, (start, end) in enumerate(pairwise(accumulate(_LENGTHS, initial=0.0)))
    )
    captions = tuple(
        Caption(segment_id=segment.id, seen=seen, heard=told["heard"].get(number), provenance="written")
        for number, (segment, seen) in enumerate(zip(segments, told["seen"], strict=True))
    )
    return segments, captions


def _question(
    text: str, kind: str, ask: float, segments: tuple[Segment, ...], told: dict[str, Any], places: range
) -> Question:
    answers = tuple(
        Answer(
            text=told["reply"][place],
            evidence=(segments[place].id,),
            evidence_start=segments[place].start,
            evidence_end=segments[place].end,
            reply_start=segments[place].start,
            reply_end=segments[place].end,
        )
        for place in places
    )
    return Question(text=text, ask_time=ask, kind=kind, answers=answers)
