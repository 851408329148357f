"""Checks of one question: a function for each code, which says what is wrong or None. None needs a model."""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from datagen.config import SILENT_KINDS, CheckOptions
from datagen.dialogue.evidence import EPSILON, Evidence, capitalised, is_spaced
from datagen.dialogue.lexicon import (
    AGENT,
    EACH_TIME,
    EXPLETIVE,
    FEMALE,
    GENERIC,
    HEARING,
    LEAD,
    MALE,
    QUESTION_SPEAK,
    WAITING,
    said_beyond,
    text_fault,
)
from datagen.llm.kinds import WAITING_KINDS
from datagen.llm.text import numbers, stems
from datagen.records import Question

_QUESTION_WORDS = 40
_ABSENT_WORDS = 3
"""Words that one sentence must have of a question said to be unanswerable before it is taken to answer it."""
_PRONOUN = re.compile(
    r"\b(?:he|she|him|her|hers|his|they|them|their|theirs|it|its|(?:that|this|the other|the same) one"
    r"|(?:with|of|about|to|for|into|from|after|before|do|does|did|on|in)"
    r" (?:that|those|these)(?=\W*$))\b",
    re.IGNORECASE,
)
_THIS = re.compile(r"\bthis\b")
"""What the viewer points at."""
_SHE = ("she", "her", "hers")
_HE = ("he", "him", "his")
_PERSONAL = (*_SHE, *_HE, "they", "their", "theirs")
_PEOPLE = FEMALE | MALE
_NO_ANTECEDENTS = LEAD | GENERIC | frozenset(["whether", "many", "much", "often"])


class AskedCase(NamedTuple):
    """One question under test, with all that the checks look at."""

    question: Question
    kept: Sequence[Question]
    """The questions before it that are sound."""
    evidence: Evidence
    wordings: frozenset[str]
    """Stems of the rules' own wordings, in a dialogue made by rule: they say nothing of the video."""
    options: CheckOptions


def check_format(case: AskedCase) -> str | None:
    """Text that no viewer would say, or too much of it."""
    return text_fault(case.question.text, _QUESTION_WORDS, case.evidence.everything)


def check_caption_speak(case: AskedCase) -> str | None:
    """Asks about the notes rather than about what is seen."""
    return said_beyond(QUESTION_SPEAK, case.question.text, case.evidence.everything)


def check_time(case: AskedCase) -> str | None:
    """Asked outside the video."""
    ask = case.question.ask_time
    return None if 0 <= ask <= case.evidence.end + EPSILON else f"asked at {ask:g} s, outside the video"


def check_order(case: AskedCase) -> str | None:
    """Asked no later than the question before it."""
    ask = case.question.ask_time
    late = case.kept and ask <= case.kept[-1].ask_time
    return f"asked at {ask:g} s, not after the question before it" if late else None


def check_future_leak(case: AskedCase) -> str | None:
    """Names what nobody could know when it is asked, unless it waits for that."""
    question, evidence = case.question, case.evidence
    if question.kind in WAITING_KINDS or WAITING.search(question.text):
        return None
    # What is on when it is asked, or comes next, is before the viewer's eyes.
    place = evidence.ended(question.ask_time)
    idle = GENERIC | LEAD | case.wordings
    words = [word for word in stems(question.text) if word not in idle]
    asked = {word for old in case.kept for word in stems(old.text)}
    later = [word for word in words if word not in asked and evidence.is_new(word, place)]
    named = capitalised(question.text) | numbers(question.text) | evidence.names.intersection(words)
    if telling := sorted(word for word in named - asked if evidence.first_known.get(word, -1) > place):
        return f"{telling[0]!r} is known only later"
    least = case.options.question_leak_share * len(words)
    # A single word may be no more than what a viewer expects.
    if later and len(later) >= (least if len(later) > 1 else 2 * least):
        return f"{len(later)} of {len(words)} words are known only later, such as {later[0]!r}"
    return None


def check_reference(case: AskedCase) -> str | None:
    """The first thing said has a pronoun that stands for nothing said before or in sight."""
    if case.kept:
        return None
    # What is quoted is not the viewer's own speech.
    text = EXPLETIVE.sub(" ", re.split(r"[:\"“«]", case.question.text, maxsplit=1)[0].lower())
    in_sight = frozenset[str]().union(*case.evidence.seen[: case.evidence.ended(case.question.ask_time) + 1])
    for match in _PRONOUN.finditer(text):
        pronoun = match[0]
        said = (*stems(text[: match.start()]), *_THIS.findall(text[: match.start()]))
        before = frozenset(word for word in said if word in _PEOPLE or word not in _NO_ANTECEDENTS)
        people = FEMALE if pronoun in _SHE else MALE if pronoun in _HE else _PEOPLE
        if people is _PEOPLE and before:
            continue
        # Whoever is in sight is meant; a thing in sight is one of many.
        if pronoun in _PERSONAL and (
            any(word in people or AGENT.match(word) for word in before | in_sight)
            or capitalised(case.question.text)
        ):
            continue
        return f"nothing that {pronoun!r} could stand for"
    return None


QUESTION_CHECKS: tuple[tuple[str, Callable[[AskedCase], str | None]], ...] = (
    ("format", check_format),
    ("caption_speak", check_caption_speak),
    ("span_width", check_time),
    ("overlap", check_order),
    ("future_leak_question", check_future_leak),
    ("ambiguous_reference", check_reference),
)
"""Code and check, in the order in which they are tried."""


def missed_reply(question: Question, stop: float, evidence: Evidence, wordings: frozenset[str]) -> str | None:
    """A stretch, while the question is active, that shows what it waits for and has no reply; or None.

    `stop` is when the next question takes over; `wordings` are stems that say nothing of what is waited for.
    Silence there would be taught although a reply is due. A question that waits for something needs all of
    its words in one sentence; one that is said to be unanswerable needs more of them.
    """
    if question.kind not in ("detect", *SILENT_KINDS) or not is_spaced(question.text):
        return None
    wanted = frozenset(stems(question.text)) - LEAD - wordings
    each = EACH_TIME.search(question.text)
    least = {"never": 1, "detect": 1 if each else 2}.get(question.kind, _ABSENT_WORDS)
    if len(wanted) < least:
        return None
    heard = bool(HEARING.search(question.text))
    for place, segment in enumerate(evidence.segments):
        if segment.start < question.ask_time - EPSILON or segment.end > stop + EPSILON:
            continue
        if any(wanted <= words for words in evidence.sentences(place, heard)):
            given = (
                segment.id in answer.evidence
                or (answer.reply_start < segment.end and (answer.reply_end > segment.start or not each))
                for answer in question.answers
            )
            if not any(given):
                return f"no reply at {segment.start:g}-{segment.end:g} s: {evidence.texts[place][:120]!r}"
    return None
