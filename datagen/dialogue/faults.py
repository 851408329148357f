"""Tests the checks: clean dialogues, each with one fault put in, and what the checks make of them.

A fault counts as found when the faulty item is rejected with the fault's own code or one of EQUIVALENT. Of
all rejections those of the faulty item with such a code are right; everything else, and every rejection of a
dialogue without a fault, is a false alarm.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from datagen.config import CheckOptions
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

Values = dict[str, str]


class Fault(NamedTuple):
    """A dialogue with one fault."""

    code: str
    item: str
    """Id of the answer or question that is faulty."""
    dialogue: Dialogue
    clean: Clean


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
    cleans: Sequence[Clean],
    wordings: dict[str, tuple[str, ...]],
    max_reply_words: int = 60,
    options: CheckOptions | None = None,
) -> tuple[dict[str, Score], list[tuple[Fault | None, tuple[Rejection, ...]]]]:
    """Precision and recall by code; and the faults that were missed (with what was said of them instead) and
    the dialogues without a fault (None) of which something was rejected.
    """
    scores: dict[str, Score] = {}
    wrong: list[tuple[Fault | None, tuple[Rejection, ...]]] = []

    def add(code: str, **counts: int) -> None:
        old = scores.get(code, Score())
        scores[code] = old._replace(**{name: getattr(old, name) + n for name, n in counts.items()})

    def checked(clean: Clean, dialogue: Dialogue) -> tuple[Dialogue | None, list[Rejection]]:
        kept, found = check_dialogue(
            dialogue, clean.segments, clean.captions, max_reply_words, options or CheckOptions()
        )
        return kept, [row for row in found if not row.detail.startswith(_AFTERMATH)]

    for number, clean in enumerate(cleans):
        kept, alarms = checked(clean, clean.dialogue)
        for row in alarms:
            add(row.code, flagged=1)
        if alarms:
            wrong.append((None, tuple(alarms)))
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
                add(row.code, flagged=1, right=row in hits)
            if not hits or len(found) > len(hits):
                wrong.append((fault, tuple(found)))
    return dict(sorted(scores.items())), wrong


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
    for code, change in _CHANGES:
        places = [(q, a, changed) for q, a in _places(clean) if (changed := change(clean, q, a))]
        if places:
            q, a, changed = pick(places, clean.dialogue.id, code, change.__name__)
            yield _with_answer(clean, code, q, a, changed)
    for q, question in enumerate(clean.dialogue.questions):
        first = next((answer for answer in question.answers if not answer.immediate), None)
        if first:
            late = replace(question, ask_time=first.reply_start + 0.6 * (first.reply_end - first.reply_start))
            item = f"{clean.dialogue.id}/q{q}/a{question.answers.index(first)}"
            yield Fault("asked_after", item, _with_question(clean.dialogue, q, late), clean)
            break


def _places(clean: Clean) -> list[tuple[int, int]]:
    return [(q, a) for q, asked in enumerate(clean.dialogue.questions) for a, _ in enumerate(asked.answers)]


def _answer(clean: Clean, q: int, a: int) -> Answer:
    return clean.dialogue.questions[q].answers[a]


def _with_question(dialogue: Dialogue, q: int, question: Question) -> Dialogue:
    questions = dialogue.questions
    return replace(dialogue, questions=(*questions[:q], question, *questions[q + 1 :]))


def _with_answer(clean: Clean, code: str, q: int, a: int, answer: Answer) -> Fault:
    question = clean.dialogue.questions[q]
    answers = (*question.answers[:a], answer, *question.answers[a + 1 :])
    dialogue = _with_question(clean.dialogue, q, replace(question, answers=answers))
    return Fault(code, f"{clean.dialogue.id}/q{q}/a{a}", dialogue, clean)


def _in_reply(clean: Clean, code: str, template: str, other: Clean) -> Fault | None:
    """The wording in place of one of the replies that it can be made of."""
    fitting = []
    for q, a in _places(clean):
        values = _values(clean, q, a, other)
        telling = clean.dialogue.questions[q].kind in _TELLING and not _answer(clean, q, a).immediate
        if code in ("repeat", "guessable") and not telling:
            continue
        if all(f"{{{name}}}" not in template or values[name] for name in values):
            fitting.append((q, a, template.format(**values)))
    if not fitting:
        return None
    q, a, text = pick(fitting, clean.dialogue.id, code, template)
    return _with_answer(clean, code, q, a, replace(_answer(clean, q, a), text=text))


def _values(clean: Clean, q: int, a: int, other: Clean) -> Values:
    """What the wordings are filled with, empty where the dialogue has no such thing."""
    answer = _answer(clean, q, a)
    order = {segment.id: place for place, segment in enumerate(clean.segments)}
    place = max((order.get(id, 0) for id in answer.evidence), default=0)
    told = [_answer(clean, *at) for at in _places(clean)]
    before = [one.text for at, one in zip(_places(clean), told, strict=True) if at < (q, a)]
    if answer.immediate:
        shown = sum(segment.end <= clean.dialogue.questions[q].ask_time for segment in clean.segments)
        place = max(place, shown - 1)
    after = [one.text for one in told if min((order.get(id, 0) for id in one.evidence), default=0) > place]
    heard = [c.heard for c in clean.captions if c.segment_id in answer.evidence and c.heard]
    elsewhere = [_answer(other, *at).text for at in _places(other) if not _answer(other, *at).immediate]
    thing = thing_of(clean)
    values = {
        "x": answer.text,
        "early": before[0] if before and before[0] != answer.text else "",
        "two": before[1] if len(before) > 1 else "",
        "later": after[-1] if after and after[-1] not in before else "",
        "heard": heard[0] if heard and answer.modality == "visual" and not answer.immediate else "",
        "other": elsewhere[a % len(elsewhere)] if elsewhere and other.dialogue != clean.dialogue else "",
        "thing": thing if place < len(clean.segments) - 2 else "",
    }
    lower = {f"{name}_l": _lowered(text) for name, text in values.items()}
    return values | lower | {"l": lower["x_l"]}


def _lowered(text: str) -> str:
    return (text[:1].lower() + text[1:]).rstrip(".!?")


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
    questions = clean.dialogue.questions
    thing = thing_of(clean)
    if code == "missed_reply":
        q = len(questions) - 1
        if not clean.event or questions[q].kind != "detect":
            return None
        asked = replace(questions[q], text=template.format(event=clean.event), kind="never", answers=())
    else:
        q = 0
        if questions[q].kind not in _TELLING or ("{thing}" in template and not thing):
            return None
        asked = replace(questions[q], text=template.format(thing=thing))
    return Fault(code, f"{clean.dialogue.id}/q{q}", _with_question(clean.dialogue, q, asked), clean)


def _no_evidence(clean: Clean, q: int, a: int) -> Answer | None:
    return replace(_answer(clean, q, a), evidence=())


def _unknown_evidence(clean: Clean, q: int, a: int) -> Answer | None:
    return replace(_answer(clean, q, a), evidence=("nowhere:0-1",))


def _later_evidence(clean: Clean, q: int, a: int) -> Answer | None:
    """Rests on the stretch after its own."""
    answer = _answer(clean, q, a)
    ids = [segment.id for segment in clean.segments]
    place = ids.index(answer.evidence[-1]) + 1
    if answer.immediate or place >= len(ids):
        return None
    return replace(answer, evidence=(*answer.evidence, ids[place]), evidence_end=clean.segments[place].end)


def _unfinished_evidence(clean: Clean, q: int, a: int) -> Answer | None:
    """Given at once, from a stretch that has not ended."""
    answer = _answer(clean, q, a)
    going_on = [s for s in clean.segments if s.end > clean.dialogue.questions[q].ask_time + 1]
    if not answer.immediate or not going_on:
        return None
    return replace(answer, evidence=(*answer.evidence, going_on[0].id), evidence_end=going_on[0].end)


def _no_length(clean: Clean, q: int, a: int) -> Answer | None:
    answer = _answer(clean, q, a)
    return replace(answer, reply_end=answer.reply_start)


def _past_the_end(clean: Clean, q: int, a: int) -> Answer | None:
    return replace(_answer(clean, q, a), reply_end=clean.segments[-1].end + 5)


def _too_wide(clean: Clean, q: int, a: int) -> Answer | None:
    """Welcome for most of the video."""
    start = clean.dialogue.questions[q].ask_time
    end = start + 0.6 * clean.segments[-1].end
    wide = 0.6 * clean.segments[-1].end > 20 and end <= clean.segments[-1].end
    return replace(_answer(clean, q, a), reply_start=start, reply_end=end) if wide else None


def _into_the_one_before(clean: Clean, q: int, a: int) -> Answer | None:
    if a == 0:
        return None
    before = _answer(clean, q, a - 1)
    return replace(_answer(clean, q, a), reply_start=(before.reply_start + before.reply_end) / 2)


def _past_the_next_question(clean: Clean, q: int, a: int) -> Answer | None:
    answer, questions = _answer(clean, q, a), clean.dialogue.questions
    if answer.immediate or q + 1 == len(questions) or a + 1 < len(questions[q].answers):
        return None
    late = questions[q + 1].ask_time + 2
    fits = late - answer.reply_start <= 20 and late <= clean.segments[-1].end
    return replace(answer, reply_end=late) if fits else None


def _claimed_to_be_heard(clean: Clean, q: int, a: int) -> Answer | None:
    answer = _answer(clean, q, a)
    silent = not any(c.heard for c in clean.captions if c.segment_id in answer.evidence)
    return replace(answer, modality="audio") if silent else None


_CHANGES: tuple[tuple[str, Callable[[Clean, int, int], Answer | None]], ...] = (
    ("unanswerable", _no_evidence),
    ("unanswerable", _unknown_evidence),
    ("future_leak_answer", _later_evidence),
    ("asked_after", _unfinished_evidence),
    ("span_width", _no_length),
    ("span_width", _past_the_end),
    ("span_width", _too_wide),
    ("overlap", _into_the_one_before),
    ("overlap", _past_the_next_question),
    ("heard_not_seen", _claimed_to_be_heard),
)
