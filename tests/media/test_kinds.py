"""Kinds of files whose pictures or times are easily taken wrong: each shows the picture of its time."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from datagen.errors import Corrupt
from tests.media.clips import counter, expected, facts, ffmpeg, frames_in, number_in, seen

TIMES = [Fraction(n, 25) for n in range(100)]
TWICE = [Fraction(n, 25) for n in range(200)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hundred pictures in four seconds, B-pictures among them."""
    options = {"crf": "18", "g": "25", "bf": "2", "preset": "veryfast"}
    return counter(tmp_path_factory.mktemp("clip") / "clip.mp4", TIMES, options=options)


def numbers(path: Path, folder: Path, interval: float = 0.3, **how: float) -> list[int]:
    seen(path, folder / "out", interval=interval, **how)  # type: ignore[arg-type]
    return [number_in(frame) for frame in frames_in(folder / "out")]


H264 = ("-c:v", "libx264", "-preset", "veryfast", "-bf", 2, "-g", 25)
MPEG1 = ("-c:v", "mpeg1video", "-q:v", 3, "-bf", 2)
EARLY = (*H264, "-r", 25, "-output_ts_offset", -1.5, "-avoid_negative_ts", "disabled")


@pytest.mark.parametrize(
    ("name", "coding"),
    [
        ("decoding_stamps.avi", H264),
        ("decoding_stamps.wmv", H264),
        ("no_stamps.h264", H264),
        ("guessed_stamps.m1v", MPEG1),
        ("stamps_before_0.mkv", EARLY),
        ("stamps_before_0.ts", EARLY),
        ("stamps_start_over.ts", ("-c", "copy", "-output_ts_offset", 2**33 / 90_000 - 3)),
        ("pieces.mp4", ("-c", "copy", "-movflags", "frag_every_frame+empty_moov")),
        ("interlaced.ts", ("-c:v", "libx264", "-x264-params", "interlaced=1:bframes=2")),
    ],
)
def test_stamps_of_all_kinds(clip: Path, tmp_path: Path, name: str, coding: Sequence[object]) -> None:
    ffmpeg("-i", clip, *coding, tmp_path / name)
    assert numbers(tmp_path / name, tmp_path) == expected(TIMES, 4.0, 0.3)
    assert numbers(tmp_path / name, tmp_path, start=1.7) == expected(TIMES, 2.3, 0.3, 1.7)


def test_recordings_put_one_behind_the_other_are_exact_at_the_seam_and_beyond(
    clip: Path, tmp_path: Path
) -> None:
    ffmpeg("-i", clip, "-c", "copy", tmp_path / "once.ts")
    (tmp_path / "twice.ts").write_bytes((tmp_path / "once.ts").read_bytes() * 2)
    for start, interval in ((0.0, 0.3), (3.8, 0.08), (5.0, 0.3)):
        got = numbers(tmp_path / "twice.ts", tmp_path, interval, start=start)
        assert got == [n % 100 for n in expected(TWICE, 8.0 - start, interval, start)]


def test_a_stream_that_begins_later_is_no_matter(clip: Path, tmp_path: Path) -> None:
    ffmpeg("-i", clip, "-c", "copy", tmp_path / "mute.ts")
    sound = ("-f", "lavfi", "-i", "sine=duration=4", "-c:v", "copy", "-c:a", "mp2")
    ffmpeg("-i", clip, *sound, tmp_path / "sound.ts")
    both = (tmp_path / "mute.ts").read_bytes() + (tmp_path / "sound.ts").read_bytes()
    (tmp_path / "late.ts").write_bytes(both)
    assert facts(tmp_path / "late.ts").width == 320
    assert numbers(tmp_path / "late.ts", tmp_path, 0.5) == [n % 100 for n in expected(TWICE, 8.0, 0.5)]


def test_lost_packets_are_told(clip: Path, tmp_path: Path) -> None:
    ffmpeg("-i", clip, "-c", "copy", tmp_path / "whole.ts")
    whole = (tmp_path / "whole.ts").read_bytes()
    middle = len(whole) // 376 * 188
    (tmp_path / "lossy.ts").write_bytes(whole[:middle] + whole[middle + 5 * 188 :])
    assert "may be damaged" in (seen(tmp_path / "lossy.ts", tmp_path / "out").partial or "")


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "mpeg4"), ("a.avi", "wmv2"), ("a.flv", "flv")])
def test_pictures_before_the_first_key_picture_are_not_made_up(
    clip: Path, tmp_path: Path, name: str, codec: str
) -> None:
    ffmpeg("-i", clip, "-c:v", codec, "-g", 20, "-q:v", 3, tmp_path / f"whole-{name}")
    with av.open(str(tmp_path / f"whole-{name}")) as whole, av.open(str(tmp_path / name), "w") as rest:
        stream = rest.add_stream_from_template(whole.streams.video[0])
        for packet in [packet for packet in whole.demux(video=0) if packet.size][7:]:
            packet.stream = stream
            rest.mux(packet)
    watched = seen(tmp_path / name, tmp_path / "out", interval=0.5)
    first, *_ = (number_in(frame) for frame in frames_in(tmp_path / "out"))
    assert first in (32, 33)
    assert "13 packets could not be decoded, the first at 0.0 s" in (watched.partial or "")


def test_a_picture_beside_the_video_is_not_taken_for_it(clip: Path, tmp_path: Path) -> None:
    Image.new("RGB", (640, 360), "red").save(tmp_path / "cover.png")
    flags = ("-disposition:v:0", "default", "-disposition:v:1", "0")
    streams = ("-i", tmp_path / "cover.png", "-i", clip, "-map", "0:v", "-map", "1:v")
    ffmpeg(*streams, "-c:v:0", "mjpeg", "-c:v:1", "copy", *flags, tmp_path / "both.mp4")
    assert facts(tmp_path / "both.mp4").width == 320
    assert numbers(tmp_path / "both.mp4", tmp_path) == expected(TIMES, 4.0, 0.3)


def test_what_is_cropped_is_not_shown(clip: Path, tmp_path: Path) -> None:
    crops = "h264_metadata=" + ":".join(f"crop_{side}=16" for side in ("left", "right", "top"))
    coding = ("-vf", "pad=352:196:16:16", "-c:v", "libx264", "-bsf:v", crops)
    ffmpeg("-i", clip, *coding, tmp_path / "cropped.mp4")
    assert facts(tmp_path / "cropped.mp4").width == 320
    assert numbers(tmp_path / "cropped.mp4", tmp_path) == expected(TIMES, 4.0, 0.3)


def _edited(whole: Path, path: Path, edits: Sequence[tuple[float, float | None, int]]) -> Path:
    """The film with another edit list: seconds, the second of the film that they begin at, and the rate."""
    content = whole.read_bytes()
    at = content.index(b"elst") - 4
    size, _, _, count, _, begin, _ = struct.unpack(">I4sIIIiI", content[at : at + 28])
    assert (size, count) == (28, 1)
    with av.open(str(whole)) as film:
        second = film.streams.video[0].time_base.denominator  # type: ignore[union-attr]
    rows = b"".join(
        struct.pack(
            ">Iihh", round(lasts * 1000), -1 if when is None else begin + round(when * second), rate, 0
        )
        for lasts, when, rate in edits
    )
    head = struct.pack(">I4sII", 16 + len(rows), b"elst", 0, len(edits))
    content = content[:at] + head + rows + content[at + 28 :]
    for box in (b"edts", b"trak", b"moov"):
        place = content.rindex(box, 0, at) - 4
        (length,) = struct.unpack(">I", content[place : place + 4])
        content = content[:place] + struct.pack(">I", length + len(rows) - 12) + content[place + 4 :]
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("edits", "want"),
    [
        ([(1.0, None, 1), (4.0, 0.0, 1)], range(100)),
        ([(2.0, 1.0, 1)], range(25, 75)),
        ([(1.0, 1.0, 1), (1.0, 3.0, 1)], [*range(25, 50), *range(75, 100)]),
        ([(1.0, 0.0, 1), (1.0, None, 1), (1.0, 1.0, 1)], None),
        ([(1.0, 0.0, 0), (1.0, 1.0, 1)], None),
    ],
)
def test_edit_lists_are_followed_or_refused(
    clip: Path, tmp_path: Path, edits: list[tuple[float, float | None, int]], want: Sequence[int] | None
) -> None:
    path = _edited(clip, tmp_path / "edited.mp4", edits)
    if want is None:
        with pytest.raises(Corrupt, match="its edit list holds pauses"):
            facts(path)
        return
    times = [Fraction(place, 25) for place in range(len(want))]
    got = numbers(path, tmp_path)
    assert got == [want[place] for place in expected(times, len(want) / 25, 0.3)]


def test_an_edit_list_that_leads_elsewhere_loses_no_more_than_a_few_pictures(tmp_path: Path) -> None:
    coding = {"preset": "ultrafast", "x265-params": "log-level=none:keyint=30:bframes=3:open-gop=1"}
    times = [Fraction(n, 25) for n in range(150)]
    whole = counter(tmp_path / "whole.mp4", times, codec="libx265", options=coding)
    path = _edited(whole, tmp_path / "edited.mp4", [(1.0, 2.0, 1), (1.0, 4.0, 1)])
    got = set(numbers(path, tmp_path, 0.04))
    assert set(range(51, 74)) <= got and set(range(105, 125)) <= got
    assert got <= {*range(50, 75), *range(100, 125)}


COLOURS = np.array([(200, 40, 40), (40, 180, 60), (50, 60, 210), (230, 230, 230), (16, 16, 16)]) / 255
TO_2020 = np.array([(0.6274, 0.3293, 0.0433), (0.0691, 0.9195, 0.0114), (0.0164, 0.0880, 0.8956)])
"""From the primaries of ITU-R BT.709 to those of BT.2020 (ITU-R BT.2087)."""


def _perceptual(nits: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084."""
    powered = (nits / 10_000) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * powered) / (1 + 2392 / 128 * powered)) ** (2523 / 32)


def _hybrid(nits: np.ndarray) -> np.ndarray:
    """ITU-R BT.2100, for a screen of 1,000 nits."""
    scene = (nits / 1000) ** (1 / 1.2)
    upper = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), upper)


@pytest.mark.slow
@pytest.mark.parametrize(("curve", "signal"), [("smpte2084", _perceptual), ("arib-std-b67", _hybrid)])
def test_high_dynamic_range_becomes_standard(tmp_path: Path, curve: str, signal: object) -> None:
    light = np.where(COLOURS <= 0.04045, COLOURS / 12.92, ((COLOURS + 0.055) / 1.055) ** 2.4)
    coded = signal(light @ TO_2020.T * 203)  # type: ignore[operator]
    bars = np.repeat(np.repeat((coded[None] * 65535).round().astype("<u2"), 56, axis=1), 112, axis=0)
    (tmp_path / "bars.rgb").write_bytes(bars.tobytes())
    form = ("-f", "rawvideo", "-pix_fmt", "rgb48le", "-s", "280x112", "-r", 1)
    scaling = "scale=out_color_matrix=bt2020:out_range=tv:flags=accurate_rnd,format=yuv420p10le"
    tags = f"setparams=colorspace=bt2020nc:color_primaries=bt2020:color_trc={curve}:range=tv"
    coding = ("-vf", f"{scaling},{tags}", "-c:v", "ffv1")
    ffmpeg(*form, "-i", tmp_path / "bars.rgb", *coding, tmp_path / "bars.mkv")
    seen(tmp_path / "bars.mkv", tmp_path / "out", quality=95)
    frame = np.asarray(Image.open(tmp_path / "out/000001.jpg"), np.int16)
    for place, colour in enumerate(COLOURS * 255):
        patch = frame[30:80, place * 56 + 16 : place * 56 + 40].mean(axis=(0, 1))
        assert np.abs(patch - colour).max() < 32, (colour, patch)
    white, black = frame[60, 196], frame[60, 252]
    assert np.abs(white - 230).max() < 8 and np.abs(black - 16).max() < 8
