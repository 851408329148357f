"""Checks of one reply: a function for each code, which says what is wrong or None. None needs a model."""

import re
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from itertools import pairwise
from typing import NamedTuple

from datagen.config import CheckOptions
from datagen.dialogue.evidence import EPSILON, Evidence, capitalised
from datagen.dialogue.lexicon import (
    ACKNOWLEDGING,
    CAPTION_SPEAK,
    FUTURE,
    GENERIC,
    HINDSIGHT,
    LEAD,
    REFUSAL,
    SPOKEN,
    said_beyond,
    text_fault,
)
from datagen.llm.kinds import WAITING_KINDS
from datagen.llm.text import normalised, numbers, rouge_l, stems, tokens
from datagen.records import Answer, Question

_RETURNING_KINDS = ("detect", "state_change", "mistake")
"""Questions to which the very same words are right again when the same thing happens again."""
_NARROW = 20.0
"""Seconds: a reply span this short is narrow in any video."""
_EMPTY = GENERIC | LEAD | ACKNOWLEDGING
_LEAST_UNCOVERED = 2
"""Words that evidence must lack before a reply is called unsupported: one may be a synonym."""
_LEAST_SAID = 2
"""Words that carry meaning without which a reply is compared as a whole only."""
_CLAUSE = re.compile(r"[.,;:!?]|\b(?:and|then|while|before|after|but)\b", re.IGNORECASE)


class Said(NamedTuple):
    """A reply kept so far in the dialogue, as the next ones are compared with it."""

    text: str
    words: tuple[str, ...]
    stems: frozenset[str]
    pairs: frozenset[tuple[str, ...]]


class Case(NamedTuple):
    """One answer under test, with all that the checks look at."""

    answer: Answer
    question: Question
    next_ask: float
    """When the next question takes over."""
    previous_end: float
    """The end of the reply span before, of the same question."""
    tally: int
    """How many times what the question asks for has come, with this answer."""
    earlier: Sequence[Said]
    """Replies kept so far in the dialogue."""
    said_pairs: AbstractSet[tuple[str, ...]]
    """The pairs of words of all these."""
    wordings: frozenset[str]
    """Stems of the rules' own wordings, in a dialogue made by rule."""
    told: frozenset[str]
    """These, and the stems of the questions so far."""
    evidence: Evidence
    max_reply_words: int
    options: CheckOptions
    places: list[int]
    """The numbers of the segments it rests on."""
    text: str
    """What is known of these."""


def check_format(case: Case) -> str | None:
    """Text that no assistant should say, or too much of it."""
    if fault := text_fault(case.answer.text, case.max_reply_words, case.text):
        return fault
    refusal = said_beyond(REFUSAL, case.answer.text, case.text)
    return f"a refusal, {refusal}" if refusal else None


def check_span(case: Case) -> str | None:
    """Times that cannot be: spans without length or outside the video; reply spans that are too wide."""
    answer, options = case.answer, case.options
    for name, start, end in (
        ("reply", answer.reply_start, answer.reply_end),
        ("evidence", answer.evidence_start, answer.evidence_end),
    ):
        if not start < end:
            return f"{name} span {start:g}-{end:g} s has no length"
        if not (start >= -EPSILON and end <= case.evidence.end + EPSILON):
            return f"{name} span {start:g}-{end:g} s lies outside the video"
    width = answer.reply_end - answer.reply_start
    if width > options.max_span_seconds + EPSILON:
        return f"reply span of {width:g} s, more than {options.max_span_seconds:g} s"
    if width > max(_NARROW, options.max_span_share * case.evidence.end) + EPSILON:
        return f"reply span of {width:g} s, more than {options.max_span_share:.0%} of the video"
    return None


def check_evidence(case: Case) -> str | None:
    """No evidence, or none that exists, or nothing known of it."""
    if not case.answer.evidence:
        return "no evidence"
    unknown = [id for id in case.answer.evidence if id not in case.evidence.places]
    if unknown:
        return f"unknown evidence {unknown[0][:80]!r}"
    return None if case.text.strip() else "nothing is known of its evidence"


def check_asked_after(case: Case) -> str | None:
    """Asked when the answer's time has begun; an immediate answer rests on what has ended by then."""
    answer, ask = case.answer, case.question.ask_time
    if answer.reply_start < ask - EPSILON:
        return f"asked at {ask:g} s, after its span starts at {answer.reply_start:g} s"
    if not answer.immediate:
        return None
    end = max([answer.evidence_end, *(case.evidence.segments[place].end for place in case.places)])
    return f"evidence ends at {end:g} s, asked at {ask:g} s" if end > ask + EPSILON else None


def check_overlap(case: Case) -> str | None:
    """Two replies at once, or a reply to a question that has been taken over."""
    answer = case.answer
    if answer.reply_start < case.previous_end - EPSILON:
        return f"begins at {answer.reply_start:g} s, before the reply span before it ends"
    if not answer.immediate and answer.reply_end > case.next_ask + EPSILON:
        return f"due until {answer.reply_end:g} s, but the next question is asked at {case.next_ask:g} s"
    return None


def check_future_leak(case: Case) -> str | None:
    """Says what is known only later than its evidence."""
    answer, evidence = case.answer, case.evidence
    place = max(case.places)
    last = evidence.segments[place]
    if max(answer.evidence_end, last.start) > answer.reply_end + EPSILON and not answer.immediate:
        return f"evidence ends at {answer.evidence_end:g} s, after the reply span"
    if not last.start < answer.evidence_end <= last.end + EPSILON:
        return f"evidence span ends at {answer.evidence_end:g} s, outside its last evidence"
    if answer.immediate:
        place = max(place, evidence.ended(case.question.ask_time) - 1)
    words = _telling(answer.text)
    later = [word for word in words if word not in case.told and evidence.is_new(word, place)]
    named = capitalised(answer.text) | numbers(answer.text) | evidence.names.intersection(words)
    if telling := sorted(word for word in named - case.told if evidence.first_known.get(word, -1) > place):
        return f"{telling[0]!r} is known only later"
    least = case.options.leak_share * len(words)
    # One word alone may be another name for what has been seen.
    if len(later) > (least if len(later) > 1 else 2 * least):
        return f"{len(later)} of {len(words)} content words are known only later, such as {later[0]!r}"
    return None


def check_hindsight(case: Case) -> str | None:
    """Speaks as one who knows how it goes on; speakers themselves may, where they are quoted."""
    text = case.answer.text
    if found := said_beyond(HINDSIGHT, text, case.text):
        return found
    quotes = SPOKEN.search(text) and any(case.evidence.heard[place] for place in case.places)
    return None if quotes else said_beyond(FUTURE, text, case.text)


def check_caption_speak(case: Case) -> str | None:
    """Speaks of the notes it was made from rather than of what is seen."""
    for word in case.answer.text.split():
        if word.strip("()[]<>{}\"'.,;") in case.evidence.places:
            return f"the id {word[:80]!r}"
    if not CAPTION_SPEAK.search(case.answer.text):
        return None
    known = f"{case.evidence.everything} {' '.join(sorted(case.wordings))}"
    return said_beyond(CAPTION_SPEAK, case.answer.text, known)


def check_invented_number(case: Case) -> str | None:
    """A number that its evidence does not give; who counts may say how many it makes."""
    given = numbers(case.text) | numbers(case.question.text)
    if case.question.kind == "count":
        given |= {str(case.tally), str(len(case.places))}
    invented = sorted(numbers(case.answer.text) - given)
    return f"{invented[0]!r} is not in its evidence" if invented else None


def check_repeat(case: Case) -> str | None:
    """Says again what was said. What is asked for again, or each time, may be said again."""
    if case.answer.immediate or case.question.kind in _RETURNING_KINDS or not case.earlier:
        return None
    now = said(case.answer.text)
    counted = numbers(case.answer.text) if case.question.kind == "count" else frozenset[str]()
    news = (now.stems & case.evidence.known(case.places)) | counted
    for old in case.earlier:
        if normalised(old.text) == normalised(now.text):
            return f"same as {old.text[:80]!r}"
        # Two texts of such different length cannot be alike: F1 is at most twice the shorter over both.
        if 2 * min(len(now.words), len(old.words)) < case.options.repeat_rouge * (
            len(now.words) + len(old.words)
        ):
            continue
        if news - old.stems:
            continue
        if rouge_l(now.words, old.words) >= case.options.repeat_rouge:
            return f"hardly differs from {old.text[:80]!r}"
    if counted - frozenset[str]().union(*(numbers(old.text) for old in case.earlier)):
        return None
    if len(now.stems) < _LEAST_SAID or news.difference(*(old.stems for old in case.earlier)):
        return None
    new = now.pairs - case.said_pairs
    # What the evidence itself puts together that way is news twice: it is no rewording.
    news_pairs = new & said(case.text).pairs
    if len(new) + len(news_pairs) < case.options.least_novelty * len(now.pairs):
        return f"{len(new)} of {len(now.pairs)} pairs of words are new"
    return None


def check_guessable(case: Case) -> str | None:
    """Says nothing that the question does not say: it could be given blind. Rules only repeat notes."""
    if case.answer.immediate or case.question.kind in WAITING_KINDS or case.wordings:
        return None
    words = set(stems(case.answer.text))
    if not words:
        beyond = set(tokens(case.answer.text)) - set(tokens(case.text))
        return "says nothing of what is seen or heard" if beyond else None
    known = case.evidence.known(case.places)
    words = {word for word in words if word in known or word not in _EMPTY}
    if case.question.kind != "count" and not words & known:
        return "says nothing of what is seen or heard"
    return None if words - set(stems(case.question.text)) else "says nothing that the question does not say"


def check_heard(case: Case) -> str | None:
    """Labelled as seen, but known from speech; or as heard where nobody spoke."""
    places = case.places
    heard = frozenset[str]().union(*(case.evidence.heard[place] for place in places))
    if case.answer.modality == "audio":
        spoken = any(case.evidence.is_heard(place) for place in places)
        return None if spoken else "labelled audio, but nothing was said"
    if case.answer.modality != "visual" or not heard:
        return None
    seen = frozenset[str]().union(*(case.evidence.seen[place] for place in places))
    words = frozenset(_telling(case.answer.text))
    only_heard = sorted(words & heard - seen)
    share = 0.5 if SPOKEN.search(case.answer.text) else case.options.heard_share
    if len(only_heard) > share * len(words & (heard | seen)):
        return f"labelled visual, but {only_heard[0]!r} was only heard"
    return None


def check_coverage(case: Case) -> str | None:
    """Too few of its words stand in its evidence, or it names somebody whom nobody named."""
    words = frozenset(word for word in _telling(case.answer.text) if not word[0].isdigit())
    known = case.evidence.known(case.places) | case.told
    missing = sorted(words - known)
    if case.evidence.tells_names:
        invented = sorted((capitalised(case.answer.text) & words) - known - case.evidence.first_known.keys())
        if invented:
            return f"nobody named {invented[0]!r}"
    covered = len(words) - len(missing)
    if len(missing) >= _LEAST_UNCOVERED and covered < case.options.least_coverage * len(words):
        return f"{covered} of {len(words)} content words are in its evidence, not {missing[0]!r}"
    return None


ANSWER_CHECKS: tuple[tuple[str, Callable[[Case], str | None]], ...] = (
    ("format", check_format),
    ("span_width", check_span),
    ("unanswerable", check_evidence),
    ("asked_after", check_asked_after),
    ("overlap", check_overlap),
    ("caption_speak", check_caption_speak),
    ("future_leak_answer", check_future_leak),
    ("hindsight", check_hindsight),
    ("repeat", check_repeat),
    ("unanswerable", check_coverage),
    ("invented_number", check_invented_number),
    ("guessable", check_guessable),
    ("heard_not_seen", check_heard),
)
"""Code and check, in the order in which they are tried: later ones rely on what earlier ones found sound."""


def said(text: str) -> Said:
    """A reply in the forms in which replies are compared."""
    found = [stems(clause) for clause in _CLAUSE.split(text)]
    pairs = {tuple(sorted(pair)) for words in found for pair in pairwise(words)}
    alone = {words for words in found if len(words) == 1}
    words = frozenset(word for clause in found for word in clause)
    return Said(text, tokens(text), words, frozenset(pairs | alone))


def _telling(text: str) -> list[str]:
    """The stems that tell something about this video rather than any."""
    return [word for word in stems(text) if word not in GENERIC and word not in ACKNOWLEDGING]
