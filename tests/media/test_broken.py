"""Files damaged at random: each is watched or refused with a reason, in good time, whatever is in it."""

import json
import random
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from tests.media.clips import counter, ffmpeg

pytestmark = pytest.mark.slow

TIMES = [Fraction(n, 25) for n in range(40)]
KINDS: dict[str, tuple[object, ...]] = {
    "h264.mp4": ("-c", "copy"),
    "pieces.mp4": ("-c", "copy", "-movflags", "frag_keyframe+empty_moov"),
    "h264.mkv": ("-c", "copy"),
    "h264.ts": ("-c", "copy"),
    "h264.flv": ("-c", "copy"),
    "bare.h264": ("-c", "copy"),
    "mpeg2.mpg": ("-c:v", "mpeg2video", "-bf", 2),
    "mpeg4.avi": ("-c:v", "mpeg4", "-bf", 2),
    "wmv2.wmv": ("-c:v", "wmv2"),
    "vp8.webm": ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", 8),
    "mjpeg.mov": ("-c:v", "mjpeg"),
    "pictures.gif": (),
    "lossless.mkv": ("-c:v", "ffv1"),
}
EACH = 16

WATCH = """
import json, pathlib, sys, time
from datagen.config import FrameOptions, SceneOptions
from datagen.errors import Failure
from datagen.media.probe import probe
from datagen.media.watch import watch
from datagen.records import Entry, Location

folder = pathlib.Path(sys.argv[1])
for path in sorted((folder / "broken").iterdir()):
    place, began = Location(str(path)), time.process_time()
    try:
        probe(place, Entry(path=str(path), name=path.name, size=0, mtime_ns=0))
        out, options = Location(str(folder / "out")), FrameOptions(interval=0.5)
        watched = watch(place, out, 0.0, None, SceneOptions(), options)
        files = len(list((folder / "out").glob("*.jpg")))
        told = ["watched", watched.duration, watched.frame_count, files]
    except Failure as failure:
        told = ["refused", str(failure)]
    print(json.dumps([path.name, time.process_time() - began, *told]), flush=True)
"""


def _broken(content: bytes, chance: random.Random) -> bytes:
    data, size = bytearray(content), len(content)
    place = chance.randrange(size)
    match chance.randrange(5):
        case 0:
            for _ in range(max(1, size // 20_000)):
                data[chance.randrange(size)] ^= 1 << chance.randrange(8)
        case 1:
            data[place : place + size // 20] = bytes(len(data[place : place + size // 20]))
        case 2:
            del data[place : place + size // 20]
        case 3:
            del data[place:]
        case 4:
            for _ in range(3):
                data[chance.randrange(min(size, 2000))] = chance.randrange(256)
    return bytes(data)


def test_whatever_is_broken_is_watched_or_refused(tmp_path: Path) -> None:
    clip = counter(tmp_path / "clip.mp4", TIMES, options={"g": "15", "preset": "veryfast"})
    chance = random.Random(7)
    (tmp_path / "broken").mkdir()
    for name, coding in KINDS.items():
        ffmpeg("-i", clip, *coding, tmp_path / name)
        whole = (tmp_path / name).read_bytes()
        for number in range(EACH):
            (tmp_path / "broken" / f"{number:02d}-{name}").write_bytes(_broken(whole, chance))
    command = [sys.executable, "-c", WATCH, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-1000:]
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(told) == len(KINDS) * EACH
    for name, seconds, outcome, *rest in told:
        assert seconds < 10, name
        if outcome == "watched":
            duration, count, files = rest
            assert duration > 0 and count == files, name
        else:
            assert rest[0].startswith(name) and len(rest[0]) > len(name) + 5, rest
    assert sum(outcome == "watched" for _, _, outcome, *_ in told) > len(told) / 2
