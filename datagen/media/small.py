"""Very small pictures, and what can be told from two of them."""

from fractions import Fraction

import cv2
import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 48, 27

_MARGIN = 8
"""One part in so many is cut off on each side: black bars, tickers and logos outlast every shot."""

TICK = Fraction(1, 1_000_000)
"""Times are compared as whole microseconds."""

STEP = 0.08
"""Seconds between two pictures looked at for changes that take a while."""

FLAT = 8.0
"""Standard deviation, of 255, below which a picture shows nothing: three per cent, noise included."""

_COLOURS = 6
_TONES = 16
_DARK = 24
"""Of 255: pixels this dark in both pictures are bars or night and say nothing of light."""


class Small:
    """The middle of a picture in 48 x 27 pixels of blue, green and red."""

    def __init__(self, time: float, plane: NDArray[np.uint8], previous: "Small | None") -> None:
        rows, columns = plane.shape[0] // _MARGIN, plane.shape[1] // _MARGIN
        middle = plane[rows : plane.shape[0] - rows, columns : plane.shape[1] - columns]
        self.time = time
        self.tick = round(time * TICK.denominator)
        self.pixels = cv2.resize(middle, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        self.step = change(self, previous) if previous is not None else 0.0
        """Change since the picture before, 0 to 255."""
        self._contrast: float | None = None
        self._palette: NDArray[np.float32] | None = None

    @property
    def palette(self) -> NDArray[np.float32]:
        """Share of the pixels that each of 216 colours has."""
        if self._palette is None:
            counts = cv2.calcHist([self.pixels], [0, 1, 2], None, [_COLOURS] * 3, [0, 256] * 3)
            self._palette = np.asarray(counts / (WIDTH * HEIGHT), np.float32).ravel()
        return self._palette

    @property
    def contrast(self) -> float:
        """Standard deviation of the brightness or of the colour that varies most, 0 to 128."""
        if self._contrast is None:
            self._contrast = float(cv2.meanStdDev(self.pixels)[1].max())
        return self._contrast


def change(a: Small, b: Small) -> float:
    """Mean absolute difference, 0 to 255."""
    return float(cv2.norm(a.pixels, b.pixels, cv2.NORM_L1)) / (3 * WIDTH * HEIGHT)


def recoloured(a: Small, b: Small) -> float:
    """Share of the pixels whose colour the other picture has not got, 0 to 1, wherever they are.

    Motion moves colours about and changes little of this, however much of the picture it changes.
    """
    return float(cv2.norm(a.palette, b.palette, cv2.NORM_L1)) / 2


def relit(a: Small, b: Small) -> float:
    """How far one picture is the other in another light, 0 to 1.

    A change of light makes all pixels of one brightness darker or brighter alike. So this is the
    share of one picture's variance that a tone curve of the other explains; motion and new things
    make it small, while gain, gamma and clipping leave it near 1.
    """
    if min(a.contrast, b.contrast) < FLAT / 2:
        return 0.0
    first, second = (cv2.cvtColor(small.pixels, cv2.COLOR_BGR2GRAY).ravel() for small in (a, b))
    lit = np.maximum(first, second) > _DARK
    if np.count_nonzero(lit) < lit.size / _TONES:
        return 0.0
    first, second = first[lit], second[lit]
    return max(_explained(first, second), _explained(second, first))


def _explained(cause: NDArray[np.uint8], effect: NDArray[np.uint8]) -> float:
    tones = cause // (256 // _TONES)
    counts = np.maximum(np.bincount(tones, minlength=_TONES), 1)
    sums = np.bincount(tones, weights=effect, minlength=_TONES)
    even = effect.size * float(effect.mean()) ** 2
    total = float(np.square(effect, dtype=np.float64).sum()) - even
    return (float((sums * sums / counts).sum()) - even) / total if total > effect.size else 0.0


def returns(before: Small, after: Small) -> bool:
    """Whether the second picture is of the shot of the first, in whatever light."""
    return relit(before, after) > 0.8
