"""Clips made for the tests: every picture carries its number, as white and dark blocks along the top."""

import subprocess
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datagen.config import FrameOptions, SceneOptions
from datagen.media.probe import probe
from datagen.media.watch import watch
from datagen.records import Entry, Location, Video, Watched

SHARED = Path(__file__).resolve().parents[2] / "../shared/videos"
BITS = 10
TICKS = 90_000

Pixels = NDArray[np.uint8]


def numbered(number: int, width: int = 320, height: int = 180) -> Pixels:
    picture = np.full((height, width, 3), 40, np.uint8)
    block = width // BITS
    for bit in range(BITS):
        if number >> bit & 1:
            picture[: height // 3, bit * block + 4 : (bit + 1) * block - 4] = 235
    picture[height // 2 :, (number * 7) % width :] = (30, 120, 60)
    return picture


def number_in(picture: Path, bits: int = BITS, top: float = 0.16) -> int:
    """The number that a picture of any size carries."""
    grey = np.asarray(Image.open(picture).convert("L"))
    row = int(grey.shape[0] * top)
    centres = [int((bit + 0.5) * grey.shape[1] / bits) for bit in range(bits)]
    return sum(
        1 << bit for bit, x in enumerate(centres) if grey[row - 1 : row + 2, x - 2 : x + 3].mean() > 128
    )


def encode(
    path: Path,
    pictures: Iterable[Pixels],
    times: Sequence[float | Fraction],
    *,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    options: dict[str, str] | None = None,
    muxing: dict[str, str] | None = None,
) -> Path:
    """A video of the pictures, each appearing at its time (seconds)."""
    base = Fraction(1, TICKS)
    with av.open(str(path), "w", options=muxing or {}) as container:
        stream = None
        for picture, time in zip(pictures, times, strict=True):
            if stream is None:
                stream = container.add_stream(codec, rate=30, options=options or {"crf": "18"})
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = pixels
                stream.codec_context.time_base = stream.time_base = base
                stream.codec_context.thread_count = 1
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = round(time * TICKS), base
            container.mux(stream.encode(frame))
        assert stream is not None
        container.mux(stream.encode(None))
    return path


def counter(path: Path, times: Sequence[float | Fraction], **how: object) -> Path:
    return encode(path, (numbered(n) for n in range(len(times))), times, **how)  # type: ignore[arg-type]


def ffmpeg(*arguments: object) -> bytes:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-loglevel", "error", "-y", "-threads", "1"]
    return subprocess.run([*command, *map(str, arguments)], check=True, capture_output=True).stdout


def facts(path: Path, **fields: object) -> Video:
    return probe(Location(str(path)), entry(path, **fields))


def entry(path: Path, **fields: object) -> Entry:
    return Entry(path=str(path), name=path.name, size=0, mtime_ns=0, **fields)  # type: ignore[arg-type]


def seen(
    path: Path,
    folder: Path,
    *,
    start: float = 0.0,
    end: float | None = None,
    scenes: SceneOptions | None = None,
    writes_frames: bool = True,
    **frames: float,
) -> Watched:
    options, places = FrameOptions(**frames), (Location(str(path)), Location(str(folder)))  # type: ignore[arg-type]
    return watch(*places, start, end, scenes or SceneOptions(), options, writes_frames)


def frames_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jpg"))


def expected(
    times: Sequence[float | Fraction], duration: float, interval: float, start: float = 0.0
) -> list[int]:
    """Numbers of the pictures that the training frames must show, straight from the definition."""
    numbers = []
    k = 1
    while (k - 1) * interval < duration - 1e-6:
        numbers.append(max(n for n, time in enumerate(times) if time <= start + k * interval + 1e-6))
        k += 1
    return numbers


def clipped(numbers: Sequence[int], times: Sequence[float | Fraction], end: float) -> list[int]:
    last = max(n for n, time in enumerate(times) if time < end - 1e-6)
    return [min(n, last) for n in numbers]
