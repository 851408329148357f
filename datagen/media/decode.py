"""Opening a video and reading its pictures in order of time, whatever state the file is in."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import av
from av.codec.context import Flags, ThreadType
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Discard, Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from datagen.errors import Corrupt, OutOfMemory
from datagen.media.clock import EPSILON, Clock, stamps_of
from datagen.media.edits import stands_still
from datagen.media.gpu import accelerator, gives_the_same
from datagen.media.lookahead import Lookahead, Unsure
from datagen.media.reading import Reading

_READ_ATTEMPTS = 10
_PLAYLISTS = {"hls", "concat", "dash", "imf", "sdp", "rtsp", "webm_dash_manifest"}
_STILLS = {"image2", "ico"}
_GUESSING = {
    *("flv1", "h263", "h263p", "mpeg4", "msmpeg4v1", "msmpeg4v2", "msmpeg4v3"),
    *("rv10", "rv20", "vc1", "wmv1", "wmv2", "wmv3"),
}
"""Their decoders make pictures up where the first ones rest on others that are not there."""
_NOT_THE_SAME = "a GPU would decode it otherwise than the processor"
_JOINABLE = 0x200
"""Flag of formats whose files may be put one behind the other: AVFMT_TS_DISCONT in FFmpeg's avformat.h."""
_COVERS = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image


@contextmanager
def open_video(path: str, gpu: bool = False) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its video stream, set up to decode in one thread, or on an NVIDIA GPU.

    Raises Corrupt where the file is no video, with the reason, and where a GPU would give other pictures.
    """
    name = Path(path).name
    try:
        # A playlist must not make us fetch anything, nor a colon in a name mean a protocol.
        container = av.open(
            f"file:{path}",
            options={"protocol_whitelist": "file"},
            metadata_errors="replace",
            hwaccel=accelerator() if gpu else None,
        )
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
        if "mov" in kinds and stands_still(path, stream.index):
            raise Corrupt(f"{name}: its edit list holds pauses, which cannot be followed; encode it anew")
        if gpu and not gives_the_same(stream):
            raise Corrupt(f"{name}: {_NOT_THE_SAME}")
        for other in container.streams:
            if other is not stream:
                other.discard = Discard.all
        # Else the left edge is cropped only as far as suits the processor.
        stream.codec_context.flags |= Flags.unaligned
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
        # One of a single picture is a cover that nobody has marked as such.
        return max(
            usable, key=lambda s: (s.frames != 1, bool(s.disposition & default), s.width * s.height, -s.index)
        )
    if not container.streams.video:
        raise Corrupt(f"{name}: has no video stream")
    if all(stream.disposition & _COVERS for stream in container.streams.video):
        raise Corrupt(f"{name}: its only picture is a cover or still picture, not a video")
    raise Corrupt(f"{name}: no decoder for its video stream")


def claimed_duration(container: InputContainer, stream: VideoStream, first: float) -> tuple[float, float]:
    """Seconds that the file says its pictures last (0 if unknown), and by how much that may be off.

    `first` is the stamp of the first picture in seconds. Matroska has no length of a stream, but its
    writers note the end of each as a tag, DURATION. What is said of bare streams of pictures is guesswork.
    """
    if stamps_of(container, stream) == "none":
        return 0.0, 0.0
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
        pictures = list(packet.decode())
        reading.flawed += sum(picture.is_corrupt for picture in pictures)
        return pictures
    except av.error.MemoryError:
        raise OutOfMemory("no memory left while decoding") from None
    except FFmpegError:
        if packet.size:
            reading.lose(packet)
        return []


def packets_of(container: InputContainer, stream: VideoStream, reading: Reading) -> Iterator[Any]:
    """The packets of a stream from where the container stands, and an empty one at the end."""
    failed, reason = 0, None
    while failed < _READ_ATTEMPTS:
        try:
            for packet in container.demux(stream):
                failed = 0
                reading.flawed += packet.is_corrupt
                yield packet
            return
        except IndexError:
            # PyAV stumbles at the end, ours being through, over streams that began later than the others.
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
    packets = packets_of(container, stream, reading)
    before, sound = None, stream.codec_context.codec.canonical_name not in _GUESSING
    for packet in packets if lookahead is None else lookahead.follow(packets):
        if before is not None and _leaps(before, packet):
            yield from stream.codec_context.decode(None)
            stream.codec_context.flush_buffers()
        before = packet
        pictures = decode_packet(packet, reading)
        while not sound and pictures and not (sound := pictures[0].key_frame):
            del pictures[0]
            reading.lose(packet)
        if lookahead is not None:
            lookahead.check(pictures, reading.bad_packets > 0)
        yield from pictures
    if reading.stopped is not None:
        with suppress(FFmpegError):
            yield from stream.codec_context.decode(None)
    if lookahead is not None and lookahead.owed:
        raise Unsure("the pictures end before one that a frame shows")


def _leaps(before: Any, packet: Any) -> bool:
    """Whether an edit list leads elsewhere: the decoder must not take the packet for what comes next."""
    edited = packet.is_keyframe and (before.is_discard or packet.is_discard)
    return edited and None not in (before.dts, packet.dts) and packet.dts < before.dts


def read_pictures(
    path: str,
    start: float,
    end: float | None,
    reading: Reading,
    interval: float | None = None,
    gpu: bool = False,
) -> Iterator[tuple[float, VideoFrame]]:
    """The pictures shown from `start` to `end` (seconds after the first picture), each with its time.

    Times count from `start`; the picture on screen at the start comes first, at 0. Fills `reading`.
    With an interval, pictures that are not on screen at a multiple of it are left out where that saves
    decoding; raises Unsure where it turns out too late that they could not be told apart.
    Raises Corrupt where the file is no video, or not one picture can be read there.
    """
    name = Path(path).name
    with open_video(path, gpu) as (container, stream):
        stamps = stamps_of(container, stream)
        told = stamps == "display"
        lookahead = Lookahead(stream, interval, start, end) if told and interval is not None else None
        frames = decode(container, stream, reading, lookahead)
        first = next(frames, None)
        if first is None:
            raise Corrupt(f"{name}: not one picture can be decoded")
        if gpu and not gives_the_same(stream, first):
            raise Corrupt(f"{name}: {_NOT_THE_SAME}")
        clock = Clock(stream, first, stamps)
        if lookahead is not None:
            lookahead.begin(first)
        reading.aspect = stream.sample_aspect_ratio
        began = clock.seconds(clock.origin)
        reading.claimed, reading.leeway = claimed_duration(container, stream, began)
        if start <= EPSILON:
            yield from _clip(chain([first], frames), clock, start, end, reading, name, lookahead)
            return
        seekable = told and first.pts is not None and _unbroken(container, stream, clock)
        sought = _seek(container, stream, clock, start, reading, lookahead) if seekable else None
        if sought is not None:
            yield from _clip(sought, clock, start, end, reading, name, lookahead)
            return
    reading.forget()
    with open_video(path, gpu) as (container, stream):
        yield from _clip(decode(container, stream, reading), clock, start, end, reading, name)


def _unbroken(container: InputContainer, stream: VideoStream, clock: Clock) -> bool:
    """Whether a time stands for one place in the file: recordings may have been joined, each with its own."""
    if not container.format.flags & _JOINABLE:
        return True
    due = [packet.dts for packet in packets_of(container, stream, Reading()) if packet.size]
    return None not in due and all(0 < late - early <= clock.longest for early, late in pairwise(due))


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
                reading.forget()
                return chain([found], frames)
    return None


def _timed(
    frames: Iterator[VideoFrame], clock: Clock, lookahead: Lookahead | None
) -> Iterator[tuple[float, VideoFrame]]:
    for frame in frames:
        timed = clock.times(frame)
        if not timed and lookahead is not None:
            raise Unsure("a picture comes too late to be shown")
        yield from timed


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
    for stamp, last in _timed(frames, clock, lookahead):
        time = round(stamp - start, 6)
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
    length = clock.end(pictures) - start if last is not None else 0.0
    reading.left_out = clock.left_out
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
