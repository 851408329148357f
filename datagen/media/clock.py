"""When each picture appears, from stamps that may be missing, late or set anew."""

from fractions import Fraction

import av
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

EPSILON = 1e-6
"""Times closer than this are equal: far less than a picture, far more than rounding."""

_LONGEST_GAP = 3600.0
"""Seconds between two pictures beyond which the clock is broken rather than the video still."""

_STRAYS = 8
"""So many pictures in a row off the file's clock, and it has been set anew."""


class Clock:
    """Turns the stamps of successive pictures into seconds since the first that never go back."""

    def __init__(self, stream: VideoStream, first: VideoFrame) -> None:
        self.base = stream.time_base or Fraction(1, av.time_base)
        self.origin = _stamp(first) or 0
        self.longest = round(_LONGEST_GAP / self.base)
        rate = stream.average_rate or stream.guessed_rate or 25
        self.gap = max(1, round(1 / (rate * self.base)))
        self.ticks: list[int] = []
        """Of the first and the last picture so far."""
        self.count = 0
        self.shift = -self.origin
        self.strays: list[int] = []

    def seconds(self, ticks: int) -> float:
        """Ticks of the stream's time base in seconds."""
        # The same as of the fraction, both being rounded correctly, at a tenth of the cost.
        return ticks * self.base.numerator / self.base.denominator

    def time(self, frame: VideoFrame) -> float | None:
        """Seconds at which the next picture appears; None for one that comes too late to be shown."""
        stamp = _stamp(frame)
        if not self.ticks:
            self.ticks = [0 if stamp is None else stamp + self.shift] * 2
            self.count = 1
            return self.seconds(self.ticks[0])
        first, last = self.ticks
        now: int | None = last + self.gap
        if stamp is not None:
            now = stamp + self.shift
            if not last <= now <= last + self.longest:
                now = self._strayed(stamp)
        if now is None:
            return None
        self.ticks[1] = now
        self.strays.clear()
        self.gap = max(1, round((now - first) / self.count))
        self.count += 1
        return self.seconds(now)

    def _strayed(self, stamp: int) -> int | None:
        # One late picture, as decoders give after a hole, is left out. Many that go on from each
        # other mean that the file's clock was set anew, as where two recordings were joined.
        if self.strays and not 0 < stamp - self.strays[-1] <= 1 / self.base:
            self.strays.clear()
        self.strays.append(stamp)
        if len(self.strays) < _STRAYS:
            return None
        now = self.ticks[1] + self.gap + stamp - self.strays[0]
        self.shift = now - stamp
        return now

    def end(self, frame: VideoFrame, pictures: int | None = None) -> float:
        """Seconds at which the last picture given ends; `pictures` counts those that were left out too."""
        if pictures is not None and pictures > 1:
            self.gap = max(1, round((self.ticks[1] - self.ticks[0]) / (pictures - 1)))
        lasts = frame.duration if 0 < (frame.duration or 0) <= self.longest else self.gap
        return self.seconds(self.ticks[1] + lasts)


def _stamp(frame: VideoFrame) -> int | None:
    stamp: int | None = frame.pts if frame.pts is not None else frame.dts
    return stamp
