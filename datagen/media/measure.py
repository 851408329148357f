"""What can be said of a picture without understanding it: light, colour and motion, once a second."""

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from datagen.media.clock import EPSILON
from datagen.records import Measure

COLOURS = (
    "red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "brown", "black", "grey", "white",
)  # fmt: skip

_SAMPLE = 0.25
"""Seconds between two pictures looked at."""

_CUT = 0.05
"""Least change of brightness at a cut."""


class Measures:
    """Measures of the pictures added one by one; each stretch ends with the first picture 1 s on."""

    def __init__(self) -> None:
        self.done: list[Measure] = []
        self.start = 0.0
        self.sampled: float | None = None
        self.grey: NDArray[np.uint8] | None = None
        self._clear()

    def add(self, time: float, plane: NDArray[np.uint8]) -> None:
        """The picture at `time` seconds, as a small plane of blue, green and red."""
        if self.sampled is not None and time - self.sampled < _SAMPLE - EPSILON:
            return
        if time - self.start >= 1 - EPSILON:
            self._close(time)
        half = cv2.resize(plane, (plane.shape[1] // 2, plane.shape[0] // 2), interpolation=cv2.INTER_AREA)
        grey = cv2.cvtColor(half, cv2.COLOR_BGR2GRAY)
        if self.grey is not None:
            self.motions.append(cv2.norm(grey, self.grey, cv2.NORM_L1) / grey.size / 255)
        self.lights.append(cv2.mean(grey)[0] / 255)
        blue, green, red = cv2.split(half)
        chroma = cv2.subtract(cv2.max(cv2.max(blue, green), red), cv2.min(cv2.min(blue, green), red))
        self.saturations.append(cv2.mean(chroma)[0] / 255)
        self.colours += np.bincount(_named(blue, green, red), minlength=len(COLOURS))
        self.sampled, self.grey = time, grey

    def finish(self, duration: float) -> tuple[Measure, ...]:
        """All measures; they cover the video from 0 to its end."""
        if self.lights and duration > self.start:
            self._close(duration)
        return tuple(self.done)

    def _close(self, end: float) -> None:
        commonest = int(self.colours.argmax())
        self.done.append(
            Measure(
                start=self.start,
                end=end,
                light=round(_mean(self.lights), 4),
                saturation=round(_mean(self.saturations), 4),
                colour=COLOURS[commonest],
                colour_share=round(float(self.colours[commonest] / self.colours.sum()), 4),
                motion=round(_mean(_without_cut(self.motions)), 4),
            )
        )
        self.start = end
        self._clear()

    def _clear(self) -> None:
        self.lights: list[float] = []
        self.saturations: list[float] = []
        self.motions: list[float] = []
        self.colours = np.zeros(len(COLOURS), np.int64)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _without_cut(changes: list[float]) -> list[float]:
    """Changes between neighbouring pictures without the one that stands out as a cut, which is no motion."""
    *others, most = sorted(changes) or [0.0]
    return others if others and most >= max(_CUT, 3 * _mean(others)) else changes


def _named(blue: NDArray[np.uint8], green: NDArray[np.uint8], red: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The index into COLOURS of every pixel."""
    return np.asarray(_table()[red.ravel() >> 3, green.ravel() >> 3, blue.ravel() >> 3], np.uint8)


@cache
def _table() -> NDArray[np.uint8]:
    """Names of all colours: 32 steps of red by 32 of green by 32 of blue."""
    steps = np.arange(32) * 8 + 4.0
    red, green, blue = np.meshgrid(steps, steps, steps, indexing="ij")
    high, low = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    chroma = np.maximum(high - low, 1)
    hue = (
        np.select(
            [high == red, high == green],
            [(green - blue) / chroma % 6, (blue - red) / chroma + 2],
            (red - green) / chroma + 4,
        )
        * 60
    )
    pale = chroma < 0.5 * high
    by_hue = [
        ((hue >= 10) & (hue < 45) & ((high < 170) | (pale & (high < 210))), "brown"),
        (((hue < 15) | (hue >= 345)) & pale & (high >= 200), "pink"),
        ((hue < 15) | (hue >= 345), "red"),
        (hue < 45, "orange"),
        ((hue < 70) & (high >= 130), "yellow"),
        (hue < 165, "green"),
        (hue < 195, "cyan"),
        (hue < 262, "blue"),
        ((hue < 315) & ((high < 200) | (hue < 290)), "purple"),
    ]
    no_hue = [
        (high < 50, "black"),
        ((chroma < 0.15 * high) & (low >= 200), "white"),
        ((chroma < 0.15 * high) | (chroma < 20), "grey"),
    ]
    rules = no_hue + by_hue
    numbers = [np.uint8(COLOURS.index(name)) for _, name in rules]
    return np.select([rule for rule, _ in rules], numbers, np.uint8(COLOURS.index("pink"))).astype(np.uint8)
