"""Questions and replies made by rule: their text, their evidence and their times."""

from collections.abc import Sequence
from typing import NamedTuple

from datagen.llm.rule_topics import Line
from datagen.llm.text import as_sentence, count_words, fit, normalised
from datagen.llm.wordings import say, wording_id
from datagen.records import Answer, Question, Rejection, Segment


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
    return [
        Answer(
            text=text,
            evidence=(segment.id,),
            evidence_start=segment.start,
            evidence_end=min(segment.end, max(line.end for line in lines)),
            reply_start=segment.start,
            reply_end=segment.end,
            modality=lines[0].modality,
            wording=wording_id(wording) if wording else "",
            keys=_keys(lines),
        )
    ]


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
    cited = [material.segments[i] for i in sorted({line.place for line in chosen})]
    ends = [min(material.segments[line.place].end, line.end) for line in chosen]
    asked = material.segments[place]
    return [
        Answer(
            text=text,
            evidence=tuple(segment.id for segment in cited),
            evidence_start=cited[0].start,
            evidence_end=max(ends),
            reply_start=ask_time(material.segments, place),
            reply_end=asked.end,
            immediate=True,
            modality=chosen[0].modality,
            wording=wording_id(wording),
            keys=_keys(chosen),
        )
    ]


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


def by_segment(lines: Sequence[Line]) -> list[tuple[int, list[Line]]]:
    """The lines of each segment that has any, by its number."""
    found: dict[int, list[Line]] = {}
    for line in lines:
        found.setdefault(line.place, []).append(line)
    return sorted(found.items())
