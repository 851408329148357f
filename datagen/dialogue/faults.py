"""Tests the checks: clean dialogues, each with one fault put in, and what the checks make of them.

A fault counts as found when the faulty item is rejected with the fault's own code or one of EQUIVALENT. Of
all rejections those of the faulty item with such a code are right; everything else, and every rejection of a
dialogue without a fault, is a false alarm.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace

from datagen.dialogue.checks import check_dialogue
from datagen.dialogue.fault_material import Clean
from datagen.llm.wordings import pick
from datagen.records import Answer, Dialogue, Question, Rejection

EQUIVALENT = {
    "future_leak_answer": ("unanswerable",),
    "hindsight": ("caption_speak",),
    "invented_number": ("future_leak_answer",),
    "unanswerable": ("future_leak_answer",),
}
"""Codes that are as good. What is told too early stands in no evidence either, and what stands in none may
happen to come up later; who speaks of "the whole video" does both. The first check that fits gives the code.
"""
_TELLING = ("narrate", "monitor", "guide")
"""Kinds of question whose replies must not be said again, nor be said blind."""
_THING = re.compile(r"\b(?:the|an?) ([a-z]{4,20})\b", re.IGNORECASE)
_AFTERMATH = ("no answer is left", "no question is left")
"""How rejections begin that only follow from another one."""


class Fault(NamedTuple):
    """A dialogue with one fault."""

    code: str
    item: str
    """Id of the answer or question that is faulty."""
    dialogue: Dialogue


class _Spot(NamedTuple):
    """An answer, by the number of its question and its own."""

    clean: Clean
    q: int
    a: int

    @property
    def question(self) -> Question:
        """What it answers."""
        return self.clean.dialogue.questions[self.q]

    @property
    def answer(self) -> Answer:
        """The answer itself."""
        return self.question.answers[self.a]

    def with_fault(self, code: str, **changes: Any) -> Fault:
        """The dialogue with the answer changed."""
        answers = list(self.question.answers)
        answers[self.a] = replace(self.answer, **changes)
        return _with_fault(self.clean, code, self.q, f"/a{self.a}", answers=tuple(answers))


class Score(NamedTuple):
    """What the checks made of all faults of one code, and of all that they gave that code to."""

    injected: int = 0
    found: int = 0
    found_as_such: int = 0
    """With the very code, not an equivalent one."""
    flagged: int = 0
    right: int = 0

    @property
    def recall(self) -> float:
        """Share of the faults that were found; 1 where there were none."""
        return self.found / self.injected if self.injected else 1.0

    @property
    def precision(self) -> float:
        """Share of the rejections that were right; 1 where there were none."""
        return self.right / self.flagged if self.flagged else 1.0


def score(
    cleans: Sequence[Clean], wordings: dict[str, tuple[str, ...]], max_reply_words: int = 60
) -> dict[str, Score]:
    """Precision and recall by code."""
    scores: dict[str, Score] = {}

    def add(code: str, **counts: int) -> None:
        old = scores.get(code, Score())
        scores[code] = old._replace(**{name: getattr(old, name) + n for name, n in counts.items()})

    def checked(clean: Clean, dialogue: Dialogue) -> tuple[Dialogue | None, list[Rejection]]:
        kept, found = check_dialogue(dialogue, clean.segments, clean.captions, max_reply_words)
        return kept, [row for row in found if not row.detail.startswith(_AFTERMATH)]

    for number, clean in enumerate(cleans):
        kept, alarms = checked(clean, clean.dialogue)
        for row in alarms:
            add(row.code, flagged=1)
        if kept is None:
            continue
        other = cleans[(number + len(cleans) // 2) % len(cleans)]
        for fault in inject(clean._replace(dialogue=kept), wordings, other):
            meant = (fault.code, *EQUIVALENT.get(fault.code, ()))
            _, found = checked(clean, fault.dialogue)
            hits = [row for row in found if row.item_id == fault.item and row.code in meant]
            as_such = any(row.code == fault.code for row in hits)
            add(fault.code, injected=1, found=bool(hits), found_as_such=as_such)
            for row in found:
                # Without the reply that was rightly turned away, one is missing: that is no false alarm.
                if row in hits or not (hits and row.code == "missed_reply"):
                    add(row.code, flagged=1, right=row in hits)
    return dict(sorted(scores.items()))


def inject(clean: Clean, wordings: dict[str, tuple[str, ...]], other: Clean) -> Iterator[Fault]:
    """Every fault that can be put into a dialogue: one of each wording, and those of times and ids."""
    for code, templates in wordings.items():
        for template in templates:
            if code in ("future_leak_question", "ambiguous_reference", "missed_reply"):
                fault = _in_question(clean, code, template)
            else:
                fault = _in_reply(clean, code, template, other)
            if fault:
                yield fault
    for code, name, change in _CHANGES:
        places = [(spot, changes) for spot in _spots(clean) if (changes := change(spot))]
        if places:
            spot, changes = pick(places, clean.dialogue.id, code, name)
            yield spot.with_fault(code, **changes)
    for q, question in enumerate(clean.dialogue.questions):
        first = next((answer for answer in question.answers if not answer.immediate), None)
        if first:
            late = first.reply_start + 0.6 * (first.reply_end - first.reply_start)
            part = f"/a{question.answers.index(first)}"
            yield _with_fault(clean, "asked_after", q, part, ask_time=late)
            break


def _spots(clean: Clean) -> list[_Spot]:
    questions = enumerate(clean.dialogue.questions)
    return [_Spot(clean, q, a) for q, question in questions for a in range(len(question.answers))]


def _with_fault(clean: Clean, code: str, q: int, part: str, **changes: Any) -> Fault:
    """The dialogue with question number `q` changed; `part` says which of its answers is faulty by that."""
    questions = list(clean.dialogue.questions)
    questions[q] = replace(questions[q], **changes)
    return Fault(code, f"{clean.dialogue.id}/q{q}{part}", replace(clean.dialogue, questions=tuple(questions)))


def _in_reply(clean: Clean, code: str, template: str, other: Clean) -> Fault | None:
    """The wording in place of one of the replies that it can be made of."""
    fitting = []
    for spot in _spots(clean):
        values = _values(spot, other)
        telling = spot.question.kind in _TELLING and not spot.answer.immediate
        if code in ("repeat", "guessable") and not telling:
            continue
        if all(f"{{{name}}}" not in template or values[name] for name in values):
            fitting.append((spot, template.format(**values)))
    if not fitting:
        return None
    spot, text = pick(fitting, clean.dialogue.id, code, template)
    return spot.with_fault(code, text=text)


def _values(spot: _Spot, other: Clean) -> dict[str, str]:
    """What the wordings are filled with, empty where the dialogue has no such thing."""
    clean, answer, spots = spot.clean, spot.answer, _spots(spot.clean)
    order = {segment.id: place for place, segment in enumerate(clean.segments)}
    place = max((order.get(id, 0) for id in answer.evidence), default=0)
    before = [one.answer.text for one in spots if (one.q, one.a) < (spot.q, spot.a)]
    if answer.immediate:
        shown = sum(segment.end <= spot.question.ask_time for segment in clean.segments)
        place = max(place, shown - 1)
    told = [one.answer for one in spots]
    after = [one.text for one in told if min((order.get(id, 0) for id in one.evidence), default=0) > place]
    heard = [c.heard for c in clean.captions if c.segment_id in answer.evidence and c.heard]
    elsewhere = [one.answer.text for one in _spots(other) if not one.answer.immediate]
    values = {
        "x": answer.text,
        "early": before[0] if before and before[0] != answer.text else "",
        "two": before[1] if len(before) > 1 else "",
        "later": after[-1] if after and after[-1] not in before else "",
        "heard": heard[0] if heard and answer.modality == "visual" and not answer.immediate else "",
        "other": elsewhere[spot.a % len(elsewhere)] if elsewhere and other.dialogue != clean.dialogue else "",
        "thing": thing_of(clean) if place < len(clean.segments) - 2 else "",
    }
    lower = {f"{name}_l": (text[:1].lower() + text[1:]).rstrip(".!?") for name, text in values.items()}
    return values | lower | {"l": lower["x_l"]}


def thing_of(clean: Clean) -> str:
    """Something first known from one of the last two stretches: as written, or else a noun of theirs."""
    if clean.thing:
        return clean.thing
    seen = [caption.seen or "" for caption in clean.captions]
    early = " ".join(seen[:-2]).casefold()
    for text in seen[-2:]:
        for match in _THING.finditer(text):
            if match[1].casefold() not in early:
                return f"the {match[1]}"
    return ""


def _in_question(clean: Clean, code: str, template: str) -> Fault | None:
    """The wording in place of the first question; or, waiting for what comes, in place of the last."""
    first, last = clean.dialogue.questions[0], clean.dialogue.questions[-1]
    if code == "missed_reply":
        if not clean.event or last.kind != "detect":
            return None
        waiting = {"text": template.format(event=clean.event), "kind": "never", "answers": ()}
        return _with_fault(clean, code, len(clean.dialogue.questions) - 1, "", **waiting)
    thing = thing_of(clean)
    if first.kind not in _TELLING or ("{thing}" in template and not thing):
        return None
    return _with_fault(clean, code, 0, "", text=template.format(thing=thing))


_Changes = dict[str, Any] | None
"""Of an answer; None where it cannot have the fault."""


def _later_evidence(spot: _Spot) -> _Changes:
    """Rests on the stretch after its own."""
    answer, segments = spot.answer, spot.clean.segments
    place = [segment.id for segment in segments].index(answer.evidence[-1]) + 1
    if answer.immediate or place >= len(segments):
        return None
    return {"evidence": (*answer.evidence, segments[place].id), "evidence_end": segments[place].end}


def _unfinished_evidence(spot: _Spot) -> _Changes:
    """Given at once, from a stretch that has not ended."""
    going_on = [segment for segment in spot.clean.segments if segment.end > spot.question.ask_time + 1]
    if not spot.answer.immediate or not going_on:
        return None
    return {"evidence": (*spot.answer.evidence, going_on[0].id), "evidence_end": going_on[0].end}


def _too_wide(spot: _Spot) -> _Changes:
    """Welcome for most of the video."""
    start, length = spot.question.ask_time, spot.clean.segments[-1].end
    end = start + 0.6 * length
    return {"reply_start": start, "reply_end": end} if 0.6 * length > 20 and end <= length else None


def _into_the_one_before(spot: _Spot) -> _Changes:
    if spot.a == 0:
        return None
    before = spot.question.answers[spot.a - 1]
    return {"reply_start": (before.reply_start + before.reply_end) / 2}


def _past_the_next_question(spot: _Spot) -> _Changes:
    following = spot.clean.dialogue.questions[spot.q + 1 : spot.q + 2]
    if spot.answer.immediate or not following or spot.a + 1 < len(spot.question.answers):
        return None
    late = following[0].ask_time + 2
    fits = late - spot.answer.reply_start <= 20 and late <= spot.clean.segments[-1].end
    return {"reply_end": late} if fits else None


def _claimed_to_be_heard(spot: _Spot) -> _Changes:
    heard = any(c.heard for c in spot.clean.captions if c.segment_id in spot.answer.evidence)
    return None if heard else {"modality": "audio"}


_CHANGES: tuple[tuple[str, str, Callable[[_Spot], _Changes]], ...] = (
    ("unanswerable", "_no_evidence", lambda spot: {"evidence": ()}),
    ("unanswerable", "_unknown_evidence", lambda spot: {"evidence": ("nowhere:0-1",)}),
    ("future_leak_answer", "_later_evidence", _later_evidence),
    ("asked_after", "_unfinished_evidence", _unfinished_evidence),
    ("span_width", "_no_length", lambda spot: {"reply_end": spot.answer.reply_start}),
    ("span_width", "_past_the_end", lambda spot: {"reply_end": spot.clean.segments[-1].end + 5}),
    ("span_width", "_too_wide", _too_wide),
    ("overlap", "_into_the_one_before", _into_the_one_before),
    ("overlap", "_past_the_next_question", _past_the_next_question),
    ("heard_not_seen", "_claimed_to_be_heard", _claimed_to_be_heard),
)
"""Code, the name by which the place of the fault is drawn, and what is wrong there."""
