"""When each answer may be given on the grid of turns: the reply spans that RL rewards."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from msgspec import Struct, structs

from datagen.records import Answer, Dialogue, Rejection, Turn

INCLUSIVE = 0.001
"""Seconds between two spans that would touch: the reward includes both ends of each."""


class Due(Struct, frozen=True, kw_only=True):
    """An answer that can be earned, with its reply span made inclusive."""

    item: str
    """Id of the answer."""
    question: str
    text: str
    start: float
    end: float
    first: int
    """Index of the first turn at which it can be earned."""
    last: int
    placed: int
    """Index of the turn that replies with it in SFT."""


def due_answers(
    dialogue: Dialogue, turns: Sequence[Turn], interval: float
) -> tuple[list[Due], list[Rejection]]:
    """The answers of a dialogue that some turn can earn, in time order; those that none can as `unearnable`.

    Answers to which the grid gave no reply turn are left out: it has rejected them itself.

    A span begins no earlier than the turn that asks its question and ends before the next question's turn;
    an immediate answer is due from the asking turn on. A span reaches to the turn that SFT replies on, where
    that was rounded up past its end: what SFT teaches must not be what RL punishes. No turn lies in two
    spans: a turn on the seam of two belongs to the earlier, whose end it has just shown, unless it replies
    with the later; of two that overlap the earlier ends where the later begins, but keeps its first turn and
    the one that replies with it.
    """
    times = [turn.time for turn in turns]
    due: list[Due] = []
    rejected = []
    asked = asking_turns(dialogue, turns)
    for at, (index, number) in enumerate(asked):
        question = dialogue.questions[number]
        until = asked[at + 1][0] if at + 1 < len(asked) else len(turns)
        limit = times[until] - INCLUSIVE if until < len(turns) else float("inf")
        answers = sorted(
            enumerate(question.answers),
            key=lambda pair: (not pair[1].immediate, pair[1].reply_start, pair[1].reply_end),
        )
        for a, answer in answers:
            item = f"{dialogue.id}/q{number}/a{a}"
            placed = _placed(answer, turns[:until], index, times)
            if placed < 0:
                continue
            start, end = max(answer.reply_start, times[index]), min(answer.reply_end, limit)
            if answer.immediate:
                start, end = times[index], min(max(end, times[index] + interval), limit)
            first, last = _turns_in(times, start, end)
            if first <= last:
                end = max(end, times[placed])
            before = due[-1] if due and due[-1].end >= start else None
            if before and (before.end > start or times[placed] == start):
                start = max(start, _kept_until(before, placed, times, interval))
            elif before:
                start = round(start + INCLUSIVE, 6)
            first, last = _turns_in(times, start, end)
            if first > last or start >= end or first > placed:
                what = "the reply it is joined to comes before" if first <= last else "no turn lies in"
                detail = f"{what} [{start:g}, {end:g}]: {answer.text}"
                rejected.append(Rejection("export", dialogue.video_id, item, "unearnable", detail))
                continue
            if before and before.end >= start:
                cut = round(start - INCLUSIVE, 6)  # a hair less would lose a turn that lies on it
                due[-1] = structs.replace(before, end=cut, last=_turns_in(times, before.start, cut)[1])
            due.append(
                Due(
                    item=item,
                    question=question.text,
                    text=answer.text,
                    start=start,
                    end=end,
                    first=first,
                    last=last,
                    placed=placed,
                )
            )
    return due, rejected


def _kept_until(due: Due, placed: int, times: Sequence[float], interval: float) -> float:
    """The earliest start of an answer that replies on turn `placed` and overlaps the span of `due`."""
    own = due.placed if due.placed < placed else due.first
    kept = times[max(own, due.first)]
    return round(kept + (INCLUSIVE if kept > due.start else interval), 6)


def asking_turns(dialogue: Dialogue, turns: Sequence[Turn]) -> list[tuple[int, int]]:
    """The turns that ask a question, by index, each with the number of the question in the dialogue."""
    found = []
    waiting = sorted(range(len(dialogue.questions)), key=lambda q: dialogue.questions[q].ask_time)
    for index, turn in enumerate(turns):
        if turn.user is None:
            continue
        for at, number in enumerate(waiting):
            question = dialogue.questions[number]
            if question.text == turn.user and question.ask_time <= turn.time:
                found.append((index, number))
                del waiting[: at + 1]
                break
    return found


def _placed(answer: Answer, turns: Sequence[Turn], first: int, times: Sequence[float]) -> int:
    """Index of the turn from `first` on that gives the answer, alone or merged with others; -1 if none.

    Rounding up and merging bring a reply at most two turns past the end of its span.
    """
    stop = first + 1 if answer.immediate else bisect_left(times, answer.reply_end) + 2
    if not answer.immediate:
        first = max(first, bisect_left(times, answer.reply_start))
    for index in range(first, min(stop, len(turns))):
        if turns[index].label == "reply" and answer.text in turns[index].text:
            return index
    return -1


def _turns_in(times: Sequence[float], start: float, end: float) -> tuple[int, int]:
    """Indices of the first and last turn at times from start to end, both inclusive; first > last if none."""
    return bisect_left(times, start), bisect_right(times, end) - 1
