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
_LEVELS = np.asarray(_COLOURS * np.sqrt(np.arange(256) / 256), np.uint8)
"""Levels of a colour, finer where it is dark."""

_AROUND = (5, 5)
BLACK = 8
"""Of 255: pixels this dark are bars, or night, and tell nothing."""

_BLOCK_WIDTH, _BLOCK_HEIGHT = 8, 9
_BLOCKS = (WIDTH // _BLOCK_WIDTH) * (HEIGHT // _BLOCK_HEIGHT)
_TEXTURE = 3 * 4 * _BLOCK_WIDTH * _BLOCK_HEIGHT
"""Least sum of squares of the details of a block that shows something: a mean of two steps of brightness."""

_ALIKE = 0.8
"""Least correlation of the details of blocks that show the same."""

REMAINS = 0.15
"""Share of the blocks of a picture that are found again only in its own shot."""


class Small:
    """The middle of a picture in 48 x 27 pixels of blue, green and red."""

    def __init__(self, time: float, plane: NDArray[np.uint8], previous: "Small | None") -> None:
        rows, columns = plane.shape[0] // _MARGIN, plane.shape[1] // _MARGIN
        middle = plane[rows : plane.shape[0] - rows, columns : plane.shape[1] - columns]
        self.time = time
        self.plane = plane
        """All of the picture, larger."""
        self.tick = round(time * TICK.denominator)
        self.pixels = cv2.resize(middle, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        self.step = change(self, previous) if previous is not None else 0.0
        """Change since the picture before, 0 to 255."""
        self._contrast: float | None = None
        self._palette: NDArray[np.float32] | None = None
        self._details: NDArray[np.int32] | None = None

    @property
    def palette(self) -> NDArray[np.float32]:
        """Share of the pixels that each of 216 colours has."""
        if self._palette is None:
            levels, bins = cv2.LUT(self.pixels, _LEVELS), [_COLOURS] * 3
            counts = cv2.calcHist([levels], [0, 1, 2], None, bins, [0, _COLOURS] * 3)
            self._palette = np.asarray(counts / (WIDTH * HEIGHT), np.float32).ravel()
        return self._palette

    @property
    def details(self) -> NDArray[np.int32]:
        """How much brighter each colour of a pixel is than the mean around it; 0 where there is black."""
        if self._details is None:
            lit = (cv2.cvtColor(self.pixels, cv2.COLOR_BGR2GRAY) > BLACK).astype(np.uint8)
            count = np.maximum(cv2.boxFilter(lit, cv2.CV_32S, _AROUND, normalize=False), 1)
            colours = cv2.merge([lit, lit, lit]) * self.pixels
            total = cv2.boxFilter(colours, cv2.CV_32S, _AROUND, normalize=False)
            self._details = (colours - total // count[..., None]) * lit[..., None]
        return self._details

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


def blocks(before: Small, after: Small, moved: tuple[int, int] = (0, 0)) -> tuple[float, float]:
    """Which shares of a picture's blocks show the same, and something else, in another picture.

    A block shows the same, in whatever light, if its details correlate with those so many rows and columns
    further on in the other picture. What has no details in either picture is counted as neither.
    """
    rows, columns = moved
    first = before.details[max(0, -rows) : HEIGHT - max(0, rows), max(0, -columns) : WIDTH - max(0, columns)]
    second = after.details[max(0, rows) : HEIGHT + min(0, rows), max(0, columns) : WIDTH + min(0, columns)]
    power, other, common = (_by_block(a * b) for a, b in ((first, first), (second, second), (first, second)))
    textured = np.maximum(power, other) > _TEXTURE
    alike = textured & (common > 0) & (common**2 > _ALIKE**2 * power * other)
    same = np.count_nonzero(alike)
    return same / _BLOCKS, (np.count_nonzero(textured) - same) / _BLOCKS


def _by_block(values: NDArray[np.int32]) -> NDArray[np.int64]:
    rows, columns = values.shape[0] // _BLOCK_HEIGHT, values.shape[1] // _BLOCK_WIDTH
    whole = values[: rows * _BLOCK_HEIGHT, : columns * _BLOCK_WIDTH]
    cut = whole.reshape(rows, _BLOCK_HEIGHT, columns, 3 * _BLOCK_WIDTH)
    return np.asarray(cut.sum(axis=(1, 3), dtype=np.int64))


def returns(before: Small, after: Small) -> bool:
    """Whether the second picture is of the shot of the first: a part of it is still there."""
    return blocks(before, after)[0] > REMAINS


def moves(before: Small, after: Small) -> bool:
    """Whether the second picture is of the shot of the first, seen by a camera that has turned meanwhile."""
    height, width = 2 * HEIGHT, 2 * WIDTH
    spectra = [np.fft.rfft2(small.details.sum(axis=2), (height, width)) for small in (before, after)]
    # Correlations of whole numbers are whole, so that rounding errors cannot choose among shifts.
    match = np.rint(np.fft.irfft2(np.conj(spectra[0]) * spectra[1], (height, width)))
    rows, columns = divmod(int(match.argmax()), width)
    moved = rows - height * (rows > HEIGHT), columns - width * (columns > WIDTH)
    return blocks(before, after, moved)[0] > REMAINS
