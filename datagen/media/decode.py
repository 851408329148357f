"""Opening a video and reading its pictures in order of time, whatever state the file is in."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
from av.codec.context import ThreadType
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Discard, Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from datagen.errors import Corrupt, OutOfMemory
from datagen.media.clock import EPSILON, Clock
from datagen.media.lookahead import Lookahead, Unsure

_READ_ATTEMPTS = 10
_PLAYLISTS = {"hls", "concat", "dash", "imf", "sdp", "rtsp", "webm_dash_manifest"}
_STILLS = {"image2", "ico"}
_COVERS = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image


@dataclass
class Reading:
    """What becomes known while the pictures of a video are read; complete when they are through."""

    duration: float = 0.0
    """Seconds from the start of what was asked for to the end of the last readable picture."""
    aspect: Fraction | None = None
    """Width of a stored pixel, its height being 1."""
    claimed: float = 0.0
    """Seconds the file says its pictures last; 0 where it does not say."""
    leeway: float = 0.5
    """Seconds by which that claim may be off in a sound file."""
    reached_end: bool = False
    """The pictures go on at least to the end that was asked for."""
    bad_packets: int = 0
    first_bad: float | None = None
    """Seconds after the first picture, where known."""
    stopped: str | None = None
    """Why the file could not be read to its end."""

    def forget(self) -> None:
        """Start to count damage again, as reading begins again elsewhere."""
        self.bad_packets, self.first_bad, self.stopped = 0, None, None

    def damage(self, start: float, end: float | None) -> str | None:
        """In words, why only a part of what was asked for could be read; None if all of it was."""
        found = []
        if self.bad_packets:
            first = "" if self.first_bad is None else f", the first at {self.first_bad:.1f} s"
            found.append(f"{self.bad_packets} packets could not be decoded{first}")
        wanted = (min(end, self.claimed) if end is not None else self.claimed) - start
        if not self.reached_end and self.duration < wanted - self.leeway:
            found.append(f"ends early: {self.duration:.1f} of {wanted:.1f} s are readable")
        elif self.stopped:
            found.append(f"reading stopped at {self.duration:.1f} s: {self.stopped}")
        return "; ".join(found) or None


@contextmanager
def open_video(path: str) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its video stream, set up to decode in one thread.

    Raises Corrupt where the file is no video, with the reason.
    """
    name = Path(path).name
    try:
        # A playlist must not make us fetch anything, nor a colon in a name mean a protocol.
        container = av.open(f"file:{path}", options={"protocol_whitelist": "file"}, metadata_errors="replace")
    except FFmpegError as error:
        raise failure(name, _why_not(path, error), error) from None
    with container:
        kinds = set(container.format.name.split(","))
        if kinds & _PLAYLISTS:
            raise Corrupt(f"{name}: a playlist ({container.format.name}), not a video")
        if "tty" in kinds:
            raise Corrupt(f"{name}: text, not a video")
        if kinds & _STILLS or container.format.name.endswith("_pipe"):
            raise Corrupt(f"{name}: a still picture ({container.format.name}), not a video")
        stream = _choose(container, name)
        for other in container.streams:
            if other is not stream:
                other.discard = Discard.all
        stream.codec_context.thread_count = 1
        stream.codec_context.thread_type = ThreadType.NONE
        yield container, stream


def failure(name: str, what: str, error: FFmpegError) -> Corrupt | OutOfMemory:
    """The failure that an error of the decoding library amounts to."""
    if isinstance(error, av.error.MemoryError):
        return OutOfMemory(f"{name}: no memory left while decoding")
    return Corrupt(f"{name}: {what}")


def _why_not(path: str, error: FFmpegError) -> str:
    try:
        with Path(path).open("rb") as file:
            head = file.read(4096)
    except OSError as missing:
        return f"cannot be read: {missing.strerror}"
    if not head:
        return "the file is empty"
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide"):
        return "its index (moov) is missing or damaged; the file was probably cut off while written"
    if b"\0" not in head and all(byte >= 32 or byte in b"\t\n\r\f" for byte in head):
        return "text, not a video"
    return f"not a video, or its header is damaged ({error.strerror})"


def _choose(container: InputContainer, name: str) -> VideoStream:
    usable = [
        stream
        for stream in container.streams.video
        if not stream.disposition & _COVERS and stream.codec_context is not None
    ]
    if usable:
        default = Disposition.default
        return max(usable, key=lambda s: (bool(s.disposition & default), s.width * s.height, -s.index))
    if not container.streams.video:
        raise Corrupt(f"{name}: has no video stream")
    if all(stream.disposition & _COVERS for stream in container.streams.video):
        raise Corrupt(f"{name}: its only picture is a cover or still picture, not a video")
    raise Corrupt(f"{name}: no decoder for its video stream")


def claimed_duration(container: InputContainer, stream: VideoStream, first: float) -> tuple[float, float]:
    """Seconds that the file says its pictures last (0 if unknown), and by how much that may be off.

    `first` is the stamp of the first picture in seconds. Matroska has no length of a stream, but its
    writers note the end of each as a tag, DURATION.
    """
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base), 0.5
    tag = re.fullmatch(r"(\d{1,4}):(\d\d):(\d\d\.\d{1,9})", stream.metadata.get("DURATION", ""))
    if tag:
        return max(0.0, int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3]) - first), 0.5
    if container.duration:
        began = (container.start_time or 0) / av.time_base
        lasts = max(0.0, container.duration / av.time_base - (first - began))
        # It is the length of all streams together, and sound may well outlast the pictures.
        return lasts, max(0.5, lasts / 10) if len(container.streams) > 1 else 0.5
    return 0.0, 0.0


def decode_packet(packet: Any, reading: Reading) -> list[VideoFrame]:
    """The pictures a packet completes; a packet that cannot be decoded is counted and skipped."""
    try:
        return list(packet.decode())
    except av.error.MemoryError:
        raise OutOfMemory("no memory left while decoding") from None
    except FFmpegError:
        if packet.size:
            if not reading.bad_packets:
                stamp = packet.pts if packet.pts is not None else packet.dts
                reading.first_bad = None if stamp is None else float(stamp * packet.time_base)
            reading.bad_packets += 1
        return []


def _packets(container: InputContainer, stream: VideoStream, reading: Reading) -> Iterator[Any]:
    failed, reason = 0, None
    while failed < _READ_ATTEMPTS:
        try:
            for packet in container.demux(stream):
                failed = 0
                yield packet
            return
        except FFmpegError as error:
            # Some formats can be read on behind a hole; others fail in the same place for ever.
            failed += 1
            reason = error.strerror
    reading.stopped = reason


def decode(
    container: InputContainer, stream: VideoStream, reading: Reading, lookahead: Lookahead | None = None
) -> Iterator[VideoFrame]:
    """The pictures from where the container stands, in order of display; all, or all that may be needed."""
    packets = _packets(container, stream, reading)
    for packet in packets if lookahead is None else lookahead.follow(packets):
        pictures = decode_packet(packet, reading)
        if lookahead is not None:
            lookahead.check(pictures, reading.bad_packets > 0)
        yield from pictures
    if reading.stopped is not None:
        with suppress(FFmpegError):
            yield from stream.codec_context.decode(None)
    if lookahead is not None and lookahead.owed:
        raise Unsure("the pictures end before one that a frame shows")


def read_pictures(
    path: str, start: float, end: float | None, reading: Reading, interval: float | None = None
) -> Iterator[tuple[float, VideoFrame]]:
    """The pictures shown from `start` to `end` (seconds after the first picture), each with its time.

    Times count from `start`; the picture on screen at the start comes first, at 0. Fills `reading`.
    With an interval, pictures that are not on screen at a multiple of it are left out where that saves
    decoding; raises Unsure where it turns out too late that they could not be told apart.
    Raises Corrupt where the file is no video, or not one picture can be read there.
    """
    name = Path(path).name
    with open_video(path) as (container, stream):
        lookahead = None if interval is None else Lookahead(stream, interval, start, end)
        frames = decode(container, stream, reading, lookahead)
        first = next(frames, None)
        if first is None:
            raise Corrupt(f"{name}: not one picture can be decoded")
        clock = Clock(stream, first)
        if lookahead is not None:
            lookahead.begin(first)
        reading.aspect = stream.sample_aspect_ratio
        began = clock.seconds(clock.origin)
        reading.claimed, reading.leeway = claimed_duration(container, stream, began)
        if start <= EPSILON:
            yield from _clip(chain([first], frames), clock, start, end, reading, name, lookahead)
            return
        sought = None if first.pts is None else _seek(container, stream, clock, start, reading, lookahead)
        if sought is not None:
            yield from _clip(sought, clock, start, end, reading, name, lookahead)
            return
    reading.forget()
    with open_video(path) as (container, stream):
        yield from _clip(decode(container, stream, reading), clock, start, end, reading, name)


def _seek(
    container: InputContainer,
    stream: VideoStream,
    clock: Clock,
    start: float,
    reading: Reading,
    lookahead: Lookahead | None,
) -> Iterator[VideoFrame] | None:
    # An index may lead past the wanted picture, or to one whose predecessors are needed to decode
    # what follows; so only a picture that stands alone counts as found, else go further back.
    wanted = clock.origin + int(start / clock.base)
    for back in (0.0, 5.0, 30.0):
        at = wanted - int(back / clock.base)
        if at <= clock.origin:
            return None
        try:
            container.seek(at, stream=stream)
        except FFmpegError:
            return None
        reading.forget()
        frames = decode(container, stream, reading, lookahead)
        for found in frames:
            if found.pts is None or found.pts > wanted:
                break
            if found.key_frame:
                return chain([found], frames)
    return None


def _clip(
    frames: Iterator[VideoFrame],
    clock: Clock,
    start: float,
    end: float | None,
    reading: Reading,
    name: str,
    lookahead: Lookahead | None = None,
) -> Iterator[tuple[float, VideoFrame]]:
    shown = last = None
    for frame in frames:
        stamp = clock.time(frame)
        if stamp is None:
            if lookahead is not None:
                raise Unsure("a picture comes too late to be shown")
            continue
        last, time = frame, round(stamp - start, 6)
        if end is not None and time >= end - start - EPSILON:
            reading.reached_end = True
            break
        if time <= EPSILON:
            shown = last
            continue
        if shown is not None:
            yield 0.0, shown
            shown = None
        yield time, last
    pictures = lookahead.pictures if lookahead is not None and lookahead.origin is not None else None
    length = clock.end(last, pictures) - start if last is not None else 0.0
    if end is not None and (reading.reached_end or length >= end - start - EPSILON):
        reading.reached_end, length = True, end - start
    if length <= EPSILON:
        raise Corrupt(
            f"{name}: no picture can be read from {start:g} s on; they end at {length + start:.3f} s"
        )
    if shown is not None:
        yield 0.0, shown
    reading.duration = round(length, 6)
    if reading.first_bad is not None:
        reading.first_bad = max(0.0, reading.first_bad - clock.seconds(clock.origin) - start)
