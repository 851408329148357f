"""What `datagen report` counts over a whole dataset: losses, flags on dialogues, the shape of their turns.

In memory: some facts on each video, and for each dialogue its rank and its flags. Nothing read is trusted.
"""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, field

from datagen.config import SILENT_KINDS, Config
from datagen.dialogue.grid import make_turns
from datagen.export.spans import asking_turns
from datagen.export.split import hash64
from datagen.inspect.check import Findings
from datagen.inspect.dataset import all_rows, turns_again
from datagen.inspect.forecast import Forecast
from datagen.records import Answer, Dialogue, Rejection, Turn

LATENCY_BINS = tuple(quarter / 4 for quarter in range(9))
"""Edges, as shares of the reply span: 0 is its start, 1 its end."""
GAP_BINS = (1, 2, 4, 8, 16, 32, 64)
"""Longest gap of each bin, in seconds; longer ones have a bin of their own."""
GAP_GRIDS = (1.0, 2.0)
"""Seconds a turn at which gaps are counted."""
_MOST_FLAGS = 20
_EXAMPLES = 5
_DETAIL = 400
"""Characters of a reason that are shown."""


class VideoFacts(Struct, frozen=True, kw_only=True):
    """The columns of a video's row that the report shows."""

    id: str
    path: str
    duration: float
    frame_count: int
    frame_interval: float
    width: int
    height: int
    cuts: tuple[float, ...]
    partial: str
    licence: str
    source: str
    split: str


class Loss(Struct):
    """One reason for which things did not make it."""

    count: int = 0
    examples: list[Rejection] = field(default_factory=list)


class Survey(Struct):
    """What there is in a dataset."""

    videos: dict[str, VideoFacts] = field(default_factory=dict)
    segmented: set[str] = field(default_factory=set)
    """Videos with a segment ..."""
    captioned: set[str] = field(default_factory=set)
    """... with one that has a caption ..."""
    talking: set[str] = field(default_factory=set)
    """... with a dialogue ..."""
    exported: set[str] = field(default_factory=set)
    """... and with a row for a trainer."""
    losses: dict[tuple[str, str], Loss] = field(default_factory=dict)
    """By stage and code."""
    flags: dict[str, list[Rejection]] = field(default_factory=dict)
    """By dialogue, what there is to look at: what was turned away of it, and in stages of their own
    what breaks a contract (contract), what is wrong with RL rows (reward), what was found here (measured)."""
    lost: dict[str, list[Rejection]] = field(default_factory=dict)
    """By video, what was lost of it before it belonged to a dialogue that is there."""
    severity: dict[str, list[int]] = field(default_factory=dict)
    """Of each dialogue, how many flags, those beyond _MOST_FLAGS too: broken contracts, checks, others."""
    unreadable: int = 0
    latency: Counter[int] = field(default_factory=Counter)
    """Replies by how far into their span they come: number of LATENCY_BINS at or before it."""
    gaps: dict[float, Counter[int]] = field(default_factory=lambda: {step: Counter() for step in GAP_GRIDS})
    """Gaps between replies by bin, for each of GAP_GRIDS."""
    shapes: dict[str, Counter[str]] = field(default_factory=dict)
    """Shapes of questions, by source."""

    def flag(self, dialogue: str, flag: Rejection) -> None:
        """One more thing to look at, if the dialogue is there."""
        if dialogue not in self.severity:
            return
        self.severity[dialogue][{"contract": 0, "verify": 1, "measured": 1}.get(flag.stage, 2)] += 1
        kept = self.flags.setdefault(dialogue, [])
        if len(kept) < _MOST_FLAGS:
            kept.append(flag)

    def worst(self) -> list[str]:
        """Flagged dialogues: most broken contracts first, then most checks, then most flags of any kind."""
        flagged = [(severity, id) for id, severity in self.severity.items() if any(severity)]
        return [id for _, id in sorted(flagged, key=lambda pair: (*(-n for n in pair[0]), pair[1]))]

    def shuffled(self, seed: int) -> list[str]:
        """All dialogues, in the order of a seeded hash."""
        return sorted(self.severity, key=lambda id: (hash64(seed, "report", id), id))


def survey(out: Path, config: Config, findings: Findings, forecast: Forecast) -> Survey:
    """Read the tables below `out`; what is wrong with the trainers' rows comes with `findings`.

    Raises Invalid where a table cannot be read.
    """
    found = Survey()
    for row in all_rows(out, "videos"):
        video = _convert(row, VideoFacts)
        if video and math.isfinite(video.duration) and 0 < video.frame_interval < math.inf:
            found.videos[video.id] = video
    for row in all_rows(out, "segments", ["video_id", "seen", "heard"]):
        found.segmented.add(row["video_id"])
        if row["seen"] or row["heard"]:
            found.captioned.add(row["video_id"])
    for dialogue, video, turns in dialogues(out, found.videos, config):
        if not turns:
            found.unreadable += 1
            continue
        found.severity.setdefault(dialogue.id, [0, 0, 0])
        found.talking.add(video.id)
        _count(found, dialogue, video, turns, config)
        _measure(found, dialogue, turns, config)
    found.exported.update(row["video_id"] for row in all_rows(out, "sft", ["video_id"]))
    infos = (row["extra_info"] for row in all_rows(out, "rl", ["extra_info"]))
    found.exported.update(info["video_id"] for info in infos if isinstance(info, dict) and "video_id" in info)
    for row in all_rows(out, "rejected"):
        if rejection := _convert(row, Rejection):
            _lose(found, rejection)
    _take_over(found, findings, forecast)
    return found


def dialogues(
    out: Path, videos: dict[str, VideoFacts], config: Config
) -> Iterator[tuple[Dialogue, VideoFacts, tuple[Turn, ...]]]:
    """Each dialogue with its video and its turns, made again; no turns where its times are none."""
    for row in all_rows(out, "dialogues"):
        dialogue = _convert(row, Dialogue)
        video = videos.get(dialogue.video_id) if dialogue else None
        if dialogue and video:
            turns = turns_again(dialogue, video.frame_count, video.frame_interval, config)
            yield dialogue, video, turns


def active_turns(dialogue: Dialogue, turns: Sequence[Turn]) -> dict[int, range]:
    """Of each question that is asked, by its number, the turns on which it is the last one asked."""
    asked = asking_turns(dialogue, turns)
    stops = [*(index for index, _ in asked[1:]), len(turns)]
    return {number: range(index, stop) for (index, number), stop in zip(asked, stops, strict=False)}


def given_at(answer: Answer, turns: Sequence[Turn], active: range) -> int | None:
    """Index of the turn that gives an answer, alone or joined with others, while its question is active."""
    begin = -math.inf if answer.immediate else answer.reply_start
    first = bisect_left(turns, begin, active.start, active.stop, key=lambda turn: turn.time)
    replies = (n for n in range(first, active.stop) if turns[n].label == "reply")
    return next((n for n in replies if answer.text in turns[n].text), None)


def dialogue_of(item: str) -> str:
    """The dialogue that an item of the rejected table or a row of the trainers' tables belongs to."""
    head = item.partition("/q")[0]
    for mark in ("#seg", "@"):
        before, _, number = head.rpartition(mark)
        head = before if before and number.isdecimal() else head
    return head


def _count(
    found: Survey, dialogue: Dialogue, video: VideoFacts, turns: Sequence[Turn], config: Config
) -> None:
    shapes = found.shapes.setdefault(video.source, Counter())
    active = active_turns(dialogue, turns)
    for number, question in enumerate(dialogue.questions):
        shapes[question.kind] += 1
        for answer in question.answers if number in active else ():
            length = answer.reply_end - answer.reply_start
            timed = not answer.immediate and length > 0
            at = given_at(answer, turns, active[number]) if timed else None
            if at is not None:
                share = (turns[at].time - answer.reply_start) / length
                found.latency[sum(share > edge for edge in LATENCY_BINS)] += 1
    options = msgspec.structs.replace(config.export, frames_per_turn=1)
    words = config.dialogue.max_reply_words
    for step, gaps in found.gaps.items():
        made, _, _ = make_turns(dialogue, int(video.duration / step), step, options, words, config.seed)
        times = [turn.time for turn in made if turn.label == "reply"]
        gaps.update(bisect_left(GAP_BINS, round(later - earlier)) for earlier, later in pairwise(times))


def _measure(found: Survey, dialogue: Dialogue, turns: Sequence[Turn], config: Config) -> None:
    """Flag what no single check sees: how often a dialogue speaks."""

    def flag(code: str, detail: str) -> None:
        found.flag(dialogue.id, Rejection("measured", dialogue.video_id, dialogue.id, code, detail))

    replies = [turn.time for turn in turns if turn.label == "reply"]
    if not replies:
        if any(question.kind not in SILENT_KINDS for question in dialogue.questions):
            flag("no_reply", "asks for replies and has none")
        return
    most = config.dataset.max_reply_rate
    if len(replies) > most * len(turns):
        flag("silence_balance", f"{len(replies)} of {len(turns)} turns are replies, more than {most:.0%}")
    longest = max(later - earlier for earlier, later in pairwise([0.0, *replies, turns[-1].time]))
    if longest > config.dataset.max_silent_seconds:
        at_most = config.dataset.max_silent_seconds
        flag("silence_balance", f"silent for {longest:.0f} s, more than {at_most:g}")


def _lose(found: Survey, rejection: Rejection) -> None:
    loss = found.losses.setdefault((rejection.stage, rejection.code), Loss())
    loss.count += 1
    shown = msgspec.structs.replace(rejection, detail=rejection.detail[:_DETAIL])
    if len(loss.examples) < _EXAMPLES:
        loss.examples.append(shown)
    dialogue = dialogue_of(rejection.item_id)
    if dialogue in found.severity:
        found.flag(dialogue, shown)
    elif rejection.video_id in found.talking:
        found.lost.setdefault(rejection.video_id, []).append(shown)


def _take_over(found: Survey, findings: Findings, forecast: Forecast) -> None:
    """Flag what `validate` found."""
    flags = [
        Rejection("contract", "", fault.id, "fault", f"{fault.file}: {fault.message}"[:_DETAIL])
        for fault in findings.faults
    ]
    for tie in forecast.ties:
        detail = f"{tie.setting}: `{tie.policy}` earns {tie.reward:.2f}, the truth {tie.truth:.2f}"
        flags.append(Rejection("reward", "", tie.id, "trivial_policy", detail))
    for dead in forecast.dead:
        flags.append(Rejection("reward", "", dead.id, "dead_window", f"{dead.setting}: {dead.why}"))
    for flag in flags:
        found.flag(dialogue_of(flag.item_id), flag)


def _convert(row: dict[str, Any], kind: type[Any]) -> Any:
    """A row as a record, or None."""
    try:
        return msgspec.convert(row, kind)
    except msgspec.ValidationError:
        return None
