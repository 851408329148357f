"""A GPU gives the same frames and boundaries; where there is none, or it fails, the processor decodes."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter

from datagen.config import FrameOptions, SceneOptions
from datagen.errors import Corrupt
from datagen.media import decode, gpu
from datagen.media import watch as module
from datagen.media.reading import Reading
from datagen.records import Location, Watched
from tests.media.clips import encode, frames_in, numbered

Result = tuple[Watched, list[bytes]]

TIMES = [Fraction(n, 25) for n in range(150)]

AS_A_GPU = {"yuv420p": "nv12", "yuvj420p": "nv12", "yuv420p10le": "p010le"}
"""How it hands pictures over that the processor would give in the other layout."""

KINDS: dict[str, dict[str, Any]] = {
    "plain.mp4": {},
    "odd.mp4": {"size": (322, 182)},
    "upright.mp4": {"size": (180, 320)},
    "bright.mp4": {"pixels": "yuvj420p"},
    "deep.mkv": {"pixels": "yuv420p10le", "codec": "libx265"},
    "vp9.webm": {"codec": "libvpx-vp9"},
}


@pytest.fixture(scope="module", params=KINDS)
def clip(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds with a cut in their middle."""
    how = dict(KINDS[request.param])
    width, height = how.pop("size", (320, 180))
    pictures = (
        numbered(n, width, height) if n < 75 else 255 - numbered(n, width, height) for n in range(150)
    )
    options = {"x265-params": "log-level=none"} if how.get("codec") == "libx265" else {}
    path = tmp_path_factory.mktemp("gpu") / request.param
    return encode(path, pictures, TIMES, options={"crf": "18", **options}, **how)


def watched(clip: Path, folder: Path, on_gpu: bool) -> Result:
    options = SceneOptions(), FrameOptions(interval=0.7)
    found = module.watch(Location(str(clip)), Location(str(folder)), 0.0, None, *options, True, on_gpu)
    return found, [frame.read_bytes() for frame in frames_in(folder)]


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> list[Watched | None]:
    """What the GPU found by itself, without the processor that goes on where it gives up."""
    found: list[Watched | None] = []

    def kept(attempt: Callable[..., Watched], on_gpu: Callable[..., Watched | None] = module._on_gpu) -> Any:
        found.append(on_gpu(attempt))
        return found[-1]

    monkeypatch.setattr(module, "_on_gpu", kept)
    return found


def as_if_there_were_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of a GPU is taken, and the processor walks it."""
    monkeypatch.setattr(module, "accelerator", object)
    monkeypatch.setattr(decode, "accelerator", lambda: None)


@pytest.mark.skipif(not gpu.accelerator(), reason="no GPU that FFmpeg can use")
def test_a_gpu_gives_the_same(clip: Path, tmp_path: Path, alone: list[Watched | None]) -> None:
    by_processor = watched(clip, tmp_path / "processor", on_gpu=False)
    assert watched(clip, tmp_path / "gpu", on_gpu=True) == by_processor
    assert alone == [by_processor[0]]


def test_what_a_gpu_finds_is_taken(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: list[Watched | None]
) -> None:
    by_processor = watched(clip, tmp_path / "processor", on_gpu=False)
    as_if_there_were_one(monkeypatch)
    assert watched(clip, tmp_path / "gpu", on_gpu=True) == by_processor
    assert alone == [by_processor[0]]


def test_codecs_that_leave_room_in_how_to_round_are_left_to_the_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: list[Watched | None]
) -> None:
    how = {"codec": "mjpeg", "pixels": "yuvj420p", "options": {"q": "3"}}
    older = encode(tmp_path / "older.mkv", map(numbered, range(50)), TIMES[:50], **how)  # type: ignore[arg-type]
    as_if_there_were_one(monkeypatch)
    assert watched(older, tmp_path / "gpu", on_gpu=True) == watched(older, tmp_path / "cpu", on_gpu=False)
    assert alone == [None]


def test_pictures_that_a_gpu_does_not_crop_are_told(clip: Path) -> None:
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        width, height = stream.width, stream.height
        assert gpu.gives_the_same(stream, av.VideoFrame(width, height))
        assert not gpu.gives_the_same(stream, av.VideoFrame(width + 4, height))


def test_pictures_laid_out_as_a_gpu_gives_them_yield_the_same(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_processor = watched(clip, tmp_path / "processor", on_gpu=False)
    decode_packet, reformatter, given = decode.decode_packet, VideoReformatter(), []

    def as_from_a_gpu(packet: Any, reading: Reading) -> list[av.VideoFrame]:
        pictures = decode_packet(packet, reading)
        given.extend(AS_A_GPU[picture.format.name] for picture in pictures)
        return [reformatter.reformat(each, format=AS_A_GPU[each.format.name]) for each in pictures]

    monkeypatch.setattr(decode, "decode_packet", as_from_a_gpu)
    assert watched(clip, tmp_path / "gpu", on_gpu=False) == by_processor
    assert len(given) >= 75 and set(given) <= {"nv12", "p010le"}
    assert 3.0 in [boundary.start for boundary in by_processor[0].boundaries]


def fails_at_once(reading: Reading) -> Iterator[tuple[float, av.VideoFrame]]:
    raise Corrupt("not one picture can be decoded")
    yield


def fails_later(reading: Reading) -> Iterator[tuple[float, av.VideoFrame]]:
    for n in range(5):
        yield n / 25, av.VideoFrame.from_ndarray(np.full((180, 320, 3), 9, np.uint8), "rgb24")
    reading.bad_packets, reading.duration = 3, 6.0


@pytest.mark.parametrize("failing", [fails_at_once, fails_later])
def test_a_gpu_that_fails_costs_nothing(
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failing: Callable[[Reading], Iterator[tuple[float, av.VideoFrame]]],
) -> None:
    by_processor = watched(clip, tmp_path / "processor", on_gpu=False)
    read_pictures, asked = module.read_pictures, []

    def reading_of(path: str, start: float, end: float | None, reading: Reading, *more: Any) -> Iterator[Any]:
        asked.append(more[-1])
        return failing(reading) if more[-1] else read_pictures(path, start, end, reading, *more)

    as_if_there_were_one(monkeypatch)
    monkeypatch.setattr(module, "read_pictures", reading_of)
    assert watched(clip, tmp_path / "gpu", on_gpu=True) == by_processor
    assert asked == [True, False]


def test_where_ffmpeg_knows_no_cuda_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "hwdevices_available", lambda: ["videotoolbox"])
    assert gpu.accelerator.__wrapped__() is None


def test_without_a_gpu_the_processor_decodes(clip: Path, tmp_path: Path) -> None:
    by_processor = watched(clip, tmp_path / "processor", on_gpu=False)
    assert watched(clip, tmp_path / "gpu", on_gpu=True) == by_processor
