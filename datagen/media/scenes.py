"""Shot boundaries, found by a PySceneDetect detector in small planes of the pictures."""

from collections import deque
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scenedetect import AdaptiveDetector, ContentDetector, HashDetector, HistogramDetector
from scenedetect.common import FrameTimecode, Timecode

from datagen.config import SceneOptions
from datagen.media.clock import EPSILON
from datagen.records import Boundary

_TICK = Fraction(1, 1_000_000)
_NO_RATE = Fraction(25)
"""FrameTimecode wants a rate, but uses it for frame numbers alone, and we deal in seconds."""

_DETECTORS = {
    "content": (ContentDetector, "threshold"),
    "adaptive": (AdaptiveDetector, "adaptive_threshold"),
    "hash": (HashDetector, "threshold"),
    "histogram": (HistogramDetector, "threshold"),
}


class Scenes:
    """Shot boundaries of the pictures added one by one."""

    def __init__(self, options: SceneOptions) -> None:
        detector, threshold = _DETECTORS[options.detector]
        values: dict[str, Any] = {"min_scene_len": max(0.0, options.min_seconds - EPSILON)}
        if options.threshold is not None:
            values[threshold] = options.threshold
        self.detector = detector(**values)
        # Detectors report late: merging cuts takes min_seconds, looking around a few pictures more.
        self.patience = 2 * options.min_seconds + 10
        self.recent: deque[tuple[int, float, float]] = deque()
        self.plane: NDArray[np.uint8] | None = None
        self.found: list[Boundary] = []

    def add(self, time: float, plane: NDArray[np.uint8]) -> None:
        """The picture at `time` seconds, as a small plane of blue, green and red."""
        change = 0.0
        if self.plane is not None:
            change = cv2.norm(plane, self.plane, cv2.NORM_L1) / plane.size / 255
        self.plane = plane
        tick = round(time / _TICK)
        self.recent.append((tick, time, change))
        while time - self.recent[0][1] > self.patience and len(self.recent) > 16:
            self.recent.popleft()
        self._take(self.detector.process_frame(_timecode(tick), plane))

    def finish(self) -> tuple[Boundary, ...]:
        """All boundaries in order; the score is the mean change of colour across each, 0 to 1."""
        if self.recent:
            self._take(self.detector.post_process(_timecode(self.recent[-1][0])))
        return tuple(sorted(self.found, key=lambda boundary: boundary.start))

    def _take(self, cuts: list[FrameTimecode]) -> None:
        for cut in cuts:
            for tick, time, change in reversed(self.recent):
                if tick == cut.pts:
                    self.found.append(Boundary(start=time, end=time, kind="cut", score=round(change, 4)))
                    break


def _timecode(tick: int) -> FrameTimecode:
    return FrameTimecode(Timecode(tick, _TICK), _NO_RATE)
