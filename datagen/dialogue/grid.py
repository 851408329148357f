"""Times become turns: a dialogue and a frame interval give one labelled turn for each group of frames.

A turn's time is the time of its last frame. The reply turn of an answer is the first turn at or after its
target, and not before the turn of its question. The target is, by placement:
    end              the end of the reply span
    first_evidence   the time by which all that the reply says has been shown
    jitter           a share of the reply span drawn from `options.jitter`
    start            the start of the reply span
`end` and `first_evidence` never come before the end of the evidence. `jitter` and `start` may, as in the
paper, by the user's choice; even they wait until all but the last piece of evidence have ended and a frame
of the evidence has been shown. Where the video ends before its target, an answer whose evidence has ended
comes on the last turn. An immediate answer goes to the turn of its question.

No answer is moved or left out silently. One whose span holds no turn joins the next answer to the same
question if that one is due within a turn; two answers due on one turn become one; every other one that
cannot be given has a rejection: `span_width` (no turn for it at this interval, or none left), `overlap`
(another answer has the turn, or the next question has been asked), `asked_after` (an immediate answer whose
evidence has not ended).
"""

import re
from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache
from itertools import compress, pairwise
from typing import NamedTuple

from msgspec.structs import replace

from datagen.config import ExportOptions
from datagen.llm.text import count_words
from datagen.llm.wordings import fraction
from datagen.records import NO_REPLY, Answer, Dialogue, Rejection, Turn

_NOTES = ("before_evidence_end", "rounded_past_span", "on_last_turn")
_NO_NOTES: frozenset[str] = frozenset()
_SEGMENT_END = re.compile(r":\d+-(\d+)\Z")
"""The end in milliseconds, in the id of a segment."""


class _Reply(NamedTuple):
    """One or more answers to be given on one turn."""

    turn: int
    texts: tuple[str, ...]
    items: tuple[str, ...]
    """Ids of the answers."""
    notes: frozenset[str]
    """Which of the counts it goes into."""


class _Export:
    """The turns of one dialogue as far as they are known, and what has been counted and rejected."""

    def __init__(self, dialogue: Dialogue, times: Sequence[float], max_reply_words: int):
        self.dialogue = dialogue
        self.times = times
        self.max_reply_words = max_reply_words
        self.rejected: list[Rejection] = []

    def drop(self, reply: _Reply, code: str, why: str) -> None:
        """Reject every answer of a reply."""
        for item, text in zip(reply.items, reply.texts, strict=True):
            self.reject(item, code, f"{why}: {text!r}")

    def reject(self, item: str, code: str, detail: str) -> None:
        """Note a question or an answer that is not exported."""
        self.rejected.append(Rejection("export", self.dialogue.video_id, item, code, detail))

    def joined(self, first: _Reply, second: _Reply) -> _Reply | None:
        """Both as one reply on the later turn, or None if that is too long."""
        both = _Reply(
            max(first.turn, second.turn),
            first.texts + second.texts,
            first.items + second.items,
            first.notes | second.notes,
        )
        return both if count_words(_spoken(both)) <= self.max_reply_words else None


def make_turns(
    dialogue: Dialogue,
    frame_count: int,
    interval: float,
    options: ExportOptions,
    max_reply_words: int,
    seed: int,
) -> tuple[tuple[Turn, ...], tuple[Rejection, ...], dict[str, int]]:
    """The turns of a dialogue over `frame_count` frames, one every `interval` seconds.

    Also what could not be given, and counts: answers = replies + merged + dropped; of the replies, those
    before_evidence_end, rounded_past_span (turns are rounded up) and on_last_turn.
    """
    silent = _silent_turns(frame_count, interval, options.frames_per_turn)
    times = turn_times(frame_count, interval, options.frames_per_turn)
    export, asked, replies = _place(dialogue, times, options, max_reply_words, seed)
    users = {turn: dialogue.questions[q].text for q, turn in asked.items()}
    turns = list(silent)
    for number in users.keys() | replies.keys():
        reply = replies.get(number)
        turns[number] = replace(
            silent[number],
            user=users.get(number),
            label="reply" if reply else "silent",
            text=_spoken(reply) if reply else NO_REPLY,
        )
    answers = sum(len(question.answers) for question in dialogue.questions)
    given = sum(len(reply.items) for reply in replies.values())
    counts = {
        "answers": answers,
        "replies": len(replies),
        "merged": given - len(replies),
        "dropped": answers - given,
    }
    counts |= {note: sum(note in reply.notes for reply in replies.values()) for note in _NOTES}
    return tuple(turns), tuple(export.rejected), counts


@lru_cache(maxsize=512)
def _silent_turns(frame_count: int, interval: float, size: int) -> tuple[Turn, ...]:
    """The turns of a video of which nothing is said; most of those of any dialogue stay as they are."""
    lasts = [min(first + size, frame_count) for first in range(0, frame_count, size)]
    return tuple(
        Turn(
            time=round(last * interval, 6),
            first_frame=number * size + 1,
            last_frame=last,
            user=None,
            label="silent",
            text=NO_REPLY,
        )
        for number, last in enumerate(lasts)
    )


@lru_cache(maxsize=512)
def turn_times(frame_count: int, interval: float, size: int) -> tuple[float, ...]:
    """Seconds at which the turns of `size` frames each are over."""
    return tuple(turn.time for turn in _silent_turns(frame_count, interval, size))


def _place(
    dialogue: Dialogue, times: Sequence[float], options: ExportOptions, max_reply_words: int, seed: int
) -> tuple[_Export, dict[int, int], dict[int, _Reply]]:
    """What could not be given, the turn of each question by its number, and the replies by turn."""
    export = _Export(dialogue, times, max_reply_words)
    asked = _question_turns(export)
    stops = dict(pairwise(asked.values()))
    replies: dict[int, _Reply] = {}
    for q, turn in asked.items():
        replies |= _replies(export, q, turn, stops.get(turn), options, seed)
    return export, asked, replies


def _spoken(reply: _Reply) -> str:
    return " ".join(dict.fromkeys(reply.texts)) if len(reply.texts) > 1 else reply.texts[0]


def _question_turns(export: _Export) -> dict[int, int]:
    """The turn of each question by its number, in order; of two on one turn only the later is asked."""
    asked: dict[int, int] = {}
    questions = export.dialogue.questions
    for q in sorted(range(len(questions)), key=lambda q: questions[q].ask_time):
        turn = bisect_left(export.times, questions[q].ask_time)
        if turn == len(export.times):
            _drop_question(export, q, "span_width", "no turn is left when it is asked")
            continue
        for other in [other for other in asked if asked[other] == turn]:
            del asked[other]
            _drop_question(export, other, "overlap", "another question is asked on its turn")
        asked[q] = turn
    return asked


def _drop_question(export: _Export, q: int, code: str, why: str) -> None:
    question = export.dialogue.questions[q]
    item = f"{export.dialogue.id}/q{q}"
    export.reject(item, code, f"{why}: {question.text!r}")
    for a, answer in enumerate(question.answers):
        export.reject(f"{item}/a{a}", code, f"its question is not asked: {answer.text!r}")


def _replies(
    export: _Export, q: int, asked: int, stop: int | None, options: ExportOptions, seed: int
) -> dict[int, _Reply]:
    """The replies to one question by turn, all before the turn `stop` of the next question."""
    given: dict[int, _Reply] = {}
    for reply in _due(export, q, asked, options, seed):
        if reply.turn >= len(export.times):
            export.drop(reply, "span_width", "no turn is left in the video")
        elif stop is not None and reply.turn >= stop:
            export.drop(reply, "overlap", "the next question has been asked by then")
        elif reply.turn not in given:
            given[reply.turn] = reply
        elif both := export.joined(given[reply.turn], reply):
            given[reply.turn] = both
        else:
            export.drop(reply, "overlap", f"the turn at {export.times[reply.turn]:g} s has a reply already")
    return given


def _due(export: _Export, q: int, asked: int, options: ExportOptions, seed: int) -> list[_Reply]:
    """The answers to a question with their turns, those whose span holds no turn joined to the next one."""
    due: list[_Reply] = []
    waiting: _Reply | None = None
    answers = export.dialogue.questions[q].answers
    for a in sorted(range(len(answers)), key=lambda a: answers[a].reply_start):
        answer, item = answers[a], f"{export.dialogue.id}/q{q}/a{a}"
        if answer.immediate:
            reply = _reply(answer, item, asked, export.times)
            if answer.evidence_end <= export.times[asked]:
                due.append(reply)
            else:
                export.drop(reply, "asked_after", f"its evidence ends at {answer.evidence_end:g} s")
            continue
        turn = bisect_left(export.times, earliest(answer, export.dialogue.id, options, seed))
        ready = max(answer.reply_start, answer.evidence_end) <= export.times[-1]
        on_last = ready and turn == len(export.times)
        reply = _reply(answer, item, max(asked, turn - on_last), export.times, on_last)
        if waiting:
            both = export.joined(waiting, reply) if reply.turn <= waiting.turn + 1 else None
            if not both:
                _drop_unreachable(export, waiting)
            reply = both or reply
        reachable = _is_reachable(answer, asked, reply.turn, export.times)
        waiting = None if reachable else reply
        if reachable:
            due.append(reply)
    if waiting:
        _drop_unreachable(export, waiting)
    return sorted(due, key=lambda reply: reply.turn)


def _drop_unreachable(export: _Export, reply: _Reply) -> None:
    step = export.times[0] if export.times else 0.0
    export.drop(reply, "span_width", f"no turn of {step:g} s falls into its span")


def _reply(
    answer: Answer, item: str, turn: int, times: Sequence[float], on_last_turn: bool = False
) -> _Reply:
    time = times[turn] if turn < len(times) else float("inf")
    held = (time < answer.evidence_end, time > answer.reply_end and not answer.immediate, on_last_turn)
    notes = frozenset(compress(_NOTES, held)) if any(held) else _NO_NOTES
    return _Reply(turn, (answer.text,), (item,), notes)


def _is_reachable(answer: Answer, asked: int, turn: int, times: Sequence[float]) -> bool:
    """Whether a turn after the question lies in the reply span, and the reply comes at most one later."""
    first = max(asked, bisect_left(times, answer.reply_start))
    past_end = bisect_left(times, answer.reply_end)
    held = first < len(times) and times[first] <= answer.reply_end
    return held and turn <= past_end


def earliest(answer: Answer, dialogue_id: str, options: ExportOptions, seed: int) -> float:
    """The earliest time at which the reply may come."""
    if options.placement == "end":
        return max(answer.reply_end, answer.evidence_end)
    if options.placement == "first_evidence":
        return max(answer.reply_start, answer.evidence_end)
    target = answer.reply_start
    if options.placement == "jitter":
        low, high = options.jitter
        drawn = fraction(seed, dialogue_id, answer.text, answer.reply_start)
        target += (low + drawn * (high - low)) * (answer.reply_end - answer.reply_start)
    return max(target, answer.evidence_start, _end_before_last(answer))


def _end_before_last(answer: Answer) -> float:
    """When all evidence but the last segment has ended; the end of the evidence if the ids do not say."""
    ends = [_SEGMENT_END.search(segment) for segment in answer.evidence[:-1]]
    known = [int(end[1]) / 1000 for end in ends if end]
    return max(known, default=0.0) if len(known) == len(ends) else answer.evidence_end
