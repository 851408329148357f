import math
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from datagen.config import FrameOptions
from datagen.media.frames import FrameWriter, frame_size, replacing
from tests.media.clips import Pixels, encode, facts, ffmpeg, frames_in, seen

SIDES = st.integers(1, 8192)


@given(SIDES, SIDES, st.integers(28 * 28, 400_000))
def test_sides_keep_to_the_grid_and_to_the_limit(width: int, height: int, max_pixels: int) -> None:
    across, down = frame_size(width, height, max_pixels)
    assert across % 28 == 0 and down % 28 == 0
    assert 28 * 28 <= across * down <= max_pixels
    assert across < width + 28 and down < height + 28


@given(st.integers(200, 4096), st.integers(200, 4096))
def test_shape_and_pixels_are_kept(width: int, height: int) -> None:
    across, down = frame_size(width, height, 100_352)
    if 1 / 3 < width / height < 3:
        assert abs(math.log(across / down * height / width)) < 0.15
        assert across * down > 0.6 * min(100_352, width * height)


@pytest.mark.parametrize(
    ("video", "frame"),
    [
        ((1920, 1080), (392, 224)),
        ((1080, 1920), (224, 392)),
        ((640, 480), (336, 252)),
        ((1000, 1000), (308, 308)),
        ((50, 20), (56, 28)),
        ((1, 1), (28, 28)),
    ],
)
def test_familiar_sizes(video: tuple[int, int], frame: tuple[int, int]) -> None:
    assert frame_size(*video, 100_352) == frame


def corners(width: int = 336, height: int = 252) -> Pixels:
    picture = np.full((height, width, 3), 128, np.uint8)
    picture[: height // 2, : width // 2] = (200, 30, 30)
    picture[: height // 2, width // 2 :] = (30, 160, 30)
    picture[height // 2 :, : width // 2] = (30, 30, 200)
    return picture


@pytest.fixture(scope="module")
def upright(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("upright") / "upright.mp4"
    return encode(path, [corners()] * 5, [n / 10 for n in range(5)])


@pytest.mark.parametrize(
    ("turn", "rotation"),
    [
        (("-display_rotation", 90), 270),
        (("-display_rotation", 180), 180),
        (("-display_rotation", 270), 90),
        (("-display_hflip",), 0),
        (("-display_vflip",), None),
        (("-display_rotation", 90, "-display_hflip"), None),
    ],
)
def test_frames_are_the_right_way_up(
    upright: Path, tmp_path: Path, turn: tuple[object, ...], rotation: int | None
) -> None:
    turned = tmp_path / "turned.mp4"
    ffmpeg(*turn, "-i", upright, "-c", "copy", turned)
    seen(turned, tmp_path / "out", interval=1)
    frame = np.asarray(Image.open(tmp_path / "out/000001.jpg"), np.int16)
    size = f"{frame.shape[1]}x{frame.shape[0]}"
    shown = ffmpeg("-i", turned, "-frames:v", 1, "-s", size, "-pix_fmt", "rgb24", "-f", "rawvideo", "-")
    assert np.abs(frame - np.frombuffer(shown, np.uint8).reshape(frame.shape)).mean() < 6
    video = facts(turned)
    sides = (252, 336) if frame.shape[0] > frame.shape[1] else (336, 252)
    assert (video.width, video.height) == sides
    if rotation is not None:
        assert video.rotation == rotation


COLOURS = [(200, 40, 40), (40, 180, 60), (50, 60, 210), (230, 230, 230), (16, 16, 16), (210, 190, 40)]


@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
@pytest.mark.parametrize("levels", ["tv", "pc"])
@pytest.mark.parametrize("pixels", ["yuv420p", "yuv444p", "yuv420p10le"])
def test_colours_are_right(tmp_path: Path, matrix: str, levels: str, pixels: str) -> None:
    bars = np.repeat(np.repeat(np.array([COLOURS], np.uint8), 56, axis=1), 112, axis=0)
    Image.fromarray(bars).save(tmp_path / "bars.png")
    tag = "smpte170m" if matrix == "bt601" else "bt709"
    scaling = f"scale=out_color_matrix={matrix}:out_range={levels}:flags=accurate_rnd,format={pixels}"
    tags = ("-colorspace", tag, "-color_primaries", tag, "-color_trc", tag, "-color_range", levels)
    coding = ("-c:v", "libx264", "-crf", 4)
    ffmpeg("-i", tmp_path / "bars.png", "-vf", scaling, *coding, *tags, tmp_path / "bars.mp4")
    seen(tmp_path / "bars.mp4", tmp_path / "out", quality=95)
    frame = np.asarray(Image.open(tmp_path / "out/000001.jpg"), np.int16)
    assert frame.shape == bars.shape
    for place, colour in enumerate(COLOURS):
        patch = frame[30:80, place * 56 + 16 : place * 56 + 40].mean(axis=(0, 1))
        assert np.abs(patch - colour).max() < 7, (colour, patch)


def test_frames_are_on_the_whole_neither_darker_nor_lighter_than_the_pictures(tmp_path: Path) -> None:
    coded = np.random.default_rng(1).integers(16, 236, (45, 60), np.uint8).repeat(28, 0).repeat(28, 1)
    picture = av.VideoFrame(1680, 1260, "yuv420p")
    for plane, levels in zip(picture.planes, (coded, 110, 150), strict=True):
        lines = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        lines[:, : plane.width] = levels
    writer = FrameWriter(tmp_path, FrameOptions(quality=100))
    writer.show(0.0, picture, None)
    writer.finish(0.1)
    shown = np.asarray(Image.open(tmp_path / "000001.jpg"), float).mean(axis=(0, 1))
    light = 255 / 219 * (coded.astype(float) - 16)
    blueness, redness = 255 / 224 * (110 - 128), 255 / 224 * (150 - 128)
    red, green, blue = 1.402 * redness, -0.344 * blueness - 0.714 * redness, 1.772 * blueness  # ITU-R BT.601
    exact = [np.clip(light + colour, 0, 255).mean() for colour in (red, green, blue)]
    assert np.abs(shown - exact).max() < 0.6


def test_pixels_become_square(tmp_path: Path) -> None:
    path = tmp_path / "wide.mp4"
    drawing = ("-f", "lavfi", "-i", "testsrc=size=360x288:rate=5:duration=1", "-vf", "setsar=64/45")
    ffmpeg(*drawing, "-c:v", "libx264", path)
    assert (facts(path).width, facts(path).height) == (512, 288)
    seen(path, tmp_path / "out")
    assert Image.open(tmp_path / "out/000001.jpg").size == frame_size(512, 288, 100_352)


def test_size_stays_when_the_pictures_change_size(tmp_path: Path) -> None:
    for name, size in (("a.ts", "320x180"), ("b.ts", "224x168")):
        drawing = ("-f", "lavfi", "-i", f"testsrc=size={size}:rate=10:duration=2")
        offset = 2 if name == "b.ts" else 0
        ffmpeg(*drawing, "-c:v", "libx264", "-bf", 0, "-output_ts_offset", offset, tmp_path / name)
    joined = tmp_path / "joined.ts"
    joined.write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    watched = seen(joined, tmp_path / "out", interval=0.5)
    assert watched.frame_count == 8 and watched.duration == pytest.approx(4.0)
    assert {Image.open(frame).size for frame in frames_in(tmp_path / "out")} == {
        frame_size(320, 180, 100_352)
    }


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "frames"
    with replacing(folder) as fresh:
        (fresh / "old").touch()
        (fresh / "more").touch()
        assert not folder.exists()
    with pytest.raises(KeyboardInterrupt), replacing(folder) as fresh:
        (fresh / "new").touch()
        raise KeyboardInterrupt
    assert sorted(path.name for path in folder.iterdir()) == ["more", "old"]
    with replacing(folder) as fresh:
        (fresh / "new").touch()
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert [path.name for path in folder.parent.iterdir()] == ["frames"]


def test_two_copies_of_a_video_may_replace_a_folder_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    start = threading.Barrier(4)

    def work() -> None:
        start.wait()
        for _ in range(50):
            with replacing(folder) as fresh:
                for name in "abc":
                    (fresh / name).touch()

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work) for _ in range(4)]:
            done.result()
    assert sorted(path.name for path in folder.iterdir()) == ["a", "b", "c"]
    assert [path.name for path in tmp_path.iterdir()] == ["frames"]
