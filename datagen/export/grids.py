"""The replies of many dialogues counted on a grid of turns, with arrays instead of a turn at a time.

How a single dialogue is placed is said in datagen.dialogue.grid. Only how many turns reply is asked here, and
so what happens to an answer that is joined to another, or dropped for it, makes no difference: its turn has a
reply already. What remains is whether a turn falls into its span, and before the next question. The few
dialogues in which that is not all (`unsure`) are placed one by one.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from datagen.config import ExportOptions
from datagen.dialogue.grid import earliest, turn_times
from datagen.records import Dialogue

Numbers = npt.NDArray[np.int64]
Seconds = npt.NDArray[np.float64]


class Spans:
    """Questions and answers of some dialogues in one row each, in the order in which they are placed."""

    def __init__(self, dialogues: Sequence[Dialogue], options: ExportOptions, seed: int) -> None:
        questions = [
            (number, question)
            for number, dialogue in enumerate(dialogues)
            for question in sorted(dialogue.questions, key=lambda q: q.ask_time)
        ]
        self.dialogue: Numbers = np.array([number for number, _ in questions], np.int64)
        """Of each question, its dialogue."""
        self.asked: Seconds = np.array([question.ask_time for _, question in questions], np.float64)
        answers = [
            (number, answer, earliest(answer, dialogues[owner].id, options, seed))
            for number, (owner, question) in enumerate(questions)
            for answer in sorted(question.answers, key=lambda a: a.reply_start)
        ]
        self.question: Numbers = np.array([number for number, _, _ in answers], np.int64)
        """Of each answer, its question."""
        self.start: Seconds = np.array([answer.reply_start for _, answer, _ in answers], np.float64)
        self.end: Seconds = np.array([answer.reply_end for _, answer, _ in answers], np.float64)
        self.shown: Seconds = np.array([answer.evidence_end for _, answer, _ in answers], np.float64)
        self.target: Seconds = np.array([target for _, _, target in answers], np.float64)
        self.immediate: npt.NDArray[np.bool_] = np.array([answer.immediate for _, answer, _ in answers], bool)


def count_replies(spans: Spans, frames: Sequence[int], interval: float, size: int) -> tuple[Numbers, Numbers]:
    """Of each dialogue the number of turns, and how many of them reply; -1 where that cannot be told so.

    `frames`: of each dialogue, its frames, one every `interval` seconds, of which `size` make a turn.
    """
    count = np.asarray(frames, np.int64)
    turns = -(-count // size)
    times = np.array(turn_times((int(turns.max(initial=0)) + 1) * size, interval, size), np.float64)
    last = np.array([round(number * interval, 6) for number in frames], np.float64)

    def turn_at(seconds: Seconds, dialogue: Numbers) -> Numbers:
        """The first turn at that time or later; the last turn of a dialogue may be a short one."""
        found, final = np.searchsorted(times, seconds), turns[dialogue] - 1
        return np.where(found < final, found, final + (seconds > last[dialogue]))

    def time_of(turn: Numbers, dialogue: Numbers) -> Seconds:
        final = turns[dialogue] - 1
        time = np.where(turn < final, times[np.minimum(turn, len(times) - 1)], last[dialogue])
        return np.where(turn > final, np.inf, time)

    asked = turn_at(spans.asked, spans.dialogue)
    unsure = turns == 0
    unsure[spans.dialogue[asked >= turns[spans.dialogue]]] = True
    follows = spans.dialogue[1:] == spans.dialogue[:-1]
    unsure[spans.dialogue[1:][follows & (asked[1:] == asked[:-1])]] = True
    stop = turns[spans.dialogue]
    stop[:-1][follows] = asked[1:][follows]

    owner, begin = spans.dialogue[spans.question], asked[spans.question]
    turn = turn_at(spans.target, owner)
    turn -= (turn == turns[owner]) & (np.maximum(spans.start, spans.shown) <= last[owner])
    turn = np.where(spans.immediate, begin, np.maximum(begin, turn))
    first = np.maximum(begin, turn_at(spans.start, owner))
    within = (time_of(first, owner) <= spans.end) & (turn <= turn_at(spans.end, owner))
    given = np.where(spans.immediate, spans.shown <= time_of(begin, owner), within)
    given &= turn < stop[spans.question]

    later = np.flatnonzero(~spans.immediate)
    before, after = later[:-1], later[1:]
    back = (spans.question[before] == spans.question[after]) & (turn[after] < turn[before])
    unsure[owner[after][back]] = True  # the earlier might take the later with it

    most = len(times)
    replying = np.unique(owner[given] * most + turn[given]) // most
    return turns, np.where(unsure, -1, np.bincount(replying, minlength=len(turns)))


def missed_spans(spans: Spans, dialogues: int, step: float) -> tuple[Numbers, Numbers]:
    """Of each dialogue the number of spans, and how many of them hold no multiple of `step` seconds."""
    own = ~spans.immediate
    missed = own & (np.ceil(spans.start / step) * step > spans.end)
    owner = spans.dialogue[spans.question]
    return np.bincount(owner[own], minlength=dialogues), np.bincount(owner[missed], minlength=dialogues)
