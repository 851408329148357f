import json
import random
from fractions import Fraction
from pathlib import Path

import pytest
from PIL import Image

from datagen.errors import Corrupt
from tests.media.clips import (
    SHARED,
    TICKS,
    clipped,
    counter,
    expected,
    ffmpeg,
    frames_in,
    number_in,
    seen,
)

CONSTANT = [Fraction(1001 * n, 30000) for n in range(180)]


def _variable() -> list[Fraction]:
    chance = random.Random(1)
    times = [Fraction(0)]
    while times[-1] < 6:
        times.append(times[-1] + Fraction(chance.choice([1500, 3000, 6000, 30000, 45000]), TICKS))
    return times


VARIABLE = _variable()
OPEN_GOPS = {"x264-params": "open-gop=1:keyint=25:min-keyint=25:bframes=3:b-adapt=0:scenecut=0"}
CASES = {
    "constant.mp4": (CONSTANT, {"options": {"g": "30"}}),
    "constant.ts": (CONSTANT, {}),
    "variable.mp4": (VARIABLE, {}),
    "variable.mkv": (VARIABLE, {}),
    "variable-late.mp4": ([time + 3 for time in VARIABLE], {}),
    "open-gops.mp4": (CONSTANT, {"options": OPEN_GOPS}),
    "open-gops.ts": (CONSTANT, {"options": OPEN_GOPS}),
    "without-b.mkv": (CONSTANT, {"options": {"bf": "0", "g": "40"}}),
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("clips")
    return {name: counter(folder / name, times, **how) for name, (times, how) in CASES.items()}


def _times(name: str) -> list[Fraction]:
    times = CASES[name][0]
    return [time - times[0] for time in times]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("interval", [0.5, 1.0, 2.0])
def test_every_frame_is_the_picture_of_its_time(
    clips: dict[str, Path], tmp_path: Path, name: str, interval: float
) -> None:
    watched = seen(clips[name], tmp_path / "out", interval=interval)
    files = frames_in(tmp_path / "out")
    assert [file.name for file in files] == [f"{k:06d}.jpg" for k in range(1, watched.frame_count + 1)]
    assert [number_in(file) for file in files] == expected(_times(name), watched.duration, interval)
    assert watched.duration > _times(name)[-1]
    assert watched.partial is None


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("start", [0.03, 2.7, 5.001])
def test_spans_are_exact(clips: dict[str, Path], tmp_path: Path, name: str, start: float) -> None:
    times = _times(name)
    watched = seen(clips[name], tmp_path / "rest", interval=0.5, start=start)
    got = [number_in(file) for file in frames_in(tmp_path / "rest")]
    assert got == expected(times, watched.duration, 0.5, start)
    assert watched.duration + start > times[-1]
    watched = seen(clips[name], tmp_path / "some", interval=0.5, start=start, end=start + 0.77)
    got = [number_in(file) for file in frames_in(tmp_path / "some")]
    assert watched.duration == pytest.approx(0.77)
    assert got == clipped(expected(times, 0.77, 0.5, start), times, start + 0.77)


def test_a_span_beyond_the_pictures_is_refused(clips: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(Corrupt, match=r"no picture can be read from 7 s on; they end at 6\.006 s"):
        seen(clips["constant.mp4"], tmp_path / "out", start=7.0)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


def test_time_0_is_the_first_picture_shown_after_an_edit_list(clips: dict[str, Path], tmp_path: Path) -> None:
    cut = tmp_path / "cut.mp4"
    ffmpeg("-ss", 3.3, "-i", clips["open-gops.mp4"], "-c", "copy", "-avoid_negative_ts", "disabled", cut)
    watched = seen(cut, tmp_path / "out", interval=0.5)
    got = [number_in(file) for file in frames_in(tmp_path / "out")]
    first = round(180 - watched.duration * 30000 / 1001)
    assert 95 <= first <= 100
    assert got == [n + first for n in expected(CONSTANT[: 180 - first], watched.duration, 0.5)]


def test_the_same_video_gives_the_same_bytes(clips: dict[str, Path], tmp_path: Path) -> None:
    one = seen(clips["variable.mp4"], tmp_path / "one")
    two = seen(clips["variable.mp4"], tmp_path / "two")
    assert one == two
    for first, second in zip(frames_in(tmp_path / "one"), frames_in(tmp_path / "two"), strict=True):
        assert first.read_bytes() == second.read_bytes()


def test_a_file_cut_short_gives_what_is_left(clips: dict[str, Path], tmp_path: Path) -> None:
    ffmpeg("-i", clips["constant.mp4"], "-c", "copy", "-movflags", "faststart", tmp_path / "whole.mp4")
    whole = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) * 6 // 10])
    watched = seen(tmp_path / "cut.mp4", tmp_path / "out", interval=0.5)
    assert 2 < watched.duration < 5
    assert watched.partial and "ends early" in watched.partial and "of 6.0 s" in watched.partial
    got = [number_in(file) for file in frames_in(tmp_path / "out")]
    assert got[:-2] == expected(CONSTANT, watched.duration, 0.5)[:-2]


def test_a_hole_in_the_middle_is_passed_over(clips: dict[str, Path], tmp_path: Path) -> None:
    content = bytearray(clips["constant.mp4"].read_bytes())
    middle = len(content) // 2
    content[middle - 500 : middle + 500] = bytes(1000)
    (tmp_path / "hole.mp4").write_bytes(content)
    watched = seen(tmp_path / "hole.mp4", tmp_path / "out", interval=0.5)
    assert watched.partial and "could not be decoded, the first at" in watched.partial
    assert watched.duration == pytest.approx(6.006, abs=0.01)
    got = [number_in(file) for file in frames_in(tmp_path / "out")]
    want = expected(CONSTANT, 6.006, 0.5)
    assert got[:3] == want[:3] and got[-3:] == want[-3:]


def test_two_recordings_joined_are_one_after_the_other(clips: dict[str, Path], tmp_path: Path) -> None:
    one = clips["constant.ts"].read_bytes()
    (tmp_path / "twice.ts").write_bytes(one + one)
    watched = seen(tmp_path / "twice.ts", tmp_path / "out", interval=0.5)
    assert watched.duration == pytest.approx(12.012, abs=0.04)
    got = [number_in(file) for file in frames_in(tmp_path / "out")]
    twice = expected([*CONSTANT, *(time + CONSTANT[-1] + CONSTANT[1] for time in CONSTANT)], 12.012, 0.5)
    assert got == [n % 180 for n in twice]


@pytest.mark.parametrize(("codec", "suffix"), [("libvpx", "webm"), ("libvpx-vp9", "webm"), ("mpeg4", "avi")])
def test_other_codecs(tmp_path: Path, codec: str, suffix: str) -> None:
    times = [Fraction(n, 25) for n in range(60)]
    options = {"b": "2M", "cpu-used": "8", "deadline": "realtime"} if codec != "mpeg4" else {"b": "4M"}
    path = tmp_path / f"clip.{suffix}"
    if suffix == "avi":
        counter(tmp_path / "clip.mp4", times)
        ffmpeg("-i", tmp_path / "clip.mp4", "-c:v", "mpeg4", "-bf", 2, "-q:v", 3, "-g", 20, path)
    else:
        counter(path, times, codec=codec, options=options)
    watched = seen(path, tmp_path / "out", interval=0.3)
    got = [number_in(file) for file in frames_in(tmp_path / "out")]
    assert got == expected(times, 2.4, 0.3)
    assert watched.duration == pytest.approx(2.4, abs=0.05)
    seen(path, tmp_path / "out", interval=0.3, start=1.5)
    assert [number_in(file) for file in frames_in(tmp_path / "out")] == expected(times, 0.9, 0.3, 1.5)


needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="no shared videos")


@needs_shared
@pytest.mark.parametrize("name", ["dev_counter_2997.mp4", "dev_counter_vfr.mp4"])
@pytest.mark.parametrize(
    ("interval", "start"), [(1.0, 0.0), (2.0, 0.0), (0.5, 0.0), (0.5, 13.37), (2.0, 20.0)]
)
def test_shared_counters(tmp_path: Path, name: str, interval: float, start: float) -> None:
    times = json.loads((SHARED / f"{name}.times.json").read_text())["frame_times_s"]
    watched = seen(SHARED / name, tmp_path / "out", interval=interval, start=start)
    got = [number_in(file, bits=16, top=0.11) for file in frames_in(tmp_path / "out")]
    assert got == expected(times, watched.duration, interval, start)
    assert len(got) == watched.frame_count == -(-watched.duration // interval)


@needs_shared
@pytest.mark.parametrize(
    ("name", "duration", "cuts", "partial"),
    [
        ("animated.gif", 4.0, 1, None),
        ("corrupt_middle.mp4", 12.0, 3, "packets could not be decoded"),
        ("interlaced_anamorphic.ts", 5.96, 1, None),
        ("no_duration.webm", 6.0, 1, None),
        ("odd_size_yuv444.mp4", 4.0, 1, None),
        ("one_frame.mp4", 1 / 30, 0, None),
        ("one_keyframe.mp4", 10.0, 2, None),
        ("resolution_change_at_4s.ts", 7.933, 3, "1 pictures may be damaged"),
        ("rotated_90.mp4", 6.006, 0, None),
        ("short_0.4s.mp4", 0.4, 0, None),
        ("truncated_faststart.mp4", 7.1, 1, "7.1 of 12.0 s are readable"),
        ("video_starts_at_2.5s.mp4", 4.004, 0, None),
        ("zeroed_hole.mp4", 12.0, 3, "80 packets could not be decoded, the first at 5.0 s"),
    ],
)
def test_odd_files(tmp_path: Path, name: str, duration: float, cuts: int, partial: str | None) -> None:
    watched = seen(SHARED / "odd" / name, tmp_path / "out", interval=0.5)
    assert watched.duration == pytest.approx(duration, abs=0.04)
    assert watched.frame_count == len(frames_in(tmp_path / "out")) == -(-watched.duration // 0.5)
    assert len(watched.boundaries) == cuts
    assert watched.partial is None if partial is None else partial in (watched.partial or "")
    assert (watched.measures[0].start, watched.measures[-1].end) == (0.0, watched.duration)
    sizes = {Image.open(frame).size for frame in frames_in(tmp_path / "out")}
    assert len(sizes) == 1
    assert all(side % 28 == 0 for size in sizes for side in size)
