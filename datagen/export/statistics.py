"""What the dataset is like, counted while it is exported: by source, and by shape of question.

All that is kept is a fixed number of counts for each source and shape, whatever the number of dialogues, and
the answers to questions that come up often. Times are counted in whole milliseconds, so that sums are exact.
"""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from datagen.config import Config
from datagen.dialogue.duplicates import comparable, question_hash
from datagen.dialogue.grid import count_turns
from datagen.export.spans import asking_turns
from datagen.llm.text import count_words
from datagen.records import NO_REPLY, Answer, Built, Dialogue, Turn

GRIDS = ((1.0, 1), (2.0, 1), (2.0, 2))
"""Seconds between two frames and frames to a turn, at which every dataset is measured, whatever its own. Two
frames a turn at 1 s give the turns of one at 2 s."""
RUN_BINS = ("1", "2", "3-4", "5-8", "9-16", "17-32", "33-64", "65+")
"""Lengths of silent runs, in turns."""
OTHERS = ""
"""Stands for the answers to a question beyond the first _ANSWERS_KEPT different ones."""
_ANSWERS_KEPT = 256
_SOURCES = 100
"""Sources counted by name: a manifest might name one for each video."""
_OF_QUESTIONS = ("reply_words", "spans", "lateness_milli")
"""Counted for each question; a dialogue has the sum."""


class Statistics:
    """Counts of all that has been added."""

    def __init__(self, config: Config, often: frozenset[int]) -> None:
        """`often`: the questions, by question_hash(), whose answers are compared."""
        self.config = config
        self._often = often
        self._options = {frames: replace(config.export, frames_per_turn=frames) for _, frames in GRIDS}
        self.sources: dict[str, Counter[str]] = {}
        self.shapes: dict[str, Counter[str]] = {}
        self.templates: dict[str, Counter[str]] = {}
        """The answers to each question that comes up often, both by comparable()."""
        self.tokens: dict[str, Counter[int]] = {"sft": Counter(), "rl": Counter()}
        """How many rows of each table have how many tokens."""

    @property
    def total(self) -> Counter[str]:
        """Counts over all sources."""
        total: Counter[str] = Counter()
        for counts in self.sources.values():
            _add(total, counts)
        return total

    def add(
        self,
        sources: Mapping[str, Mapping[str, int]],
        shapes: Mapping[str, Mapping[str, int]],
        templates: Mapping[str, Mapping[str, int]],
        tokens: Mapping[str, Mapping[int, int]],
    ) -> None:
        """Add what others have counted, named as here."""
        for name, counts in sources.items():
            self._count(name, counts)
        for shape, counts in shapes.items():
            _add(self.shapes.setdefault(shape, Counter()), counts)
        for question, answers in templates.items():
            for text, times in answers.items():
                self._answered(question, text, times)
        for table, rows in tokens.items():
            self.tokens[table].update(rows)

    def add_video(self, built: Built) -> None:
        """Count a video that has dialogues."""
        self._count(_source(built), {"videos": 1, "video_ms": _ms(built.watched.duration)})

    def add_dialogue(self, built: Built, dialogue: Dialogue, turns: Sequence[Turn]) -> None:
        """Count a dialogue with its turns as they are exported."""
        answers = [answer for question in dialogue.questions for answer in question.answers]
        replies = [number for number, turn in enumerate(turns) if turn.label == "reply"]
        found = _turn_counts(turns, replies, 0, len(turns), built.watched.duration)
        found["dialogues"] = 1
        found["questions"] = len(dialogue.questions)
        found["answers"] = len(answers)
        found["silent_dialogues"] = int(not found["replies"])
        found |= dict.fromkeys(_OF_QUESTIONS, 0)
        for shape, counts in _by_question(built, dialogue, turns, replies):
            for name in _OF_QUESTIONS:
                found[name] += counts[name]
            _add(self.shapes.setdefault(shape, Counter()), counts)
        for interval, frames in GRIDS:
            made = (len(turns), len(replies))
            found |= self._at_grid(built, dialogue, made, answers, interval, frames)
        self._count(_source(built), found)
        self._compare(dialogue)

    def _count(self, name: str, found: Mapping[str, int]) -> None:
        if name not in self.sources and len(self.sources) >= _SOURCES:
            name = "(others)"
        _add(self.sources.setdefault(name, Counter()), found)

    def _at_grid(
        self,
        built: Built,
        dialogue: Dialogue,
        made: tuple[int, int],
        answers: Sequence[Answer],
        interval: float,
        frames: int,
    ) -> dict[str, int]:
        """Turns, replies and spans that hold no turn, if frames came every `interval` seconds.

        `made`: turns and replies as they are exported.
        """
        config = self.config
        if (interval, frames) == (config.frames.interval, config.export.frames_per_turn):
            count, replies = made
        else:
            number = int(built.watched.duration / interval + 1e-6)
            words, seed = config.dialogue.max_reply_words, config.seed
            count, replies = count_turns(dialogue, number, interval, self._options[frames], words, seed)
        step = interval * frames
        spans = [answer for answer in answers if not answer.immediate]
        missed = sum(math.ceil(a.reply_start / step) * step > a.reply_end for a in spans)
        name = grid_name(interval, frames)
        return {
            f"{name}.turns": count,
            f"{name}.replies": replies,
            f"{name}.spans": len(spans),
            f"{name}.missed": missed,
        }

    def _compare(self, dialogue: Dialogue) -> None:
        for question in dialogue.questions:
            if question_hash(question.text) not in self._often:
                continue
            for text in [comparable(answer.text) for answer in question.answers] or [NO_REPLY]:
                self._answered(comparable(question.text), text, 1)

    def _answered(self, question: str, text: str, times: int) -> None:
        known = self.templates.setdefault(question, Counter())
        known[text if text in known or len(known) < _ANSWERS_KEPT else OTHERS] += times


def _source(built: Built) -> str:
    return built.video.source.encode("utf-8", "backslashreplace").decode()


def grid_name(interval: float, frames: int) -> str:
    """What a grid is called in the counts."""
    return f"{interval:g} s x {frames}"


def _by_question(
    built: Built, dialogue: Dialogue, turns: Sequence[Turn], replies: Sequence[int]
) -> list[tuple[str, dict[str, int]]]:
    """Shape and counts of each question that is asked, over the turns on which it is the last one asked."""
    asked = asking_turns(dialogue, turns)
    stops = [*(index for index, _ in asked[1:]), len(turns)][: len(asked)]
    counted = []
    for (index, number), stop in zip(asked, stops, strict=True):
        question, own = dialogue.questions[number], turns[index:stop]
        given = replies[bisect_left(replies, index) : bisect_left(replies, stop)]
        found = _turn_counts(turns, given, index, stop, built.watched.duration)
        found["questions"] = 1
        found["answers"] = len(question.answers)
        found["silent_dialogues"] = int(not found["replies"])
        found["video_ms"] = _ms(own[-1].time - _begin(turns, index))
        found["reply_words"] = sum(count_words(turns[number].text) for number in given)
        lateness = [
            (time - answer.reply_start) / (answer.reply_end - answer.reply_start)
            for answer in question.answers
            if not answer.immediate
            and answer.reply_start < answer.reply_end
            and (time := _given_at(answer, own)) is not None
        ]
        found["spans"] = len(lateness)
        found["lateness_milli"] = sum(round(1000 * share) for share in lateness)
        counted.append((question.kind, found))
    return counted


def _given_at(answer: Answer, turns: Sequence[Turn]) -> float | None:
    """Time of the turn that gives an answer, alone or with others."""
    first = bisect_left(turns, answer.reply_start, key=lambda turn: turn.time)
    return next((t.time for t in turns[first:] if t.label == "reply" and answer.text in t.text), None)


def _turn_counts(
    turns: Sequence[Turn], replies: Sequence[int], first: int, stop: int, duration: float
) -> dict[str, int]:
    """Replies, their places and gaps, and silences of turns `first` to `stop`, of which `replies` reply."""
    found: Counter[str] = Counter(turns=stop - first, longest_ms=0)
    replied, last = _begin(turns, first), first - 1
    for number in (*replies, stop):
        length = number - last - 1
        if length:
            found[f"run{min(len(RUN_BINS) - 1, (length - 1).bit_length())}"] += 1
            found["longest_ms"] = max(found["longest_ms"], _ms(turns[number - 1].time - replied))
        if number == stop:
            break
        time = turns[number].time
        found[f"decile{min(9, int(10 * time / duration))}"] += 1
        if last >= first:
            found["gap_ms"] += _ms(time - replied)
        replied, last = time, number
    found["replies"] = len(replies)
    found["gaps"] = max(0, len(replies) - 1)
    return dict(found)


def _begin(turns: Sequence[Turn], index: int) -> float:
    """Seconds at which a turn begins."""
    return turns[index - 1].time if index else 0.0


def _add(counts: Counter[str], more: Mapping[str, int]) -> None:
    longest = max(counts["longest_ms"], more.get("longest_ms", 0))
    for name, number in more.items():
        counts[name] += number
    counts["longest_ms"] = longest


def _ms(seconds: float) -> int:
    return round(1000 * seconds)
