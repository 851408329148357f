"""What the dataset is like, counted while it is exported: by source, and by shape of question.

All that is kept is a fixed number of counts for each source and shape, whatever the number of dialogues, and
the answers to questions that come up often. Times are counted in whole milliseconds, so that sums are exact.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace

from datagen.config import Config
from datagen.dialogue.duplicates import comparable, question_hash
from datagen.dialogue.grid import make_turns
from datagen.export.grids import Spans, count_replies, missed_spans
from datagen.export.spans import asking_turns
from datagen.llm.text import count_words
from datagen.records import NO_REPLY, Built, Dialogue, Question, Turn

GRIDS = ((1.0, 1), (2.0, 1), (2.0, 2))
"""Seconds between two frames and frames to a turn, at which every dataset is measured, whatever its own. Two
frames a turn at 1 s give the turns of one at 2 s."""
RUN_BINS = ("1", "2", "3-4", "5-8", "9-16", "17-32", "33-64", "65+")
"""Lengths of silent runs, in turns."""
_RUNS = [f"run{min(place, len(RUN_BINS) - 1)}" for place in range(64)]
_DECILES = [f"decile{tenth}" for tenth in range(10)]
OTHERS = ""
"""Stands for the answers to a question beyond the first _ANSWERS_KEPT different ones."""
_ANSWERS_KEPT = 256
_SOURCES = 100
"""Sources counted by name: a manifest might name one for each video."""


class _Exported(NamedTuple):
    """A dialogue as it was exported."""

    source: str
    dialogue: Dialogue
    duration: float
    turns: int
    replies: int


class Statistics:
    """Counts of all that has been added."""

    def __init__(self, config: Config, often: frozenset[int]) -> None:
        """`often`: the questions, by question_hash(), whose answers are compared."""
        self.config = config
        self._often = often
        self.sources: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.shapes: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.templates: defaultdict[str, Counter[str]] = defaultdict(Counter)
        """The answers to each question that comes up often, both by comparable()."""
        self.tokens: dict[str, Counter[int]] = {"sft": Counter(), "rl": Counter()}
        """How many rows of each table have how many tokens."""
        self._exported: list[_Exported] = []

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
            _add(self._of(name), counts)
        for shape, counts in shapes.items():
            _add(self.shapes[shape], counts)
        for question, answers in templates.items():
            for text, times in answers.items():
                self._answered(question, text, times)
        for table, rows in tokens.items():
            self.tokens[table].update(rows)

    def add_video(self, built: Built) -> None:
        """Count a video that has dialogues."""
        counts = self._of(_source(built))
        counts["videos"] += 1
        counts["video_ms"] += _ms(built.watched.duration)

    def add_dialogue(self, built: Built, dialogue: Dialogue, turns: Sequence[Turn]) -> None:
        """Count a dialogue with its turns as they are exported."""
        replies = [number for number, turn in enumerate(turns) if turn.label == "reply"]
        duration = built.watched.duration
        counts = self._of(_source(built))
        counts["dialogues"] += 1
        counts["questions"] += len(dialogue.questions)
        counts["answers"] += sum([len(question.answers) for question in dialogue.questions])
        _count_turns(counts, turns, replies, 0, len(turns), duration)
        asked = asking_turns(dialogue, turns)
        stops = [*(index for index, _ in asked[1:]), len(turns)][: len(asked)]
        for (index, number), stop in zip(asked, stops, strict=True):
            question = dialogue.questions[number]
            given = replies[bisect_left(replies, index) : bisect_left(replies, stop)]
            shape = self.shapes[question.kind]
            shape["questions"] += 1
            shape["answers"] += len(question.answers)
            shape["video_ms"] += _ms(turns[stop - 1].time - _begin(turns, index))
            _count_turns(shape, turns, given, index, stop, duration)
            for name, found in _timing(question, [turns[reply] for reply in given]).items():
                counts[name] += found
                shape[name] += found
        self._compare(dialogue)
        self._exported.append(
            _Exported(self._known(_source(built)), dialogue, duration, len(turns), len(replies))
        )

    def _of(self, source: str) -> Counter[str]:
        """The counts of a source."""
        return self.sources[self._known(source)]

    def _known(self, source: str) -> str:
        """The name under which a source is counted."""
        return source if source in self.sources or len(self.sources) < _SOURCES else "(others)"

    def count_grids(self) -> None:
        """Count turns, replies and spans that hold no turn, if frames came as in each of GRIDS.

        Of all dialogues added since this was last done; cheaper for many at once.
        """
        done, self._exported = self._exported, []
        config = self.config
        spans = Spans([one.dialogue for one in done], config.export, config.seed)
        sources = {name: place for place, name in enumerate(dict.fromkeys(one.source for one in done))}
        places = np.array([sources[one.source] for one in done], np.int64)
        for interval, size in GRIDS:
            frames = [int(one.duration / interval + 1e-6) for one in done]
            turns, replies = count_replies(spans, frames, interval, size)
            for n in np.flatnonzero(replies < 0):
                replies[n] = self._replies(done[n].dialogue, frames[n], interval, size)
            if (interval, size) == (config.frames.interval, config.export.frames_per_turn):
                turns = np.array([one.turns for one in done], np.int64)
                replies = np.array([one.replies for one in done], np.int64)
            held, missed = missed_spans(spans, len(done), interval * size)
            name = grid_name(interval, size)
            for what, found in {"turns": turns, "replies": replies, "spans": held, "missed": missed}.items():
                for source, times in zip(sources, np.bincount(places, found), strict=True):
                    self.sources[source][f"{name}.{what}"] += int(times)

    def _replies(self, dialogue: Dialogue, frames: int, interval: float, size: int) -> int:
        """How many turns of a grid reply."""
        config = self.config
        options = replace(config.export, frames_per_turn=size)
        words = config.dialogue.max_reply_words
        turns, _, _ = make_turns(dialogue, frames, interval, options, words, config.seed)
        return sum(turn.label == "reply" for turn in turns)

    def _compare(self, dialogue: Dialogue) -> None:
        for question in dialogue.questions:
            if question_hash(question.text) not in self._often:
                continue
            for text in [comparable(answer.text) for answer in question.answers] or [NO_REPLY]:
                self._answered(comparable(question.text), text, 1)

    def _answered(self, question: str, text: str, times: int) -> None:
        known = self.templates[question]
        known[text if text in known or len(known) < _ANSWERS_KEPT else OTHERS] += times


def _source(built: Built) -> str:
    return built.video.source.encode("utf-8", "backslashreplace").decode()


def grid_name(interval: float, frames: int) -> str:
    """What a grid is called in the counts."""
    return f"{interval:g} s x {frames}"


def _timing(question: Question, given: Sequence[Turn]) -> dict[str, int]:
    """Words of the turns that reply to a question, and how late in their spans they give its answers."""
    spans, lateness = 0, 0
    for answer in question.answers:
        if answer.immediate or answer.reply_start >= answer.reply_end:
            continue
        for turn in given:
            if turn.time >= answer.reply_start and answer.text in turn.text:
                late = (turn.time - answer.reply_start) / (answer.reply_end - answer.reply_start)
                lateness += round(1000 * late)
                spans += 1
                break
    words = sum([count_words(turn.text) for turn in given])
    return {"reply_words": words, "spans": spans, "lateness_milli": lateness}


def _count_turns(
    counts: Counter[str],
    turns: Sequence[Turn],
    replies: Sequence[int],
    first: int,
    stop: int,
    duration: float,
) -> None:
    """Count replies, their places and gaps, and silences of turns `first` to `stop`; `replies` reply."""
    counts["turns"] += stop - first
    counts["replies"] += len(replies)
    counts["gaps"] += max(0, len(replies) - 1)
    counts["silent_dialogues"] += not replies
    times = [turns[number].time for number in replies]
    for time in times:
        counts[_DECILES[min(9, int(10 * time / duration))]] += 1
    counts["gap_ms"] += sum([_ms(after - before) for before, after in pairwise(times)])
    longest = 0.0
    begin = _begin(turns, first)
    for number in (*replies, stop):
        if number > first:
            counts[_RUNS[(number - first - 1).bit_length()]] += 1
            longest = max(longest, turns[number - 1].time - begin)
        if number < stop:
            first, begin = number + 1, turns[number].time
    counts["longest_ms"] = max(counts["longest_ms"], _ms(longest))


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
