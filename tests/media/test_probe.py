import hashlib
import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
from PIL import Image

from datagen.errors import Corrupt
from tests.media.clips import SHARED, counter, facts, ffmpeg

NTSC = [Fraction(1001 * n, 30000) for n in range(60)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return counter(tmp_path_factory.mktemp("clip") / "clip.mp4", NTSC)


def test_facts_of_a_plain_clip(clip: Path) -> None:
    video = facts(clip, licence="CC0", source="made", language="en")
    assert video.digest == hashlib.blake2b(clip.read_bytes(), digest_size=16).hexdigest()
    assert video.id == "v" + video.digest[:16]
    assert video.name == "clip.mp4"
    assert video.duration == pytest.approx(60 * 1001 / 30000, abs=0.001)
    assert video.fps == pytest.approx(30000 / 1001, abs=0.01)
    assert (video.width, video.height, video.rotation) == (320, 180, 0)
    assert (video.codec, video.has_audio, video.variable_rate) == ("h264", False, False)
    assert (video.licence, video.source, video.language) == ("CC0", "made", "en")
    assert (video.offset, video.audio_lead) == (0.0, 0.0)


def test_a_span_has_an_id_and_a_duration_of_its_own(clip: Path) -> None:
    span = facts(clip, start=0.5, end=1.25)
    assert span.id == facts(clip).id + "-500-1250"
    assert (span.offset, span.duration) == (0.5, 0.75)
    assert facts(clip, start=0.5).id.endswith("-500-end")
    assert facts(clip, end=1.5).id.endswith("-0-1500")
    assert facts(clip, start=1.5, end=99.0).duration == pytest.approx(0.502, abs=0.001)
    assert facts(clip, id="mine", start=1.0).id == "mine"


@pytest.mark.parametrize(
    ("span", "reason"),
    [
        ({"start": 2.5}, "begins at 2.5 s, but the video lasts 2.00"),
        ({"start": 1.0, "end": 1.0}, "empty"),
        ({"start": 1.5, "end": 1.0}, "empty"),
        ({"start": -1.0, "end": 1.0}, "before 0"),
    ],
)
def test_a_span_outside_the_video_is_refused(clip: Path, span: dict[str, float], reason: str) -> None:
    with pytest.raises(Corrupt, match=reason):
        facts(clip, **span)


def test_a_variable_rate_is_seen_whatever_the_header_says(tmp_path: Path) -> None:
    times = [Fraction(n * (1 if n % 3 else 2), 10) for n in range(0, 60)]
    variable = counter(tmp_path / "variable.mkv", sorted(set(times)))
    assert facts(variable).variable_rate
    constant = counter(tmp_path / "constant.mkv", NTSC)
    assert not facts(constant).variable_rate
    slow = counter(tmp_path / "slow.mkv", [n / 2 for n in range(10)])
    assert facts(slow).fps == pytest.approx(2.0)


def test_the_lead_of_the_sound_is_measured(clip: Path, tmp_path: Path) -> None:
    tone = ("-f", "lavfi", "-i", "sine=duration=5")
    late = tmp_path / "late.mp4"
    ffmpeg("-itsoffset", 2.5, "-i", clip, *tone, "-c:v", "copy", "-c:a", "aac", late)
    video = facts(late)
    assert video.has_audio
    assert video.audio_lead == pytest.approx(2.5, abs=0.03)
    assert video.duration == pytest.approx(2.002, abs=0.01)


def test_of_several_streams_the_default_then_the_largest_is_taken(clip: Path, tmp_path: Path) -> None:
    larger = tmp_path / "larger.mp4"
    ffmpeg("-i", clip, "-vf", "scale=640:360", "-c:v", "libx264", larger)
    both = tmp_path / "both.mkv"
    copying = ("-i", clip, "-i", larger, "-map", "0:v", "-map", "1:v", "-c", "copy")
    ffmpeg(*copying, "-disposition:v", "0", both)
    assert facts(both).width == 640
    ffmpeg(*copying, "-disposition:v", "0", "-disposition:v:0", "default", both)
    assert facts(both).width == 320


def test_a_cover_does_not_hide_the_video(clip: Path, tmp_path: Path) -> None:
    Image.new("RGB", (600, 600), "red").save(tmp_path / "cover.png")
    covered = tmp_path / "covered.mp4"
    mapping = ("-map", "1:v", "-map", "0:v", "-c", "copy", "-disposition:v:0", "attached_pic")
    ffmpeg("-i", clip, "-i", tmp_path / "cover.png", *mapping, covered)
    assert (facts(covered).width, facts(covered).codec) == (320, "h264")


def _refused(path: Path, content: bytes, reason: str) -> None:
    path.write_bytes(content)
    with pytest.raises(Corrupt, match=f"^{path.name}: .*{reason}"):
        facts(path)


def test_what_is_no_video_is_refused_with_the_reason(clip: Path, tmp_path: Path) -> None:
    whole = clip.read_bytes()
    _refused(tmp_path / "empty.mp4", b"", "empty")
    _refused(tmp_path / "text.mp4", b"just some words, nothing more\n" * 40, "text, not a video")
    _refused(tmp_path / "cut.mp4", whole[: len(whole) // 2], "index .moov. is missing")
    _refused(tmp_path / "noise.mp4", hashlib.shake_256(b"").digest(50_000), "not a video")
    with pytest.raises(Corrupt, match="No such file"):
        facts(tmp_path / "missing.mp4")
    Image.new("RGB", (64, 64)).save(tmp_path / "picture.png")
    _refused(tmp_path / "picture.mp4", (tmp_path / "picture.png").read_bytes(), "a still picture")
    ffmpeg("-f", "lavfi", "-i", "sine=duration=1", tmp_path / "sound.m4a")
    _refused(tmp_path / "sound.mp4", (tmp_path / "sound.m4a").read_bytes(), "no video stream")


def test_playlists_lead_nowhere(clip: Path, tmp_path: Path) -> None:
    beside = tmp_path / "secret.mp4"
    beside.write_bytes(clip.read_bytes())
    _refused(tmp_path / "list.mp4", b"ffconcat version 1.0\nfile secret.mp4\n", "not a video")
    segments = b"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:2,\nsecret.mp4\n#EXT-X-ENDLIST\n"
    _refused(tmp_path / "list.m3u8", segments, "not a video")


def test_names_are_never_taken_for_protocols_or_patterns(clip: Path, tmp_path: Path) -> None:
    for name in ("concat:x.mp4", "http:%d.mp4", "-i.mp4", "a b*[1]?.mp4", "ü\u0301.mp4"):
        odd = tmp_path / name
        odd.write_bytes(clip.read_bytes())
        assert facts(odd).digest == facts(clip).digest


def test_nothing_is_decodable(clip: Path, tmp_path: Path) -> None:
    ffmpeg("-i", clip, "-c", "copy", "-movflags", "faststart", tmp_path / "front.mp4")
    front = (tmp_path / "front.mp4").read_bytes()
    at = front.index(b"mdat") + 4
    _refused(tmp_path / "hollow.mp4", front[:at] + bytes(len(front) - at), "not one picture")


def test_importing_is_cheap() -> None:
    heavy = "import sys, datagen.media.probe; sys.exit(any(m in sys.modules for m in ('cv2', 'scenedetect')))"
    assert subprocess.run([sys.executable, "-c", heavy], check=False).returncode == 0


@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared videos")
@pytest.mark.parametrize(
    "name", ["dev_mix.mp4", "dev_bbb60.ts", "dev_vfr.mp4", "dev_vp9.webm", "dev_av1.mkv"]
)
def test_shared_videos_last_as_long_as_their_makers_say(name: str) -> None:
    known = json.loads((SHARED / f"{name}.cuts.json").read_text())
    video = facts(SHARED / name)
    assert video.duration == pytest.approx(known.get("duration_s", 60.06), abs=0.05)
    assert video.variable_rate == (name == "dev_vfr.mp4")


ODD = {
    "animated.gif": (320, 180, 0, "gif"),
    "interlaced_anamorphic.ts": (1024, 576, 0, "mpeg2video"),
    "no_duration.webm": (320, 180, 0, "vp8"),
    "odd_size_yuv444.mp4": (427, 241, 0, "h264"),
    "one_frame.mp4": (480, 270, 0, "h264"),
    "rotated_90.mp4": (360, 640, 270, "h264"),
    "truncated_faststart.mp4": (480, 270, 0, "h264"),
    "video_starts_at_2.5s.mp4": (480, 270, 0, "h264"),
    "audio_only.m4a": "no video stream",
    "audio_with_cover.m4a": "cover",
    "text_named.mp4": "text",
    "truncated_no_moov.mp4": "moov",
    "zero_bytes.mp4": "empty",
}


@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared videos")
@pytest.mark.parametrize("name", ODD)
def test_odd_files(name: str) -> None:
    known = ODD[name]
    if isinstance(known, str):
        with pytest.raises(Corrupt, match=known):
            facts(SHARED / "odd" / name)
        return
    video = facts(SHARED / "odd" / name)
    assert (video.width, video.height, video.rotation, video.codec) == known
    if name == "video_starts_at_2.5s.mp4":
        assert video.audio_lead == pytest.approx(2.5, abs=0.001)
