"""A video becomes segments: stretches of it that are captioned as one.

Inside, times are whole milliseconds, so that sums and comparisons are exact.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from msgspec.structs import replace

from datagen.config import SegmentOptions
from datagen.records import (
    Boundary,
    BoundaryKind,
    Narration,
    Rejection,
    Segment,
    SegmentMethod,
    Sidecar,
    Video,
    Watched,
)

_ORDER: tuple[SegmentMethod, ...] = ("annotations", "sentences", "scenes", "uniform")
_SENTENCE_END = re.compile(r"[.!?…。！？｡।۔؟॥][\"'”’»)\]」』）]*$")
_TOLERANCE = 100
"""Milliseconds between a segment's start and the shot change it is said to begin with."""


class Span(NamedTuple):
    """A half-open stretch in milliseconds."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """Milliseconds."""
        return self.end - self.start


class Bounds(NamedTuple):
    """The lengths allowed, in milliseconds."""

    shortest: int
    longest: int


def make_segments(
    video: Video, watched: Watched, sidecar: Sidecar | None, options: SegmentOptions
) -> tuple[tuple[Segment, ...], tuple[Rejection, ...]]:
    """Cut a video into sorted segments that never overlap, and name the narrations that lie outside it.

    A method for which the video has no evidence gives way to the next of annotations, sentences, scenes,
    uniform; `auto` starts with the first. Every segment is min_seconds to max_seconds long (to the
    millisecond), unless the whole video is shorter. A short piece is merged with a neighbour closer than
    min_seconds, or else extended into the gap beside it, so that nothing said or annotated is lost.
    """
    narrations, rejected = _align(video, watched, sidecar)
    duration = _floor_ms(watched.duration)
    boundaries = tuple(sorted(watched.boundaries, key=lambda b: b.start))
    if duration <= 0:
        row = Rejection(
            "segment", video.id, video.id, "Corrupt", f"lasts {watched.duration:g} s: nothing to cut"
        )
        return (), (*rejected, row)
    longest = max(2, _floor_ms(options.max_seconds))
    bounds = Bounds(max(1, min(-_floor_ms(-options.min_seconds), (longest + 1) // 2)), longest)
    whole = Span(0, duration)
    cuts = sorted({ms for b in boundaries if 0 < (ms := _ms(b.start)) < duration})
    first = 0 if options.method == "auto" else _ORDER.index(options.method)
    for method in _ORDER[first:]:
        if method == "annotations":
            spans, edges = _annotated(narrations, bounds, whole)
        elif method == "sentences":
            spans, edges = _sentences(narrations, _ms(options.pause_seconds), whole)
        elif method == "scenes":
            spans, edges = _between(cuts, whole), [cuts]
        else:
            spans, edges = _equal_parts(bounds, whole), []
        if spans:
            break
    spans = _cut_long(_merge_short(_untangled(spans), bounds.shortest, whole), bounds, edges)
    return tuple(_segment(video, span, method, boundaries) for span in spans), rejected


def aligned(video: Video, watched: Watched, sidecar: Sidecar | None) -> tuple[Narration, ...]:
    """The narrations in the video's own clock, sorted and clipped to what was watched."""
    return _align(video, watched, sidecar)[0]


def _align(
    video: Video, watched: Watched, sidecar: Sidecar | None
) -> tuple[tuple[Narration, ...], tuple[Rejection, ...]]:
    duration = _floor_ms(watched.duration)
    shift = -video.audio_lead - video.offset
    kept: list[Narration] = []
    rejected: list[Rejection] = []
    for number, narration in enumerate(sidecar.narrations if sidecar else ()):
        moved = _moved(narration, shift, duration)
        if moved:
            kept.append(moved)
        # The rest of a longer file is not meant, and so not missed: a span that begins at 0 cannot be told
        # from a whole file, though, and gets its rows.
        elif video.offset == 0:
            detail = (
                f"{narration.start:g}-{narration.end:g} s of the file's clock lies outside the "
                f"{watched.duration:g} s of this video: {narration.text[:80]!r}"
            )
            item = f"{video.id}/narration/{narration.key or number}"
            rejected.append(Rejection("segment", video.id, item, "Invalid", detail))
    kept.sort(key=lambda n: (n.start, n.end))
    return tuple(kept), tuple(rejected)


def _moved(narration: Narration, shift: float, duration: int) -> Narration | None:
    start = _ms(narration.start + shift)
    end = max(start, _ms(narration.end + shift))
    if start >= duration or end < 0 or (end == 0 and start < 0):
        return None
    words = tuple(
        (max(0, begun) / 1000, min(duration, ended) / 1000, word)
        for a, b, word in narration.words
        if (begun := _ms(a + shift)) + (ended := max(begun, _ms(b + shift))) >= 0
        and begun + ended < 2 * duration
    )
    text = narration.text
    if len(words) < len(narration.words) and (start < 0 or end > duration):
        if not words:
            return None
        text = join_words([word for _, _, word in words], narration.text)
    return replace(
        narration, start=max(0, start) / 1000, end=min(duration, end) / 1000, text=text, words=words
    )


def join_words(words: Sequence[str], like: str) -> str:
    """Words of a transcript as text, with spaces between them only if the whole text `like` has any."""
    if any(word[:1].isspace() for word in words):
        return "".join(words).strip()
    return (" " if " " in like.strip() else "").join(words)


def _annotated(
    narrations: tuple[Narration, ...], bounds: Bounds, whole: Span
) -> tuple[list[Span], list[list[int]]]:
    """What was annotated; a point in time lasts until the next narration, at most as long as a segment."""
    visual = [Span(_ms(n.start), _ms(n.end)) for n in narrations if n.modality == "visual"]
    starts = [span.start for span in visual]
    spans = []
    for span in visual:
        if span.length == 0:
            later = bisect_right(starts, span.start)
            until = starts[later] if later < len(starts) else whole.end
            span = Span(span.start, min(until, span.start + bounds.longest))
        spans.append(span)
    return spans, [sorted({ms for span in visual for ms in span})]


def _sentences(
    narrations: tuple[Narration, ...], pause: int, whole: Span
) -> tuple[list[Span], list[list[int]]]:
    """Sentences of the speech. Cut a long one between sentences if it can be, else between words or cues."""
    units = sorted(
        (max(0, _ms(start)), min(whole.end, _ms(end)), text.strip())
        for n in narrations
        if n.modality == "audio"
        for start, end, text in (n.words or ((n.start, n.end, n.text),))
    )
    sentences: list[Span] = []
    begun: int | None = None
    reached = 0
    for number, (start, end, text) in enumerate(units):
        begun = start if begun is None else begun
        reached = max(reached, end)
        following = units[number + 1] if number + 1 < len(units) else None
        # After the full stop of an abbreviation or a pause for thought the text goes on in lower case.
        ends = _SENTENCE_END.search(text[-8:]) and not (following and following[2][:1].islower())
        if ends or following is None or following[0] - reached >= pause:
            sentences.append(Span(begun, reached))
            begun = None
    return sentences, [sorted({s.end for s in sentences}), sorted({end for _, end, _ in units})]


def _between(cuts: list[int], whole: Span) -> list[Span]:
    edges = [0, *cuts, whole.end]
    return [Span(a, b) for a, b in pairwise(edges)] if cuts else []


def _equal_parts(bounds: Bounds, whole: Span) -> list[Span]:
    """Parts about half-way between the shortest and the longest allowed."""
    count = max(-(-whole.length // bounds.longest), round(2 * whole.length / sum(bounds)), 1)
    count = max(1, min(count, whole.length // bounds.shortest))
    edges = [whole.length * n // count for n in range(count + 1)]
    return [Span(a, b) for a, b in pairwise(edges)]


def _untangled(spans: list[Span]) -> list[Span]:
    """Sorted, each beginning where the one before ends at the earliest; one inside another is part of it."""
    apart: list[Span] = []
    for span in sorted(spans):
        reached = apart[-1].end if apart else 0
        if span.end > reached or span.start >= reached:
            apart.append(Span(max(span.start, reached), span.end))
    return apart


def _merge_short(spans: list[Span], shortest: int, whole: Span) -> list[Span]:
    """Short spans merged with the nearer (or else the shorter) neighbour, or extended where none is near."""
    if whole.length <= shortest:
        return [whole]
    todo = list(spans)
    done: list[Span] = []
    for i, span in enumerate(todo):
        if span.length >= shortest:
            done.append(span)
            continue
        before = done[-1] if done else None
        after = todo[i + 1] if i + 1 < len(todo) else None
        near = []
        if before and span.start - before.end < shortest:
            near.append((span.start - before.end, before.length, "before"))
        if after and after.start - span.end < shortest:
            near.append((after.start - span.end, after.length, "after"))
        if not near:
            end = min(span.start + shortest, after.start if after else whole.end)
            done.append(Span(min(span.start, end - shortest), end))
        elif before and min(near)[2] == "before":
            done[-1] = Span(before.start, span.end)
        elif after:
            todo[i + 1] = Span(span.start, after.end)
    return done


def _cut_long(spans: list[Span], bounds: Bounds, edges: list[list[int]]) -> list[Span]:
    """Long spans cut into nearly equal parts, if possible at an edge of the first list, else of the next."""
    parts = []
    for start, end in spans:
        while end - start > bounds.longest:
            ideal = start + (end - start) // -(-(end - start) // bounds.longest)
            low, high = start + bounds.shortest, min(start + bounds.longest, end - bounds.shortest)
            cut = next((near for points in edges if (near := _nearest(points, ideal, low, high)) >= 0), ideal)
            parts.append(Span(start, cut))
            start = cut
        parts.append(Span(start, end))
    return parts


def _nearest(points: list[int], ideal: int, low: int, high: int) -> int:
    """The point in [low, high] nearest to the ideal one, or -1."""
    at = bisect_left(points, ideal)
    near = [p for p in points[max(0, at - 1) : at + 1] if low <= p <= high]
    return min(near, key=lambda p: abs(p - ideal), default=-1)


def _segment(video: Video, span: Span, method: SegmentMethod, boundaries: tuple[Boundary, ...]) -> Segment:
    return Segment(
        id=f"{video.id}:{span.start:07d}-{span.end:07d}",
        video_id=video.id,
        start=span.start / 1000,
        end=span.end / 1000,
        method=method,
        boundary=_kind_at(span.start, boundaries),
    )


def _kind_at(start: int, boundaries: tuple[Boundary, ...]) -> BoundaryKind | None:
    """The kind of the shot change that is going on at this time or within the tolerance of it."""
    begun = bisect_right(boundaries, start + _TOLERANCE, key=lambda b: _ms(b.start))
    near = [b for b in boundaries[max(0, begun - 2) : begun] if start <= _ms(b.end) + _TOLERANCE]
    return min(near, key=lambda b: abs(_ms(b.start) - start)).kind if near else None


def _ms(seconds: float) -> int:
    """The nearest millisecond, with what is too large for any video brought down to what sorts the same."""
    return round(max(-1e9, min(1e9, seconds)) * 1000)


def _floor_ms(seconds: float) -> int:
    """The last millisecond that is not past this time."""
    ms = _ms(seconds)
    return ms - 1 if ms / 1000 > seconds else ms
