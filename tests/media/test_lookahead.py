import itertools
import math
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.media.decode import read_pictures
from datagen.media.lookahead import Lookahead, Unsure, due
from datagen.media.reading import Reading
from datagen.records import Watched
from tests.media.clips import counter, ffmpeg, frames_in, seen
from tests.media.test_watch import CONSTANT, VARIABLE

PYRAMID = {"x264-params": "bframes=3:b-adapt=0:b-pyramid=normal:keyint=48:scenecut=0"}
CASES: dict[str, tuple[list[Fraction], dict[str, Any]]] = {
    "constant.mp4": (CONSTANT, {"options": PYRAMID}),
    "constant.ts": (CONSTANT, {"options": PYRAMID}),
    "variable.mkv": (VARIABLE, {"options": PYRAMID}),
    "open.mp4": (CONSTANT, {"options": {"x264-params": "open-gop=1:keyint=25:bframes=3:b-adapt=0"}}),
}
REMADE = {"mpeg2.ts": "mpeg2video", "mpeg4.mp4": "mpeg4"}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("clips")
    made = {}
    for name, (times, how) in CASES.items():
        made[name] = counter(folder / name, times, **how)
    for name, codec in REMADE.items():
        made[name] = folder / name
        ffmpeg("-i", made["constant.mp4"], "-c:v", codec, "-bf", 2, "-g", 30, "-q:v", 3, made[name])
    return made


def looked_at(path: Path, interval: float | None, start: float = 0.0, end: float | None = None) -> int:
    return sum(1 for _ in read_pictures(str(path), start, end, Reading(), interval))


def whole(path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, **how: Any) -> Watched:
    """As seen, every picture being decoded."""
    with monkeypatch.context() as patch:
        patch.setattr(Lookahead, "begin", lambda self, first: None)
        return seen(path, folder, **how)


@pytest.mark.parametrize("name", [*CASES, *REMADE])
@pytest.mark.parametrize(
    ("interval", "start", "end"), [(1.0, 0.0, None), (0.3, 2.2, 3.77), (0.5, 3.0, None), (0.04, 0.0, 2.0)]
)
def test_the_same_bytes_from_fewer_pictures(
    clips: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    interval: float,
    start: float,
    end: float | None,
) -> None:
    how = {"interval": interval, "start": start, "end": end}
    sparing = seen(clips[name], tmp_path / "sparing", **how)  # type: ignore[arg-type]
    full = whole(clips[name], tmp_path / "full", monkeypatch, **how)
    assert (sparing.duration, sparing.frame_count, sparing.partial) == (
        full.duration,
        full.frame_count,
        full.partial,
    )
    assert [path.read_bytes() for path in frames_in(tmp_path / "sparing")] == [
        path.read_bytes() for path in frames_in(tmp_path / "full")
    ]


@pytest.mark.parametrize("name", [*CASES, *REMADE])
def test_pictures_are_left_out(clips: dict[str, Path], name: str) -> None:
    assert looked_at(clips[name], 2.0) < 0.72 * looked_at(clips[name], None)


@pytest.mark.parametrize("name", [*CASES, *REMADE])
def test_without_frames_they_are_only_counted_and_fewer_pictures_decoded(
    clips: dict[str, Path], tmp_path: Path, name: str
) -> None:
    path = clips[name]
    with_frames = seen(path, tmp_path / "with", interval=0.5)
    without = seen(path, tmp_path / "without", writes_frames=False, interval=0.5)
    assert frames_in(tmp_path / "without") == [] and (tmp_path / "without").is_dir()
    assert (without.duration, without.frame_count) == (with_frames.duration, with_frames.frame_count)
    assert looked_at(path, math.inf) < looked_at(path, 0.5)


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_other_codecs_are_decoded_whole(tmp_path: Path, codec: str) -> None:
    path = counter(tmp_path / "a.webm", CONSTANT[:40], codec=codec, options={"b": "2M", "cpu-used": "8"})
    assert looked_at(path, 2.0) == 40


def test_surprises_are_answered_by_decoding_everything(
    clips: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    doubtful = tmp_path / "twice.ts"
    doubtful.write_bytes(clips["constant.ts"].read_bytes() * 2)
    with pytest.raises(Unsure, match="out of order"):
        looked_at(doubtful, 2.0)
    sparing, full = (
        seen(doubtful, tmp_path / "sparing", interval=0.5),
        whole(doubtful, tmp_path / "full", monkeypatch, interval=0.5),
    )
    assert sparing == full and full.frame_count == 25
    assert [path.read_bytes() for path in frames_in(tmp_path / "sparing")] == [
        path.read_bytes() for path in frames_in(tmp_path / "full")
    ]


def test_damage_is_counted_as_if_everything_were_decoded(
    clips: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytearray(clips["constant.mp4"].read_bytes())
    middle = len(content) // 2
    content[middle - 2000 : middle + 2000] = bytes(4000)
    (tmp_path / "hole.mp4").write_bytes(content)
    sparing = seen(tmp_path / "hole.mp4", tmp_path / "a", interval=0.5)
    assert sparing.partial and "could not be decoded" in sparing.partial
    assert sparing == whole(tmp_path / "hole.mp4", tmp_path / "b", monkeypatch, interval=0.5)


@given(st.floats(0, 1e5), st.floats(0.04, 3600))
def test_due_is_the_first_frame_not_before_the_picture(time: float, interval: float) -> None:
    k = due(time, interval)
    assert k * interval >= time - 1e-6
    assert k == 0 or (k - 1) * interval < time - 1e-6


class Told:
    """Stands for a decoder that leaves out every picture it may, and remembers which it was given."""

    codec = SimpleNamespace(canonical_name="h264")
    field_order = 1
    skip_frame = "DEFAULT"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 900), min_size=2, max_size=40),
    st.lists(st.integers(0, 3), min_size=40, max_size=40),
    st.sampled_from([0.25, 0.5, 1.0, 3.0]),
    st.floats(0, 4),
)
def test_every_picture_that_a_frame_shows_is_wanted(
    gaps: list[int], moves: list[int], interval: float, start: float
) -> None:
    stamps = [0]
    for gap in gaps:
        stamps.append(stamps[-1] + gap)
    order = sorted(range(len(stamps)), key=lambda n: (n - moves[n % 40], n))
    # Packets are due in this order, each no later than its own picture and all that come after it.
    dues = [min(stamps[n] for n in order[place:]) - 10_000 + place for place in range(len(order))]
    packets = [
        SimpleNamespace(
            pts=stamps[n], dts=dues[k], duration=1, size=9, is_discard=False, is_keyframe=stamps[n] == 0
        )
        for k, n in enumerate(order)
    ]
    for early, late in itertools.pairwise(packets):
        late.dts = max(late.dts, early.dts + 1)
    decoder: Any = Told()
    stream: Any = SimpleNamespace(codec_context=decoder, time_base=Fraction(1, 300))
    lookahead = Lookahead(stream, interval, start, None)
    lookahead.begin(SimpleNamespace(pts=0))  # type: ignore[arg-type]
    given_whole = {packet.pts for packet in lookahead.follow(packets) if decoder.skip_frame == "DEFAULT"}
    k = 0
    while start + k * interval < stamps[-1] / 300 + interval:
        now = k * interval + 1e-6
        shown = max(stamp for stamp in stamps if not stamp or round(stamp / 300 - start, 6) <= now)
        assert shown in given_whole
        k += 1


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_containers_are_closed(tmp_path: Path) -> None:
    path = counter(tmp_path / "tiny.mp4", CONSTANT[:6])
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(path.read_bytes()[:300])
    before = len(list(Path("/proc/self/fd").iterdir()))
    for n in range(300):
        for _ in read_pictures(str(path), 0.0, None, Reading(), 1.0):
            if n % 2:
                break
        with pytest.raises(Exception, match="broken"):
            looked_at(broken, 1.0)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2
