"""When each picture appears, from stamps that may be missing, late or set anew."""

from fractions import Fraction
from typing import Literal

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

EPSILON = 1e-6
"""Times closer than this are equal: far less than a picture, far more than rounding."""

Stamps = Literal["display", "decoding", "none"]
"""What a file's time stamps tell: when pictures are shown, when they are decoded, or nothing."""

_LONGEST_GAP = 3600.0
"""Seconds between two pictures beyond which the clock is broken rather than the video still."""

_STRAYS = 8
"""So many pictures in a row off the file's clock, and it has been set anew."""

_UNSTAMPED = 0x80
"""Flag of formats that are bare streams of pictures: AVFMT_NOTIMESTAMPS in FFmpeg's avformat.h."""


def stamps_of(container: InputContainer, stream: VideoStream) -> Stamps:
    """What the time stamps of the pictures of a stream mean.

    AVI, ASF and Matroska's tracks taken over from AVI (these keep its four-letter code) say when a packet
    is due for decoding; times of display that were derived from these are wrong where pictures are
    reordered. They come out of the decoder in order of display, at these times, after a constant delay.
    """
    kinds = set(container.format.name.split(","))
    if container.format.flags & _UNSTAMPED:
        return "none"
    codec = stream.codec_context
    taken_over = "matroska" in kinds and codec.codec_tag.strip("\0") != ""
    return "decoding" if codec.has_b_frames and (kinds & {"avi", "asf"} or taken_over) else "display"


class Clock:
    """Turns the stamps of successive pictures into seconds since the first that never go back."""

    def __init__(self, stream: VideoStream, first: VideoFrame, stamps: Stamps = "display") -> None:
        self.stamps = stamps
        self.base = stream.time_base or Fraction(1, av.time_base)
        stamp = self._stamp(first)
        self.origin = stamp or 0
        self.longest = round(_LONGEST_GAP / self.base)
        rate = stream.average_rate or stream.guessed_rate or 25
        self.gap = max(1, round(1 / (rate * self.base)))
        self.ticks: list[int] = []
        """Of the first and the last picture so far."""
        self.lasts = 0
        """For how many ticks the last picture is shown, as far as it says."""
        self.count = 0
        self.shift = None if stamp is None else -stamp
        self.strays: list[tuple[int, VideoFrame]] = []
        self.left_out = 0
        """Pictures that came too late to be shown."""

    def seconds(self, ticks: int) -> float:
        """Ticks of the stream's time base in seconds."""
        # The same as of the fraction, both being rounded correctly, at a tenth of the cost.
        return ticks * self.base.numerator / self.base.denominator

    def times(self, frame: VideoFrame) -> list[tuple[float, VideoFrame]]:
        """The pictures whose time is known now that the next one is there, and the seconds at which each
        appears: mostly that one; none where it strays; it and those before it where they do not after all.
        """
        stamp = self._stamp(frame)
        if not self.ticks:
            return [self._next(frame, 0 if stamp is None or self.shift is None else stamp + self.shift)]
        last = self.ticks[1]
        following = last + (self.lasts or self.gap)
        if stamp is None:
            return [self._next(frame, following)]
        if self.shift is None:
            self.shift = following - stamp
        if last <= stamp + self.shift <= last + self.longest:
            return [self._next(frame, stamp + self.shift)]
        return self._strayed(stamp, frame, following)

    def _next(self, frame: VideoFrame, now: int) -> tuple[float, VideoFrame]:
        self.ticks = [self.ticks[0] if self.ticks else now, now]
        self.left_out += len(self.strays)
        self.strays.clear()
        if self.count:
            self.gap = max(1, round((now - self.ticks[0]) / self.count))
        self.count += 1
        self.lasts = frame.duration if 0 < (frame.duration or 0) <= self.longest else 0
        return self.seconds(now), frame

    def _strayed(self, stamp: int, frame: VideoFrame, following: int) -> list[tuple[float, VideoFrame]]:
        # One late picture, as decoders give after a hole, is left out. Many that go on from each
        # other mean that the file's clock was set anew, as where two recordings were joined.
        if self.strays and not 0 < stamp - self.strays[-1][0] <= self.longest:
            self.left_out += len(self.strays)
            self.strays.clear()
        self.strays.append((stamp, frame))
        if len(self.strays) < _STRAYS:
            return []
        strays, self.strays = self.strays, []
        self.shift = following - strays[0][0]
        return [self._next(picture, when + self.shift) for when, picture in strays]

    def end(self, pictures: int | None = None) -> float:
        """Seconds at which the last picture given ends; `pictures` counts those that were left out too."""
        self.left_out += len(self.strays)
        self.strays.clear()
        if pictures is not None and pictures > 1:
            self.gap = max(1, round((self.ticks[1] - self.ticks[0]) / (pictures - 1)))
        return self.seconds(self.ticks[1] + (self.lasts or self.gap))

    def _stamp(self, frame: VideoFrame) -> int | None:
        if self.stamps == "none":
            return None
        stamp: int | None = frame.pts if frame.pts is not None and self.stamps == "display" else frame.dts
        return stamp
