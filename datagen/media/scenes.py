"""Shot boundaries: a PySceneDetect detector tells cuts, and what it cannot see is added.

Detectors of PySceneDetect compare neighbouring pictures. That finds cuts, and also takes flashes and
violent motion for cuts, and misses changes that take a while. So what it takes for a cut counts only if

- the jump is the largest change within 0.3 s of it and brings new colours: else it is motion, which
  goes on, and moves colours about rather than replacing them;
- the shot does not come back within 0.6 s, in whatever light: else it was a flash (or its end);
- no good part of it remains, where it was or moved: else a window opened, a page was scrolled.

The first of these is cheap to tell, so the detector is asked about the largest changes alone.

A jump three times as large as anything around it (AdaptiveDetector's ratio) needs no new colours, and
is a cut even below the threshold of the detector, unless the user has set one.

Dissolves and wipes are added by gradual.py, fades by fades.py.
All spans are in seconds, so that it does not matter how many pictures a second there are.
"""

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from itertools import combinations
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scenedetect import AdaptiveDetector, ContentDetector, HashDetector, HistogramDetector
from scenedetect.common import FrameTimecode, Timecode

from datagen.config import SceneOptions
from datagen.media.clock import EPSILON
from datagen.media.fades import Fades
from datagen.media.gradual import Gradual
from datagen.media.small import STEP, TICK, Small, change, moves, recoloured, returns
from datagen.records import Boundary

_NO_RATE = Fraction(25)
"""FrameTimecode wants a rate, but uses it for frame numbers alone, and we deal in seconds."""

_DETECTORS = {
    "content": (ContentDetector, "threshold", 0),
    "adaptive": (AdaptiveDetector, "adaptive_threshold", 2),
    "hash": (HashDetector, "threshold", 0),
    "histogram": (HistogramDetector, "threshold", 0),
}
"""What each is called, its threshold, and how many changes on either side of a cut it looks at."""

_LEAST_STEP = 1.0
"""Less change than this, of 255, is no cut whatever a detector says."""

_FLASH = 0.6
"""Longest flash, in seconds."""

_AROUND = 0.3
"""Seconds before and after a jump that it is compared with."""

_PLAIN, _PLAIN_STEP = 3.0, 12.0
"""Factor by which a plain cut exceeds the changes around it, and its least mean change, of 255."""

_NEW_COLOURS = 0.25
"""Least share of the colours that a cut amid motion replaces."""

_NEWER = 1.5
"""The colours of two shots differ more than those within either, at least by this factor."""

_COMPARED = 4
"""Pictures of each shot that are compared."""

_SAME = 0.4
"""A picture whose distance is less than this share of the jump is as before the jump."""


class Scenes:
    """Shot boundaries of the pictures added one by one."""

    def __init__(self, options: SceneOptions) -> None:
        detector, threshold, self.beside = _DETECTORS[options.detector]
        values: dict[str, Any] = {"min_scene_len": 0.0}
        if options.threshold is not None:
            values[threshold] = options.threshold
        self.detector = detector(**values)
        self.min_seconds = options.min_seconds
        self.own = options.threshold is None
        self.gradual, self.fades = Gradual(), Fades()
        self.recent: deque[Small] = deque()
        self.largest: deque[int] = deque()
        """Ticks of pictures that no other one shortly before changed more than."""
        self.cuts: list[Boundary] = []

    def add(self, time: float, plane: NDArray[np.uint8]) -> None:
        """The picture at `time` seconds, as a small plane of blue, green and red."""
        small = Small(time, plane, self.recent[-1] if self.recent else None)
        if small.step >= _LEAST_STEP and small.step >= max(self._steps_before(time), default=0.0):
            self.largest.append(small.tick)
        self.recent.append(small)
        self.gradual.add(small)
        self.fades.add(small)
        while self.largest and self._all_seen(self.largest[0]):
            self._confirm(self.largest.popleft())
        while time - self.recent[0].time > 2 * _FLASH + 2 and len(self.recent) > 8:
            self.recent.popleft()

    def _steps_before(self, time: float) -> Iterator[float]:
        """Of the pictures within _AROUND, and of the last two in any case."""
        for back, small in enumerate(reversed(self.recent)):
            if back >= 2 and time - small.time > _AROUND:
                return
            yield small.step

    def _all_seen(self, tick: int) -> bool:
        """Whether the pictures that tell if the one at `tick` is a cut have been added."""
        if len(self.recent) <= self.beside or self.recent[-1 - self.beside].tick < tick:
            return False
        return self.recent[-1].time - tick / TICK.denominator > _FLASH

    def finish(self) -> tuple[Boundary, ...]:
        """All boundaries in order; the score is the mean change of colour across each, 0 to 1."""
        for tick in self.largest:
            self._confirm(tick)
        return _apart(_joined(self.cuts, self.gradual.finish(), self.fades.finish()), self.min_seconds)

    def _detects(self, shown: list[Small], at: int) -> bool:
        """Whether the detector takes picture `at` for a cut. It sees that and its neighbours alone."""
        seen = shown[max(0, at - 1 - self.beside) : at + 1 + self.beside]
        cuts = [
            cut for small in seen for cut in self.detector.process_frame(_timecode(small.tick), small.plane)
        ]
        return any(cut.pts == shown[at].tick for cut in cuts)

    def _confirm(self, tick: int) -> None:
        shown = list(self.recent)
        # Of pictures with one time stamp only the last is ever shown.
        at = max((n for n, small in enumerate(shown) if small.tick == tick), default=0)
        if not at:
            return
        before, after = shown[at - 1], shown[at]
        # At a low rate nothing may lie that near; then it is the next picture on each side.
        near = [
            n
            for n, small in enumerate(shown)
            if at - 2 <= n < at + 2 or -_AROUND <= small.time - after.time <= _AROUND
        ]
        most = max((shown[n].step for n in near if n != at), default=0.0)
        if after.step < most:
            return
        stands_out = after.step >= _PLAIN * most
        if not (self.own and stands_out and after.step >= _PLAIN_STEP) and not self._detects(shown, at):
            return
        old, new = [shown[n] for n in near if n < at], [shown[n] for n in near if n >= at]
        if not stands_out and not _recoloured(old, new):
            return
        later = [small for small in shown[at:] if small.time - after.time <= _FLASH + EPSILON]
        earlier = [small for small in shown[:at] if before.time - small.time <= _FLASH + EPSILON]
        if any(change(before, small) < _SAME * after.step for small in later):
            return
        if any(change(small, after) < _SAME * after.step for small in earlier):
            return
        # The first picture may be a mixture of both shots, as where fields were interlaced.
        settled = shown[min(at + 1, len(shown) - 1)]
        if any(returns(before, small) for small in _some(later[1:])) or moves(before, settled):
            return
        if any(returns(small, settled) for small in _some(earlier)):
            return
        self.cuts.append(Boundary(after.time, after.time, "cut", round(after.step / 255, 4)))


def _some(shot: list[Small]) -> list[Small]:
    return shot[:: max(1, -(-len(shot) // _COMPARED))]


def _recoloured(old: list[Small], new: list[Small]) -> bool:
    """Whether two shots differ in their colours, more than these change within them."""
    old, new = _some(old), _some(new)
    across = [recoloured(a, b) for a in old for b in new]
    within = [recoloured(a, b) for shot in (old, new) for a, b in combinations(shot, 2)]
    return fmean(across) >= max(_NEW_COLOURS, _NEWER * fmean(within or [0.0]))


def _joined(cuts: list[Boundary], gradual: list[Boundary], fades: list[Boundary]) -> list[Boundary]:
    """All of them without those that are a part of others."""
    # What shows nothing may be a shot in the dark, which a cut ends.
    fades = [fade for fade in fades if not any(_meet(fade, cut) and cut.score > fade.score for cut in cuts)]
    slow = fades + [
        boundary
        for boundary in gradual
        if not any(_meet(boundary, fade) for fade in fades)
        and not any(_meet(boundary, cut) and 2 * cut.score >= boundary.score for cut in cuts)
    ]
    return slow + [cut for cut in cuts if not any(_meet(cut, boundary) for boundary in slow)]


def _meet(a: Boundary, b: Boundary) -> bool:
    return a.start <= b.end + STEP and b.start <= a.end + STEP


def _apart(boundaries: list[Boundary], seconds: float) -> tuple[Boundary, ...]:
    """Of boundaries that start closer together than this, the one of the highest score."""
    kept: list[Boundary] = []
    for boundary in sorted(boundaries, key=lambda boundary: boundary.start):
        if kept and boundary.start - kept[-1].start < seconds - EPSILON:
            if boundary.score > kept[-1].score:
                kept[-1] = boundary
        else:
            kept.append(boundary)
    return tuple(kept)


def _timecode(tick: int) -> FrameTimecode:
    return FrameTimecode(Timecode(tick, TICK), _NO_RATE)
