"""Questions and replies made by rule: their text, their evidence and their times; and questions to which
silence is right, since nothing annotated, said or measured answers them.
"""

from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from datagen.llm.rule_topics import Line, akin
from datagen.llm.text import as_sentence, content, count_words, fit, normalised, tokens
from datagen.llm.wordings import fraction, pick, say, wording_id, wordings
from datagen.records import Answer, Question, Rejection, Segment

_SILENT_SHARE = 1 / 4
"""Share of the nQnA videos in which one question is met with silence."""
_SWAP_SHARE = 1 / 8
"""Share of the 1QnA videos that have a second dialogue, on what never comes."""
Absent = tuple[str, str] | None
"""Wording and value of something that never comes; None where nothing is known to be absent."""


class Material(NamedTuple):
    """All that the questions of one video are made of."""

    segments: tuple[Segment, ...]
    lines: list[Line]
    """Sentences that narrate the video: written ones if there are any, else speech, else measured ones."""
    kind: str
    """step, narration, speech or pixels: what these are."""
    shapes: frozenset[str]
    """Kinds of question to make."""
    max_words: int
    key: tuple[object, ...]
    """What the choices of this video are drawn from."""
    video_id: str
    rejected: list[Rejection]


def make_question(
    material: Material,
    place: int,
    wording: str,
    value: str,
    kind: str,
    answers: tuple[Answer, ...],
    named: Sequence[Line] = (),
) -> Question:
    """A question in one of its wordings, asked in the middle of segment number `place`; -1: at the start.

    `named` are the sentences that its value is taken from.
    """
    return Question(
        text=say(wording, *material.key, value, x=value),
        ask_time=ask_time(material.segments, place),
        kind=kind,
        answers=answers,
        wording=wording_id(wording),
        keys=_keys(named),
    )


def ask_time(segments: Sequence[Segment], place: int) -> float:
    """Seconds at which a question of segment number `place` is asked."""
    return 0.0 if place < 0 else round((segments[place].start + segments[place].end) / 2, 3)


def make_answers(
    material: Material, place: int, lines: Sequence[Line], wording: str | None, count: int = 0
) -> list[Answer]:
    """The answer that rests on these lines of one segment; a rejection instead if it cannot be cut to fit.

    `count` is the number of times so far, for wordings that tell it.
    """
    segment = material.segments[place]
    text = _reply(material, lines, wording, segment.id, count=count)
    if text is None:
        long = " ".join(line.text for line in lines)[:200]
        detail = f"no sentence or clause ends within {material.max_words} words of {long!r}"
        material.rejected.append(Rejection("synthesize", material.video_id, segment.id, "Rejected", detail))
        return []
    return [_answer(material, lines, text, wording, segment.start, segment.end)]


def make_immediate(material: Material, place: int, past: Sequence[Line], wording: str) -> list[Answer]:
    """One answer at ask time that joins what has been shown: the newest that fits, told in order."""
    chosen: list[Line] = []
    for line in distinct(past[::-1]):
        if _reply(material, [line, *chosen], wording, "whole", cut=False) is None:
            break
        chosen.insert(0, line)
    chosen = chosen or list(past[-1:])
    text = _reply(material, chosen, wording, place) if chosen else None
    if text is None:
        return []
    asked_at, asked_in = ask_time(material.segments, place), material.segments[place]
    return [_answer(material, chosen, text, wording, asked_at, asked_in.end, immediate=True)]


def _answer(
    material: Material,
    lines: Sequence[Line],
    text: str,
    wording: str | None,
    reply_start: float,
    reply_end: float,
    *,
    immediate: bool = False,
) -> Answer:
    cited = [material.segments[i] for i in sorted({line.place for line in lines})]
    return Answer(
        text=text,
        evidence=tuple(segment.id for segment in cited),
        evidence_start=cited[0].start,
        evidence_end=max(min(material.segments[line.place].end, line.end) for line in lines),
        reply_start=reply_start,
        reply_end=reply_end,
        immediate=immediate,
        modality=lines[0].modality,
        wording=wording_id(wording) if wording else "",
        keys=_keys(lines),
    )


def _keys(lines: Sequence[Line]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(key for line in lines for key in line.keys))


def _reply(
    material: Material,
    lines: Sequence[Line],
    wording: str | None,
    key: object,
    cut: bool = True,
    count: int = 0,
) -> str | None:
    """The text of a reply, or None if it does not fit."""

    def worded(text: str) -> str:
        return say(wording, *material.key, key, x=text, n=str(count)) if wording else as_sentence(text)

    text = " ".join(line.text for line in lines)
    if wording in ("said", "said_so_far"):
        text = text.replace('"', "'")
    room = material.max_words - (count_words(worded("")) if wording else 0)
    if count_words(text) > room and not cut:
        return None
    fitted = fit(text, room) if room > 0 else None
    return None if fitted is None else worded(fitted)


def distinct(lines: Sequence[Line]) -> list[Line]:
    """Without what says the same as a line before it."""
    found: dict[str, Line] = {}
    for line in lines:
        found.setdefault(normalised(line.text), line)
    return list(found.values())


def silent_number(material: Material, count: int) -> int | None:
    """Which of so many questions is to be met with silence: never the first, in most videos none."""
    if count < 2 or fraction(*material.key, "never") >= _SILENT_SHARE:
        return None
    return pick(range(1, count), *material.key, "silent")


def make_silence(material: Material, place: int, absent: Absent, key: tuple[object, ...]) -> Question | None:
    """A question asked in segment number `place` and met with silence, of a kind that can be told true."""
    made = []
    if absent and "never" in material.shapes:
        made.append(make_question(material, place, *absent, "never", ()))
    if "stop" in material.shapes:
        made.append(make_question(material, place, "stop", "", "stop", ()))
    # What was said may answer anything, in other words; what was written tells what is seen.
    if "unanswerable" in material.shapes and material.kind in ("step", "narration"):
        known = {word for line in material.lines for word in tokens(line.text)}
        texts = wordings()["unanswerable"]
        texts = tuple(text for text in texts if not any(akin(word, known) for word in content(tokens(text))))
        if texts:
            asked = make_question(material, place, "unanswerable", "", "unanswerable", ())
            made.append(replace(asked, text=pick(texts, *key)))
    return pick(made, *key, "silence") if made else None


def make_swap(material: Material, absent: Absent) -> Question | None:
    """A question asked at the start of a video that has nothing to do with it, in some of the videos."""
    if not absent or "swap" not in material.shapes or fraction(*material.key, "swap") >= _SWAP_SHARE:
        return None
    return make_question(material, -1, *absent, "swap", ())
