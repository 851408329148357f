"""Checks of dialogues that need no model: one function for each code, which says what is wrong or None.

The codes and what they stand for are the table of failure modes in the design notes; they never change.
"""

import json
import math
import re
from collections.abc import Callable
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

from msgspec.structs import replace

from datagen.llm.text import clean, content, count_words, normalised, numbers, rouge_l, tokens
from datagen.llm.wordings import wording_words
from datagen.records import NO_REPLY, Answer, Caption, Dialogue, Question, Rejection, Segment

_LEAK_SHARE = 0.15
_REPEAT_ROUGE = 0.7
_REPEAT_NOVELTY = 0.15
_QUESTION_WORDS = 40
_EPSILON = 1e-6
_STATES_RETURN = ("detect", "state_change")
"""Questions to which the same reply is right again when the same thing happens again."""
_SILENT = ("never", "unanswerable")
"""Questions to which silence is the right answer."""

_ROLE = re.compile(r"^[ \t]*+(?:user|assistant|system)[ \t]*+(?:$|[:：])", re.IGNORECASE | re.MULTILINE)
_JSON = re.compile(r"```|[{\[]\s?\"|\"\s?[}\]]|\"\s?:\s?[\"{\[]|^(?:null|none|n/a)\W*+$", re.IGNORECASE)
_HINDSIGHT = re.compile(
    r"\b(?:later|eventually|ends up|by the end|in the end|throughout|about to|will soon|finally)\b",
    re.IGNORECASE,
)
_CAPTION_SPEAK = re.compile(
    r"\b(?:captions?|segments?|clips?|transcripts?|frames?|described|scene [0-9]{1,3}|"
    r"the (?:video|footage) (?:shows|depicts|begins|ends))\b",
    re.IGNORECASE,
)


class _Evidence:
    """What a video is known to show, and by which segment: built once for a dialogue."""

    def __init__(self, segments: tuple[Segment, ...], captions: tuple[Caption, ...]):
        self.segments = {segment.id: (place, segment) for place, segment in enumerate(segments)}
        self.end = max((segment.end for segment in segments), default=0.0)
        by_id = {caption.segment_id: caption for caption in captions}
        self.texts = [_known_text(by_id.get(segment.id)) for segment in segments]

    @cached_property
    def first_seen(self) -> dict[str, int]:
        """The number of the segment in which each word or number first comes up."""
        found: dict[str, int] = {}
        for place, text in enumerate(self.texts):
            for word in (*tokens(text), *numbers(text)):
                found.setdefault(word, place)
        return found

    def cited(self, answer: Answer) -> list[tuple[int, Segment]]:
        """The segments that an answer rests on, those that exist."""
        return [self.segments[id] for id in answer.evidence if id in self.segments]

    def text(self, answer: Answer) -> str:
        """What is known of these segments."""
        return " ".join(self.texts[place] for place, _ in self.cited(answer))


class _Case(NamedTuple):
    """One answer under test, with all that the checks look at."""

    answer: Answer
    question: Question
    next_ask: float
    """When the next question takes over."""
    previous_end: float
    """The end of the reply span before, of the same question."""
    earlier: tuple[str, ...]
    """Replies kept so far in the dialogue."""
    known: frozenset[str]
    """Words of the questions so far, and of the rules' own wordings in a dialogue made by rule."""
    evidence: _Evidence
    max_reply_words: int


def check_dialogue(
    dialogue: Dialogue, segments: tuple[Segment, ...], captions: tuple[Caption, ...], max_reply_words: int
) -> tuple[Dialogue | None, tuple[Rejection, ...]]:
    """The dialogue without what fails a check, and a row for each answer, question or dialogue that failed.

    A question goes when no answer is left of it, unless it was meant to have none; a dialogue goes with its
    last question. The first code that fits an answer is the one it is rejected with.
    """
    evidence = _Evidence(segments, captions)
    rejected: list[Rejection] = []
    kept: list[Question] = []
    earlier: list[str] = []
    known = wording_words() if dialogue.provenance == "rule" else frozenset[str]()
    everything = " ".join(evidence.texts)
    for q, question in enumerate(dialogue.questions):
        item = f"{dialogue.id}/q{q}"
        if wrong := _question_fault(question, kept, everything, evidence.end):
            code, detail = wrong
            rejected.append(
                Rejection("verify", dialogue.video_id, item, code, f"{detail}: {question.text[:300]!r}")
            )
            continue
        known |= frozenset(tokens(question.text))
        later = (
            other.ask_time for other in dialogue.questions[q + 1 :] if other.ask_time > question.ask_time
        )
        following = min(later, default=math.inf)
        answers: list[Answer] = []
        for a, answer in enumerate(question.answers):
            previous = answers[-1].reply_end if answers else 0.0
            case = _Case(
                answer, question, following, previous, tuple(earlier), known, evidence, max_reply_words
            )
            fault = next(((code, d) for code, check in ANSWER_CHECKS if (d := check(case)) is not None), None)
            if fault:
                detail = f"{fault[1]}: {answer.text[:300]!r}"
                rejected.append(Rejection("verify", dialogue.video_id, f"{item}/a{a}", fault[0], detail))
            else:
                answers.append(answer)
                earlier.append(answer.text)
        if answers or question.kind in _SILENT:
            kept.append(replace(question, answers=tuple(answers)))
        else:
            detail = f"no answer is left of {len(question.answers)}: {question.text[:300]!r}"
            rejected.append(Rejection("verify", dialogue.video_id, item, "unanswerable", detail))
    if not kept:
        detail = f"no question is left of {len(dialogue.questions)}"
        rejected.append(Rejection("verify", dialogue.video_id, dialogue.id, "unanswerable", detail))
        return None, tuple(rejected)
    return replace(dialogue, questions=tuple(kept)), tuple(rejected)


def _question_fault(
    question: Question, kept: list[Question], everything: str, end: float
) -> tuple[str, str] | None:
    if detail := _text_fault(question.text, _QUESTION_WORDS):
        return "format", detail
    if detail := _said_beyond(_CAPTION_SPEAK, question.text, everything):
        return "caption_speak", detail
    if not 0 <= question.ask_time <= end + _EPSILON:
        return "span_width", f"asked at {question.ask_time:g} s, outside the video"
    if kept and question.ask_time <= kept[-1].ask_time:
        return "overlap", f"asked at {question.ask_time:g} s, not after the question before it"
    return None


def check_format(case: _Case) -> str | None:
    """Text that no assistant should say, or too much of it."""
    return _text_fault(case.answer.text, case.max_reply_words)


def check_span(case: _Case) -> str | None:
    """Times that cannot be: spans without length or outside the video or the evidence."""
    answer = case.answer
    for name, start, end in (
        ("reply", answer.reply_start, answer.reply_end),
        ("evidence", answer.evidence_start, answer.evidence_end),
    ):
        if not start < end:
            return f"{name} span {start:g}-{end:g} s has no length"
        if not (start >= -_EPSILON and end <= case.evidence.end + _EPSILON):
            return f"{name} span {start:g}-{end:g} s lies outside the video"
    return None


def check_unanswerable(case: _Case) -> str | None:
    """No evidence, or none that exists, or nothing known of it."""
    if not case.answer.evidence:
        return "no evidence"
    unknown = [id for id in case.answer.evidence if id not in case.evidence.segments]
    if unknown:
        return f"unknown evidence {unknown[0][:80]!r}"
    return None if case.evidence.text(case.answer).strip() else "nothing is known of its evidence"


def check_asked_after(case: _Case) -> str | None:
    """Asked when the answer's time has begun; an immediate answer rests on what has ended by then."""
    answer, ask = case.answer, case.question.ask_time
    if not answer.immediate:
        late = answer.reply_start < ask - _EPSILON
        return f"asked at {ask:g} s, after its span starts at {answer.reply_start:g} s" if late else None
    end = max([answer.evidence_end, *(segment.end for _, segment in case.evidence.cited(answer))])
    return f"evidence ends at {end:g} s, asked at {ask:g} s" if end > ask + _EPSILON else None


def check_overlap(case: _Case) -> str | None:
    """Two replies at once, or a reply to a question that has been taken over."""
    answer = case.answer
    if answer.reply_start < case.previous_end - _EPSILON:
        return f"begins at {answer.reply_start:g} s, before the reply span before it ends"
    if not answer.immediate and answer.reply_end > case.next_ask + _EPSILON:
        return f"due until {answer.reply_end:g} s, but the next question is asked at {case.next_ask:g} s"
    return None


def check_future_leak_answer(case: _Case) -> str | None:
    """Says what is known only later than its evidence."""
    answer = case.answer
    cited = case.evidence.cited(answer)
    place, last = max(cited, key=lambda pair: pair[0])
    if max(answer.evidence_end, last.start) > answer.reply_end + _EPSILON and not answer.immediate:
        return f"evidence ends at {answer.evidence_end:g} s, after the reply span"
    if not last.start < answer.evidence_end <= last.end + _EPSILON:
        return f"evidence span ends at {answer.evidence_end:g} s, outside its last evidence"
    first = case.evidence.first_seen
    words = content(tokens(answer.text))
    later = [w for w in words if first.get(w, -1) > place and w not in case.known]
    named = _names(answer.text) | numbers(answer.text)
    telling = sorted(word for word in named if first.get(word, -1) > place and word not in case.known)
    if telling:
        return f"{telling[0]!r} is known only later"
    if len(later) > _LEAK_SHARE * len(words):
        return f"{len(later)} of {len(words)} content words are known only later, such as {later[0]!r}"
    return None


def check_hindsight(case: _Case) -> str | None:
    """Speaks as one who knows how it goes on."""
    return _said_beyond(_HINDSIGHT, case.answer.text, case.evidence.text(case.answer))


def check_caption_speak(case: _Case) -> str | None:
    """Speaks of the notes it was made from rather than of what is seen."""
    return _said_beyond(_CAPTION_SPEAK, case.answer.text, case.evidence.text(case.answer))


def check_invented_number(case: _Case) -> str | None:
    """A number that its evidence does not give."""
    given = numbers(case.evidence.text(case.answer)) | numbers(case.question.text)
    invented = sorted(numbers(case.answer.text) - given)
    return f"{invented[0]!r} is not in its evidence" if invented else None


def check_repeat(case: _Case) -> str | None:
    """Says again what was said, with next to no new word. What is asked for again may be said again."""
    if case.answer.immediate or case.question.kind in _STATES_RETURN:
        return None
    words = tokens(case.answer.text)
    carrying = content(words)
    for text in case.earlier:
        if normalised(text) == normalised(case.answer.text):
            return f"same as {text[:80]!r}"
        before = tokens(text)
        # Two texts of such different length cannot be alike: F1 is at most twice the shorter over both.
        if 2 * min(len(words), len(before)) < _REPEAT_ROUGE * (len(words) + len(before)):
            continue
        new = set(carrying) - set(before)
        if len(new) <= _REPEAT_NOVELTY * len(set(carrying)) and rouge_l(words, before) >= _REPEAT_ROUGE:
            return f"hardly differs from {text[:80]!r}"
    return None


ANSWER_CHECKS: tuple[tuple[str, Callable[[_Case], str | None]], ...] = (
    ("format", check_format),
    ("span_width", check_span),
    ("unanswerable", check_unanswerable),
    ("asked_after", check_asked_after),
    ("overlap", check_overlap),
    ("future_leak_answer", check_future_leak_answer),
    ("hindsight", check_hindsight),
    ("caption_speak", check_caption_speak),
    ("invented_number", check_invented_number),
    ("repeat", check_repeat),
)
"""Code and check, in the order in which they are tried: later ones rely on what earlier ones found sound."""


def _text_fault(text: str, max_words: int) -> str | None:
    if not text.strip():
        return "empty"
    if NO_REPLY in text:
        return f"{NO_REPLY!r} in the text"
    if _ROLE.search(text):
        return "a role stands at the start of a line"
    if _is_json(text):
        return "residue of JSON"
    if clean(text).casefold() != " ".join(text.split()).casefold() or len(text.splitlines()) > 1:
        return "line breaks, control characters or chat tokens in the text"
    if count_words(text) > max_words:
        return f"{count_words(text)} words, more than {max_words}"
    return None


def _is_json(text: str) -> bool:
    if _JSON.search(text):
        return True
    if text.strip()[:1] not in "{[":
        return False
    try:
        return isinstance(json.loads(text), (dict, list))
    except (ValueError, RecursionError):
        return False


def _said_beyond(pattern: re.Pattern[str], text: str, evidence: str) -> str | None:
    """A match of the pattern that the evidence does not contain: what it says itself may be repeated."""
    for match in pattern.finditer(text):
        if match[0].casefold() not in evidence.casefold():
            return f"{match[0]!r}"
    return None


def _known_text(caption: Caption | None) -> str:
    if caption is None:
        return ""
    return " ".join(
        (caption.seen or "", caption.heard or "", *(caption.traits[k] for k in sorted(caption.traits)))
    )


def _names(text: str) -> set[str]:
    """Normal forms of capitalised words in the middle of a sentence."""
    words = text.split()
    return {
        token
        for before, word in pairwise(words)
        if word[0].isupper() and (before[-1].isalnum() or before[-1] == ",")
        for token in content(tokens(word))
    }
