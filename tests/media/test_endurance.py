"""What must not grow: memory with the length of a video, memory and descriptors with the number of videos."""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.media.clips import counter

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc"),
]

WATCH = """
import pathlib, resource, sys, tempfile
from datagen.config import FrameOptions, SceneOptions
from datagen.media.watch import watch
from datagen.records import Location

def held():
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20, len(list(pathlib.Path("/proc/self/fd").iterdir()))

video, times = sys.argv[1], int(sys.argv[2])
with tempfile.TemporaryDirectory() as folder:
    for number in range(times):
        watch(Location(video), Location(folder + "/frames"), 0.0, None, SceneOptions(), FrameOptions())
        if number in (times // 5, times - 1):
            print(*held())
# Not ru_maxrss: that begins with what the process had that started this one.
status = pathlib.Path("/proc/self/status").read_text()
print(int(status.partition("VmHWM:")[2].split()[0]) / 1024)
"""


def run(video: Path, times: int) -> list[list[float]]:
    """Megabytes and descriptors after a fifth of the watchings and after all; peak megabytes."""
    done = subprocess.run(
        [sys.executable, "-c", WATCH, str(video), str(times)], check=True, capture_output=True, text=True
    )
    return [[float(word) for word in line.split()] for line in done.stdout.splitlines()]


def test_a_thousand_videos_leave_nothing_behind(tmp_path: Path) -> None:
    times = [Fraction(n, 10) for n in range(20)]
    early, late, _ = run(counter(tmp_path / "tiny.mp4", times), 1000)
    assert late[0] < early[0] + 8
    assert late[1] <= early[1]


def _long(path: Path, minutes: int) -> Path:
    """1080p at a picture a second: a minute is coded, and its packets are written again and again."""
    rate, size = 1, (1920, 1080)
    noise = np.random.default_rng(0).integers(0, 256, (1080 // 8, 1920 // 8, 3), np.uint8)
    with av.open(str(path), "w") as container:
        options = {"preset": "ultrafast", "crf": "35", "bf": "2", "x264-params": "keyint=30:threads=1"}
        stream = container.add_stream("libx264", rate=rate, options=options)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        packets = []
        for number in range(60 * rate):
            picture = np.kron(np.roll(noise, number // 20 * 7, axis=1), np.ones((8, 8, 1), np.uint8))
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, rate)
            packets += stream.encode(frame)
        packets += stream.encode(None)
        stamps = [(packet.pts, packet.dts) for packet in packets]
        base = packets[0].time_base
        minute = round(60 / base)
        for n in range(minutes):
            for packet, (pts, dts) in zip(packets, stamps, strict=True):
                packet.pts, packet.dts, packet.time_base = pts + n * minute, dts + n * minute, base
                packet.stream = stream
                container.mux(packet)
    return path


def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    ten, hour = (run(_long(tmp_path / f"{n}.mp4", n), 1)[-1][0] for n in (10, 60))
    assert hour < 400
    assert hour < ten + 16
