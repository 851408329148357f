"""The reward of RL rows: PAUC, the area below the score of what has been said so far, less three penalties.

As in MMDuet2 (arXiv 2512.06810) and its released code. Replies are judged by functions that the caller
gives: a model behind an endpoint, or the overlap of words (`export.overlap`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from datagen.records import NO_REPLY

Judge = Callable[[str, str, str], float | None]
"""(question, reply, true answer) -> score from 0 to the settings' `top`; None where none could be had."""
Repeats = Callable[[Sequence[str], str], bool | None]
"""(earlier replies, reply) -> whether all that the reply says has been said; None where nobody knows."""

PAUC_WEIGHT = 3.0
REPETITION_WEIGHT = 2.0
OUT_OF_SPAN_WEIGHT = 0.5
COMMON_PREFIX_WEIGHT = 2.0
COMMON_PREFIX_CHARACTERS = 50
START_SCORE = 0.5


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """Which PAUC: the published ones are PAPER, RELEASED and BENCHMARK."""

    top: int
    """Best score S a judge gives."""
    floor: float
    """Share w of a span's time that even a reply at its end has for itself."""
    joined: bool = False
    """A reply is judged together with the earlier ones in its span."""
    released_faults: bool = False
    """Also what the released code does wrong: see `reward`."""
    pauc_weight: float = PAUC_WEIGHT
    repetition_weight: float = REPETITION_WEIGHT
    out_of_span_weight: float = OUT_OF_SPAN_WEIGHT
    common_prefix_weight: float = COMMON_PREFIX_WEIGHT


PAPER = Settings(4, 0.0)
RELEASED = Settings(4, 0.5)
BENCHMARK = Settings(2, 0.0, joined=True)
SETTINGS = {"paper": PAPER, "released": RELEASED, "benchmark": BENCHMARK}


class Span(Struct, frozen=True):
    """A true answer and when it may be given: both ends (seconds) are inclusive."""

    start: float
    end: float
    question: str
    text: str

    def holds(self, time: float) -> bool:
        """Whether a reply at `time` is within the span."""
        return self.start <= time <= self.end


def truth_spans(ground_truth: Mapping[str, Any]) -> list[Span]:
    """The spans of an RL row's `ground_truth`."""
    return [
        Span(start, end, answer["question"], answer["content"])
        for answer in ground_truth["answer"]
        for start, end in [answer["reply_timespan"]]
    ]


class Reward(Struct, frozen=True, kw_only=True):
    """What a window's replies earn; shares from 0 to 1 but for the total."""

    total: float
    pauc: float
    """Mean over the spans that count."""
    repetition: float
    """Share of the replies that repeat earlier ones."""
    out_of_span: float
    """Share of the turns outside all spans that are no silence."""
    common_prefix: float
    """Share of the turns that begin like an earlier reply."""
    spans: tuple[float | None, ...]
    """PAUC of each span; None for one that does not count, as no turn lies in it."""


def pauc(start: float, end: float, points: Sequence[tuple[float, float]], settings: Settings) -> float:
    """PAUC of the span from `start` to `end` with (time, score) of the replies in it, in order of time.

    (0.5 x_1 + sum g_i (x_(i+1) - x_i) + g_P (T - x_P)) / (T S) with T = end - start and
    x_i = (t_i - start)(1 - w). Of a span without length it is the limit of that: the last score over S.
    The released code divides by zero there (ZeroDivisionError with `released_faults`).
    """
    length = end - start
    if length == 0 and not settings.released_faults:
        return (points[-1][1] if points else START_SCORE) / settings.top
    if not points:
        return START_SCORE / settings.top
    area, before, score = 0.0, 0.0, START_SCORE
    for time, given in points:
        x = (time - start) * (1 - settings.floor)
        area += score * (x - before)
        before, score = x, given
    return (area + score * (length - before)) / (length * settings.top)


def reward(
    spans: Sequence[Span],
    times: Sequence[float],
    replies: Sequence[str],
    earlier: Sequence[str],
    judge: Judge,
    repeats: Repeats,
    settings: Settings,
) -> Reward:
    """3 mean PAUC - 2 repetition - 0.5 out of span - 2 common prefix, of the replies at the turns `times`.

    `earlier` are the replies in the prompt. A reply without a score counts as none within its span, and one
    of which nobody knows whether it repeats does not count for the repetition. Which replies are judged
    does not depend on what the judges say. Done right by default and as the released code does it with
    `settings.released_faults`:

    - replies and times of different number: ValueError; released: the rest of the longer is ignored
    - a turn in two spans counts in the first; released: in both, with the score it has in the last
    - a span in which no turn lies does not count; released: one that ends before the first turn does
    - a reply after another one in its span is one reply; released: its repetition counts twice
    - no turn at all earns 0; released: IndexError
    """
    faults = settings.released_faults
    if len(times) != len(replies) and not faults:
        raise ValueError(f"{len(replies)} replies for {len(times)} turns")
    said = [(time, reply.strip()) for time, reply in zip(times, replies, strict=False)]
    inside = [_said_within(spans, number, said, faults) for number in range(len(spans))]
    scores = _judged(spans, inside, judge, settings)
    areas = [
        pauc(span.start, span.end, points, settings) if _counts(span, turns, said, faults) else None
        for span, turns, points in zip(spans, inside, scores, strict=True)
    ]
    counted = [area for area in areas if area is not None]
    covered = {time for turns in inside for time, _ in turns}
    outside = [text != NO_REPLY for time, text in said if time not in covered]
    mean = _share(counted)
    repetition = _share(_repetitions(said, inside if faults else (), earlier, repeats))
    out_of_span = _share(outside)
    prefix = _share(_common_prefixes([text for _, text in said], earlier))
    return Reward(
        total=settings.pauc_weight * mean
        - settings.repetition_weight * repetition
        - settings.out_of_span_weight * out_of_span
        - settings.common_prefix_weight * prefix,
        pauc=mean,
        repetition=repetition,
        out_of_span=out_of_span,
        common_prefix=prefix,
        spans=tuple(areas),
    )


_Said = Sequence[tuple[float, str]]


def _said_within(spans: Sequence[Span], number: int, said: _Said, faults: bool) -> _Said:
    """The turns within a span that are its own."""
    before = () if faults else spans[:number]
    return [
        (time, text)
        for time, text in said
        if spans[number].holds(time) and not any(other.holds(time) for other in before)
    ]


def _counts(span: Span, turns: _Said, said: _Said, faults: bool) -> bool:
    return span.start <= said[-1][0] if faults else bool(turns)


def _judged(
    spans: Sequence[Span], inside: Sequence[_Said], judge: Judge, settings: Settings
) -> list[list[tuple[float, float]]]:
    """(time, score) of the distinct replies within each span."""
    found: list[dict[float, float]] = []
    for span, turns in zip(spans, inside, strict=True):
        points: dict[float, float] = {}
        distinct: list[str] = []
        for time, text in turns:
            if text == NO_REPLY or text in distinct:
                continue
            distinct.append(text)
            score = judge(span.question, " ".join(distinct) if settings.joined else text, span.text)
            if score is not None:
                points[time] = score
        found.append(points)
    if settings.released_faults:
        last = {time: score for points in found for time, score in points.items()}
        found = [{time: last[time] for time in points} for points in found]
    return [list(points.items()) for points in found]


def _repetitions(
    said: _Said, doubled: Sequence[_Said], earlier: Sequence[str], repeats: Repeats
) -> list[bool]:
    """Whether each reply repeats; those after another one in a span of `doubled` once more."""
    known = list(earlier)
    found: list[bool] = []
    judged: dict[float, bool] = {}
    for time, text in said:
        if text == NO_REPLY:
            continue
        if text in known:
            found.append(True)
            continue
        repeated = repeats(known, text) if known else False
        if repeated is not None:
            judged[time] = repeated
            found.append(repeated)
        known.append(text)
    for turns in doubled:
        distinct: set[str] = set()
        for time, text in turns:
            if text == NO_REPLY or text in distinct:
                continue
            if distinct and time in judged:
                found.append(judged[time])
            distinct.add(text)
    return found


def _common_prefixes(texts: Sequence[str], earlier: Sequence[str]) -> list[bool]:
    """Whether each text shares its first characters with an earlier one; silence is too short to."""
    known: set[str] = {text[:COMMON_PREFIX_CHARACTERS] for text in earlier}
    found = []
    for text in texts:
        start = text[:COMMON_PREFIX_CHARACTERS]
        found.append(len(start) == COMMON_PREFIX_CHARACTERS and start in known)
        known.add(start)
    return found


def _share(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
