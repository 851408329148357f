"""Dissolves and wipes: changes of shot that take a while.

They are looked for in a few small pictures a second, by what such a change is rather than by how
fast it is. With C the mean squared difference between a picture of the old and one of the new shot,
and A and B those of a picture between them to either:

- in a dissolve the picture between is (1 - x) * old + x * new, so that A = x^2 C and B = (1 - x)^2 C;
- in a wipe the share x of its pixels is new and the rest old, so that A = x C and B = (1 - x) C.

Both give x = (A + C - B) / 2C, which must rise from 0 to 1, and a rest A / C - x^2, the part of the
picture that is no blend: 0 for a dissolve, x - x^2 <= 1/4 for a wipe, and x^2 + 1/2 = 3/4 half way
between pictures that have nothing to do with each other, as when the camera moves. So a table of
mutual differences is all that is needed to find candidates, and most stretches are ruled out by the
picture in their middle alone.

In a wipe, whatever its shape, every pixel is old or new, and once new remains so.
"""

from bisect import bisect_left
from operator import attrgetter

import cv2
import numpy as np
from numpy.typing import NDArray

from datagen.media.clock import EPSILON
from datagen.media.small import BLACK, FLAT, REMAINS, STEP, Small, blocks, change, moves, recoloured, returns
from datagen.records import Boundary, BoundaryKind

_TIME = attrgetter("time")

_LENGTHS = [0.3 * 1.25**n for n in range(11)]
"""Seconds of the stretches looked at, a little of the old and of the new shot included."""

_PAUSE = 0.15
"""Seconds between two pictures with which a change may be found to end."""

_ASIDE = 0.8
"""Seconds of the shots beside it with which it is compared."""

_ROOM = 60
"""Pictures kept at least: enough for the longest change and what lies beside it on both sides."""

_DIFFER = 0.25
"""Mean squared difference of two shots, of the sum of their variances: 1 if they have nothing in common."""

_NO_BLEND = 0.2
"""Largest rest of a dissolve. Motion in the shots adds to it; 3/4 is pure chance."""
_NO_WIPE = 0.4
"""The same for a wipe, whose rest is 1/4 even when nothing moves."""

_NO_BRIEF_WIPE = 0.3
"""The same where only two pictures lie between, which may fit by chance."""

_NEARLY = 0.85
"""Share of the largest difference found."""

_STEADY = 3.0
"""No step is larger than this many times the average one, or it is a cut and some motion."""

_STAND_OUT = 2.0
"""A change of shot exceeds what else changes in as long a time by at least this factor."""

_EVEN = 0.45
"""Least squared mean over mean squared difference: .64 for normally distributed differences, .5 for
heavier tails, less where something merely moved through the picture."""

_NEW_COLOURS = 0.25
"""Least share of a picture's colours that a change of shot replaces."""

_MOST = 0.65
"""Of a picture this share at least is seen to be replaced."""


class Gradual:
    """Dissolves and wipes between the pictures added one by one."""

    def __init__(self) -> None:
        self.found: list[Boundary] = []
        self.kept: list[Small] = []
        self.pixels: NDArray[np.uint8] | None = None
        self.table = np.zeros((2 * _ROOM, 2 * _ROOM))
        """Mean squared differences of the pictures kept, where no further apart than a change may take."""
        self.judged = -_PAUSE
        """When it was last looked for a change."""
        self.best: tuple[float, float, Boundary] | None = None
        """Strength of what is being found, when it was last seen, and the boundary."""

    def add(self, small: Small) -> None:
        """The next picture."""
        if self.kept and small.time - self.kept[-1].time < STEP - EPSILON:
            return
        last = len(self.kept)
        if self.pixels is None:
            self.pixels = np.zeros((2 * _ROOM, small.pixels.size), np.uint8)
        if last == 2 * _ROOM:
            last = _ROOM
            del self.kept[:last]
            self.pixels[:last] = self.pixels[last:]
            self.table[:last, :last] = self.table[last:, last:]
        self.kept.append(small)
        self.pixels[last] = small.pixels.ravel()
        first = self._at(small.time - _LENGTHS[-1] - EPSILON)
        near = self.pixels[first : last + 1]
        # The nearest of one is the distance from it; whole numbers, the same on every machine.
        squares, _ = cv2.batchDistance(near, near[-1:], cv2.CV_32S, normType=cv2.NORM_L2SQR, K=1)
        row = squares[:, 0] / small.pixels.size
        self.table[last, :first] = self.table[:first, last] = 0
        self.table[last, first : last + 1] = self.table[first : last + 1, last] = row
        if self.best is not None and small.time - self.best[1] > _ASIDE:
            self._close()
        # A change that has just ended is as plain a picture later, and takes as long to judge.
        enough = small.contrast >= FLAT / 2 and row.max() >= _DIFFER * small.contrast**2
        if enough and small.time - self.judged >= _PAUSE:
            self.judged = small.time
            self._judge(first, last)

    def finish(self) -> list[Boundary]:
        """All changes found."""
        self._close()
        return self.found

    def _judge(self, first: int, new: int) -> None:
        """Find the strongest change that begins with picture `first` or later and ends with picture `new`."""
        olds = {max(first, self._at(self.kept[new].time - length - EPSILON)) for length in _LENGTHS}
        differ = self.table[new].tolist()
        fits = {old: differ[old] for old in sorted(olds, reverse=True) if self._fits(old, new, differ)}
        most = max(fits.values(), default=0.0)
        # The shortest stretch that shows nearly all of the change fits it best.
        for old, whole in fits.items():
            if whole < _NEARLY * most or recoloured(self.kept[old], self.kept[new]) < _NEW_COLOURS:
                continue
            found = self._between(old, new)
            if found is not None:
                self._note(whole**0.5, found)
                return

    def _fits(self, old: int, new: int, differ: list[float]) -> bool:
        """Whether two pictures differ as those of two shots do, and that between them may be a mixture."""
        whole, a, b = differ[old], self.kept[old], self.kept[new]
        least = _DIFFER * (a.contrast**2 + b.contrast**2)
        # What is no stronger than what is being found already need not be looked into.
        if self.best is not None:
            least = max(least, self.best[0] ** 2 + EPSILON)
        if whole < max(least, EPSILON) or a.contrast < FLAT / 2 or new - old < 3:
            return False
        middle = self._at((a.time + b.time) / 2)
        far = float(self.table[old, middle])
        share = (far + whole - differ[middle]) / (2 * whole)
        return abs(share - 0.5) < 0.4 and far < (_NO_WIPE + share * share) * whole

    def _at(self, time: float) -> int:
        """Number of the first picture at `time` seconds or later."""
        return bisect_left(self.kept, time, key=_TIME)

    def _between(self, old: int, new: int) -> Boundary | None:
        """The change between two pictures, if they are of different shots with a change between them."""
        shown, whole = self.kept[old : new + 1], self.table[old, new]
        far, near = self.table[old, old : new + 1] / whole, self.table[new, old : new + 1] / whole
        share = (far + 1 - near) / 2
        mixed = (share > 0.12) & (share < 0.88)
        steps = np.diff(share)
        if np.count_nonzero(mixed) < 2 or steps.min() < -0.08 or steps.max() > 0.6:
            return None
        rest = (far - share**2)[mixed].max()
        if rest > (_NO_WIPE if np.count_nonzero(mixed) > 2 else _NO_BRIEF_WIPE):
            return None
        start, end = _ends(np.maximum.accumulate(share), [small.time for small in shown])
        before, after = shown[start - 1], shown[end]
        if steps.max() > _STEADY / (end - start + 1):
            return None
        if not _unlike(before, after, self.table[old + start - 1, old + end]) or moves(shown[0], shown[-1]):
            return None
        kind: BoundaryKind = "dissolve"
        if rest > _NO_BLEND:
            kind = "wipe"
            if not _sweeps(before, after, [shown[n] for n in np.flatnonzero(mixed)]):
                return None
        return Boundary(shown[start].time, after.time, kind, round(change(before, after) / 255, 4))

    def _note(self, strength: float, boundary: Boundary) -> None:
        if self.best is not None and boundary.start >= self.best[2].end:
            self._close()
        if not self.found or boundary.start >= self.found[-1].end:
            self.best = strength, self.kept[-1].time, boundary

    def _close(self) -> None:
        """Keep the best change, unless as much changes all the time, or it was the end of a flash."""
        if self.best is None:
            return
        strength, _, boundary = self.best
        self.best = None
        lag = min(boundary.end - boundary.start, _ASIDE)
        first, last = self._at(boundary.start - EPSILON), self._at(boundary.end - EPSILON)
        before = self._at(self.kept[first].time - lag + EPSILON) - 1
        after = self._at(self.kept[last].time + lag - EPSILON)
        beside = []
        if before >= 0:
            beside.append(self.table[before, first])
        if after < len(self.kept):
            beside.append(self.table[last, after])
        # One side suffices: the other shot may be wild, or so short that a further change is near.
        if beside and strength < _STAND_OUT * min(beside) ** 0.5:
            return
        earlier = [small for small in self.kept[:first] if boundary.start - small.time <= _ASIDE]
        if not any(returns(small, self.kept[last]) for small in earlier):
            self.found.append(boundary)


def _ends(share: NDArray[np.float64], times: list[float]) -> tuple[int, int]:
    """Numbers of the first mixed and the first pure picture, from the share of the new shot in each.

    Motion in the shots makes the ends vague, but not the middle half; so that is prolonged.
    """
    early, late = np.interp((0.25, 0.75), share, times)
    start = int(np.searchsorted(times, early - (late - early) / 2 - EPSILON))
    end = int(np.searchsorted(times, late + (late - early) / 2 - EPSILON))
    return max(start, 1), min(end, len(times) - 1)


def _unlike(old: Small, new: Small, square: float) -> bool:
    """Whether two pictures may be of different shots: all of it changed, and not by light."""
    same, other = blocks(old, new)
    lit = np.count_nonzero(cv2.max(old.pixels, new.pixels) > BLACK) / old.pixels.size
    return same <= REMAINS and other >= _MOST and change(old, new) ** 2 >= _EVEN * lit * square


_SEEN = 0.25
"""What differs less than this share of the mean does not tell old from new."""

_BACK = 0.12
"""Share of what tells old from new that may become old again."""


def _sweeps(old: Small, new: Small, mixed: list[Small]) -> bool:
    """Whether all that becomes new in the pictures between remains new."""
    whole = cv2.absdiff(old.pixels, new.pixels)
    seen = whole > _SEEN * whole.mean()
    was_new, back = np.zeros_like(seen), 0
    for small in mixed:
        from_old, from_new = cv2.absdiff(small.pixels, old.pixels), cv2.absdiff(small.pixels, new.pixels)
        is_new = seen & (from_new < from_old)
        back += int(np.count_nonzero(was_new & ~is_new))
        was_new = is_new
    return back <= _BACK * int(np.count_nonzero(seen))
