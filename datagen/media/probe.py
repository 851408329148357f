"""What is known of a video before it is watched: its identity, and what its container says."""

import hashlib
import itertools
import statistics
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from datagen.errors import Corrupt
from datagen.media.clock import Clock, stamps_of
from datagen.media.decode import claimed_duration, decode_packet, failure, open_video, packets_of
from datagen.media.display import Orientation, displayed_size
from datagen.media.reading import Reading
from datagen.records import Entry, Location, Video
from datagen.remote import fetched

_PACKETS = 400
"""Enough to tell a variable rate from a constant one, few enough to read at once."""


def probe(location: Location, entry: Entry) -> Video:
    """The facts of the video file at `location`, as `entry` lists it.

    Reads the whole file once for its digest, and decodes one picture to be sure that there is one.
    Raises Corrupt where there is no video to be had, with the reason, and as `fetched` does.
    """
    location = fetched(location)
    digest = file_digest(location.path)
    check_unchanged(location)
    reading = Reading()
    name = Path(location.path).name
    with open_video(location.path) as (container, stream):
        try:
            picture, stamps = _look(container, stream, reading)
        except FFmpegError as error:
            raise failure(name, f"cannot be decoded ({error.strerror})", error) from None
        if picture is None:
            raise Corrupt(f"{name}: not one picture can be decoded")
        clock = Clock(stream, picture, stamps_of(container, stream))
        first = clock.seconds(clock.origin)
        orientation = Orientation.of(picture)
        width, height = displayed_size(picture, stream.sample_aspect_ratio, orientation)
        return Video(
            id=entry.id or _content_id(digest, entry),
            digest=digest,
            name=entry.name,
            duration=_clipped(claimed_duration(container, stream, first)[0], entry, name),
            offset=entry.start or 0.0,
            audio_lead=round(max(0.0, first - (container.start_time or 0) / av.time_base), 6),
            fps=_rate(stream, stamps),
            width=width,
            height=height,
            rotation=orientation.rotation,
            variable_rate=_varies(stamps),
            codec=stream.codec_context.codec.canonical_name,
            has_audio=bool(container.streams.audio),
            licence=entry.licence,
            source=entry.source,
            language=entry.language,
        )


def check_unchanged(location: Location) -> None:
    """Raises Corrupt where a video on disk is no longer the one that was listed: it may be growing yet."""
    try:
        changed = location.changed_ns and Path(location.path).stat().st_mtime_ns != location.changed_ns
    except OSError:
        changed = True
    if changed:
        raise Corrupt(
            f"{Path(location.path).name}: was changed while it was read; run again when it is whole"
        )


def file_digest(path: str) -> str:
    """BLAKE2b of the file's bytes, 32 hexadecimal digits. Raises Corrupt for an empty or lost file."""
    digest = hashlib.blake2b(digest_size=16)
    size = 0
    try:
        with Path(path).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
                size += len(block)
    except OSError as error:
        raise Corrupt(f"{Path(path).name}: cannot be read: {error.strerror}") from None
    if not size:
        raise Corrupt(f"{Path(path).name}: the file is empty")
    return digest.hexdigest()


def _content_id(digest: str, entry: Entry) -> str:
    if entry.start is None and entry.end is None:
        return f"v{digest[:16]}"
    end = "end" if entry.end is None else f"{entry.end * 1000:.0f}"
    return f"v{digest[:16]}-{(entry.start or 0) * 1000:.0f}-{end}"


def _look(
    container: InputContainer, stream: VideoStream, reading: Reading
) -> tuple[VideoFrame | None, list[float]]:
    picture: VideoFrame | None = None
    stamps: list[float] = []
    for seen, packet in enumerate(packets_of(container, stream, reading)):
        if picture is not None and seen >= _PACKETS:
            break
        if seen < _PACKETS and packet.pts is not None:
            stamps.append(float(packet.pts * packet.time_base))
        if picture is None:
            picture = next(iter(decode_packet(packet, reading)), None)
    stamps.sort()
    if len(stamps) == _PACKETS:
        # Packets come in order of decoding: the last ones lack pictures shown between them.
        del stamps[-16:]
    return picture, stamps


def _gaps(stamps: list[float]) -> list[float]:
    return [b - a for a, b in itertools.pairwise(stamps) if b > a]


def _varies(stamps: list[float]) -> bool:
    """Whether more than one gap in a hundred is off the usual one by a quarter (and by over 2 ms)."""
    gaps = _gaps(stamps)
    if len(gaps) < 2:
        return False
    usual = statistics.median(gaps)
    odd = sum(abs(gap - usual) > max(usual / 4, 0.002) for gap in gaps)
    return odd > len(gaps) / 100


def _rate(stream: VideoStream, stamps: list[float]) -> float:
    """Average pictures a second: the header's, unless the time stamps contradict it; 0 if unknown."""
    claimed = float(stream.average_rate or 0)
    gaps = _gaps(stamps)
    measured = len(gaps) / sum(gaps) if gaps else 0.0
    # A header that counts its pictures knows their average over the whole file; others guess.
    counted = bool(stream.frames and stream.duration)
    if claimed and (counted or not measured or abs(claimed - measured) < 0.05 * measured):
        return claimed
    return measured or claimed


def _clipped(duration: float, entry: Entry, name: str) -> float:
    start, end = entry.start or 0.0, entry.end
    if start < 0 or (end is not None and end <= start):
        raise Corrupt(f"{name}: the span from {start:g} to {end:g} s is empty or begins before 0")
    if duration and start >= duration:
        raise Corrupt(f"{name}: the span begins at {start:g} s, but the video lasts {duration:.3f} s")
    if end is None:
        return round(max(0.0, duration - start), 6)
    return round((min(end, duration) if duration else end) - start, 6)
