"""Dissolves and wipes: changes of shot that take a while.

They are looked for in a few small pictures a second, by what such a change is rather than by how
fast it is. With C the mean squared difference between a picture of the old and one of the new shot,
and A and B those of a picture between them to either:

- in a dissolve the picture between is (1 - x) * old + x * new, so that A = x^2 C and B = (1 - x)^2 C;
- in a wipe the share x of its pixels is new and the rest old, so that A = x C and B = (1 - x) C.

Both give x = (A + C - B) / 2C, which must rise from 0 to 1, and a rest A / C - x^2, the part of the
picture that is no blend: 0 for a dissolve, x - x^2 <= 1/4 for a wipe, and x^2 + 1/2 = 3/4 half way
between pictures that have nothing to do with each other, as when the camera moves. So the table of
all mutual differences is all that is needed to find candidates.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from datagen.media.clock import EPSILON
from datagen.media.small import FLAT, HEIGHT, STEP, WIDTH, Small, change, recoloured, relit, returns
from datagen.records import Boundary, BoundaryKind

_LONGEST = 2.4
"""Seconds a dissolve or wipe may take, a little of the old and of the new shot included."""

_ASIDE = 0.8
"""Seconds of the shots beside it with which it is compared."""

_ROOM = 56
"""Pictures kept: enough for the longest change and what lies beside it on both sides."""

_LEAST = 20.0
"""Root mean square difference of pictures from two shots, of 255. Few cuts change less."""

_NO_BLEND = 0.2
"""Largest rest of a dissolve. Motion in the shots adds to it; 3/4 is pure chance."""
_NO_WIPE = 0.4
"""The same for a wipe, whose rest is 1/4 even when nothing moves."""

_KINDS: tuple[tuple[float, BoundaryKind], ...] = ((_NO_BLEND, "dissolve"), (_NO_WIPE, "wipe"))

_STEADY = 3.0
"""No step is larger than this many times the average one, or it is a cut and some motion."""

_STAND_OUT = 2.0
"""A change of shot exceeds what else changes in as long a time by at least this factor."""

_EVEN = 0.45
"""Least squared mean over mean squared difference: .64 for normally distributed differences, .5 for
heavier tails, less where something merely moved through the picture."""

_OTHER_LIGHT = 0.5
"""More than half of one picture is explained by light falling differently on the other."""


class Gradual:
    """Dissolves and wipes between the pictures added one by one."""

    def __init__(self) -> None:
        self.found: list[Boundary] = []
        self.kept: list[Small] = []
        self.table = np.zeros((_ROOM, _ROOM))
        """Mean squared differences of the pictures kept, where no further apart than `_LONGEST`."""
        self.best: tuple[float, float, Boundary] | None = None
        """Strength of what is being found, when it was last seen, and the boundary."""

    def add(self, small: Small) -> None:
        """The next picture."""
        if self.kept and small.time - self.kept[-1].time < STEP - EPSILON:
            return
        if len(self.kept) == _ROOM:
            self.kept.pop(0)
            self.table[:-1, :-1] = self.table[1:, 1:].copy()
        self.kept.append(small)
        last = len(self.kept) - 1
        first = next(n for n, old in enumerate(self.kept) if small.time - old.time <= _LONGEST + EPSILON)
        squares = [cv2.norm(old.pixels, small.pixels, cv2.NORM_L2SQR) for old in self.kept[first:]]
        row = np.array(squares) / small.pixels.size
        self.table[last, first : last + 1] = self.table[first : last + 1, last] = row
        if self.best is not None and small.time - self.best[1] > _ASIDE:
            self._close()
        self._judge(first)

    def finish(self) -> list[Boundary]:
        """All changes found."""
        self._close()
        return self.found

    def _judge(self, first: int) -> None:
        """Find the strongest change that begins with picture `first` or later and ends with the last."""
        shown = self.kept[first:]
        new = shown[-1]
        table = self.table[first : len(self.kept), first : len(self.kept)]
        # What is no stronger than what is being found already need not be looked into.
        least = max(_LEAST, self.best[0]) if self.best is not None else _LEAST
        olds = [
            n
            for n in np.flatnonzero(table[-1, :-3] >= least**2)
            if shown[n].contrast >= 2 * FLAT <= new.contrast
        ]
        if not olds:
            return
        whole = table[olds, -1]
        far = table[olds] / whole[:, None]
        share = (far + 1 - table[-1] / whole[:, None]) / 2
        share[np.arange(len(table)) < np.array(olds)[:, None]] = 0
        mixed = (share > 0.12) & (share < 0.88)
        steps = np.diff(share)
        rising = (mixed.sum(axis=1) >= 2) & (steps.min(axis=1) > -0.08) & (steps.max(axis=1) < 0.6)
        if not rising.any():
            return
        rest = np.where(mixed, far - share**2, 0).max(axis=1)
        for limit, kind in _KINDS:
            fits = np.flatnonzero(rising & (rest < limit))
            if not fits.size:
                continue
            row = int(fits[whole[fits].argmax()])
            strength = float(whole[row]) ** 0.5
            if self.best is not None and strength <= self.best[0]:
                return
            start, end = _ends(np.maximum.accumulate(share[row]), [small.time for small in shown])
            old, new = shown[start - 1], shown[end]
            steady = steps[row].max() <= _STEADY / (end - start + 1)
            if not steady or not _unlike(old, new, table[start - 1, end]):
                continue
            if kind == "wipe" and not _sweeps(old, new, [shown[n] for n in np.flatnonzero(mixed[row])]):
                continue
            score = round(change(old, new) / 255, 4)
            self._note(strength, Boundary(shown[start].time, new.time, kind, score))
            return

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
        times = np.array([small.time for small in self.kept])
        first, last = np.searchsorted(times, [boundary.start - EPSILON, boundary.end - EPSILON])
        before = np.searchsorted(times, times[first] - lag + EPSILON) - 1
        after = np.searchsorted(times, times[last] + lag - EPSILON)
        beside = []
        if before >= 0:
            beside.append(self.table[before, first])
        if after < len(times):
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


_NEW_COLOURS = 0.2
"""Least share of a picture's colours that a change of shot replaces."""


def _unlike(old: Small, new: Small, square: float) -> bool:
    """Whether two pictures may be of different shots: all of it changed, and neither by motion nor light."""
    return (
        change(old, new) ** 2 >= _EVEN * square
        and recoloured(old, new) >= _NEW_COLOURS
        and relit(old, new) < _OTHER_LIGHT
    )


_SEEN = 30
"""Least sum of the differences of blue, green and red in pixels that tell old from new."""

_NEITHER = 0.4
"""Of the difference between the shots, what the pictures between may differ from the nearer one."""

_WRONG_SIDE = 0.1
"""Share of the pixels that may be on the wrong side of the edge."""

_ROWS, _COLUMNS = np.mgrid[0:HEIGHT, 0:WIDTH] / np.array([HEIGHT, WIDTH])[:, None, None]
_WAYS = [
    sign * way
    for way in (
        _COLUMNS,
        _ROWS,
        _COLUMNS + _ROWS,
        _COLUMNS - _ROWS,
        np.hypot(_COLUMNS - 0.5, _ROWS - 0.5),
        np.hypot((_COLUMNS - 0.5) * WIDTH, (_ROWS - 0.5) * HEIGHT),
    )
    for sign in (1, -1)
]
"""For each way a wipe may take, when it reaches each pixel. An iris may be an ellipse or a circle."""


def _sweeps(old: Small, new: Small, mixed: list[Small]) -> bool:
    """Whether each pixel of the pictures between is old or new, parted by an edge that moves one way."""
    whole = cv2.absdiff(old.pixels, new.pixels).sum(axis=2, dtype=np.int32)
    seen = whole > _SEEN
    count = np.count_nonzero(seen)
    if count < 0.3 * seen.size:
        return False
    news = []
    for small in mixed:
        from_old = cv2.absdiff(small.pixels, old.pixels).sum(axis=2, dtype=np.int32)[seen]
        from_new = cv2.absdiff(small.pixels, new.pixels).sum(axis=2, dtype=np.int32)[seen]
        if np.minimum(from_old, from_new).sum() > _NEITHER * whole[seen].sum():
            return False
        news.append(from_new < from_old)
    edges = [min(np.count_nonzero(is_new), count - 1) for is_new in news]
    for way in _WAYS:
        reached = way[seen]
        order = np.sort(reached)
        wrong = sum(
            np.count_nonzero(n != (reached < order[edge])) for n, edge in zip(news, edges, strict=True)
        )
        if wrong < _WRONG_SIDE * count * len(news):
            return True
    return False
