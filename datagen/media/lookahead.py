"""Which pictures need no decoding: those no other picture rests on and no training frame shows."""

import heapq
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Any

from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from datagen.media.clock import EPSILON

_CODECS = {"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4"}
"""Their decoders leave out a picture that no other refers to when told so packet by packet."""

_PROGRESSIVE = 1
_FARTHEST = 64
"""Packets read ahead at most: four times the pictures such codecs may hold back."""


class Unsure(Exception):
    """Nobody can tell any more that leaving out pictures changes nothing; decode them all instead."""


def due(time: float, interval: float) -> int:
    """The first k >= 0 at which a picture that appears at `time` is on screen at k * interval seconds.

    So many frames does a video of this many seconds have. 0 for an infinite interval.
    """
    if interval == math.inf:
        return 0
    k = max(0, math.floor(time / interval) - 1)
    while k * interval < time - EPSILON:
        k += 1
    return k


class Lookahead:
    """Tells the decoder, packet by packet, whether a training frame may show the picture.

    With an infinite interval only the last picture of all is wanted for itself.

    A frame shows the last picture stamped at or before its time. No packet holds a picture shown
    before the packet is due for decoding; so a later picture for the same frame, or a packet due
    after the frame's time, settles whether a picture is the one.
    """

    def __init__(self, stream: VideoStream, interval: float, start: float, end: float | None) -> None:
        self.codec = stream.codec_context
        self.usable = (
            self.codec.codec.canonical_name in _CODECS and int(self.codec.field_order) <= _PROGRESSIVE
        )
        self.interval, self.start, self.end = interval, start, end
        self.base = stream.time_base or Fraction(1)
        self.origin: int | None = None
        self.owed: list[int] = []
        """Stamps of the pictures that frames show and the decoder has not given yet; a heap."""
        self.pictures = 0
        """How many there are, those left out included, since reading began or went on elsewhere."""

    def begin(self, first: VideoFrame) -> None:
        """From here on pictures may be left out, time 0 being that of the first picture."""
        if self.usable:
            self.origin = first.pts

    def follow(self, packets: Iterable[Any]) -> Iterator[Any]:
        """The same packets, the decoder being told about each before it is handed out.

        Raises Unsure where stamps are missing or out of order.
        """
        ahead: deque[tuple[Any, tuple[int, bool] | None]] = deque()
        latest: dict[tuple[int, bool], int] = {}
        due_last: int | None = None
        key: int | None = None
        self.owed.clear()
        self.pictures = 0
        for packet in packets:
            place = now = None
            if key is None and packet.is_keyframe:
                key = packet.pts
            # What precedes the first key picture may rest on what was never read.
            shown = bool(packet.size) and not packet.is_discard and None not in (key, packet.pts)
            shown = shown and packet.pts >= key
            self.pictures += shown
            if self.origin is not None and packet.size:
                if packet.pts is None or packet.dts is None:
                    raise Unsure("a packet without a stamp")
                if packet.pts < packet.dts or (due_last is not None and packet.dts <= due_last):
                    raise Unsure("stamps out of order")
                due_last, now = packet.dts, self._place(packet.dts)
                if shown:
                    place = self._place(packet.pts)
                    latest[place] = max(packet.pts, latest.get(place, packet.pts))
            ahead.append((packet, place))
            while ahead:
                first, place = ahead[0]
                wanted = place is None or latest.get(place, first.pts) <= first.pts
                settled = not wanted or place is None or now is None or now > place
                if not settled and len(ahead) <= _FARTHEST:
                    break
                ahead.popleft()
                yield self._told(first, wanted, place)
            while len(latest) > 2 * _FARTHEST:
                del latest[next(iter(latest))]
        for packet, place in ahead:
            yield self._told(packet, place is None or latest.get(place, packet.pts) <= packet.pts, place)

    def check(self, pictures: Sequence[VideoFrame], damaged: bool) -> None:
        """Compare what the decoder gave with what it owes. Raises Unsure where they differ."""
        if self.origin is None:
            return
        if damaged:
            raise Unsure("damaged packets")
        for picture in pictures:
            if picture.pts is None or picture.is_corrupt:
                raise Unsure("a damaged picture")
            if self.owed and self.owed[0] < picture.pts:
                raise Unsure("a picture that a frame shows was not given in its turn")
            if self.owed and self.owed[0] == picture.pts:
                heapq.heappop(self.owed)

    def _place(self, stamp: int) -> tuple[int, bool]:
        """Number of the training frame that a picture with this stamp may be for, and if it is too late."""
        assert self.origin is not None
        time = round((stamp - self.origin) * self.base.numerator / self.base.denominator - self.start, 6)
        return due(time, self.interval), self.end is not None and time >= self.end - self.start - EPSILON

    def _told(self, packet: Any, wanted: bool, place: tuple[int, bool] | None) -> Any:
        self.codec.skip_frame = "DEFAULT" if wanted else "NONREF"
        if wanted and place is not None:
            heapq.heappush(self.owed, packet.pts)
        return packet
