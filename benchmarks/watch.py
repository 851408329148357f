"""What watching videos costs, against decoding alone and against the usual two tools one after the other.

    python benchmarks/watch.py VIDEO_OR_FOLDER ... [--rounds 5] [--two-tools]

Every job runs as a process of its own; what counts is the processor time, user and system, of it and
of all that it started. One round runs each job once, one after the other, so that whatever else the
machine does meets all alike; the table gives medians over the rounds. Three jobs a video: `decode`
decodes all pictures in one thread with PyAV; `watch` finds the cuts, measures, and writes an exact
JPEG for every second; `two tools` is the command line of PySceneDetect, then `ffmpeg -vf fps=1`.
Ratios are given of whole processes, and less the start-up (imports) of each, as it is where many
videos run in one process.
"""

import argparse
import math
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

SUFFIXES = {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".ts", ".webm"}

START = {"decode": "import av", "watch": "import datagen.media.watch"}

DECODE = """
import sys, av
with av.open(sys.argv[1]) as container:
    stream = container.streams.video[0]
    stream.codec_context.thread_count = 1
    for frame in container.decode(stream):
        pass
"""

WATCH = """
import sys
from datagen.config import FrameOptions, SceneOptions
from datagen.media.watch import watch
from datagen.records import Location
watch(Location(sys.argv[1]), Location(sys.argv[2]), 0.0, None, SceneOptions(), FrameOptions(interval=1.0))
"""

TWO_TOOLS = """
import pathlib, subprocess, sys, imageio_ffmpeg
run = lambda *command: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
run(sys.executable, "-m", "scenedetect", "-q", "-i", sys.argv[1], "-o", sys.argv[2],
    "detect-content", "list-scenes")
if not list(pathlib.Path(sys.argv[2]).glob("*.csv")):
    sys.exit(3)
run(imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", sys.argv[1], "-vf", "fps=1",
    "-q:v", "2", sys.argv[2] + "/%06d.jpg")
"""


def cost(program: str, *arguments: str) -> tuple[float, float]:
    """Seconds of processor time of a Python program run as a process, and its peak memory in MB.

    Not a number where the program could not do it: PySceneDetect cannot read every codec, and says so
    with exit status 0.
    """
    process = subprocess.Popen([sys.executable, "-c", program, *arguments], stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        return math.nan, math.nan
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def measured(video: Path, jobs: dict[str, str], rounds: int) -> dict[str, tuple[float, float]]:
    """Medians by job."""
    costs: dict[str, list[tuple[float, float]]] = {job: [] for job in jobs}
    for _ in range(rounds):
        for job, program in jobs.items():
            with tempfile.TemporaryDirectory() as folder:
                costs[job].append(cost(program, str(video), folder))
    return {
        job: (statistics.median(cpu for cpu, _ in each), statistics.median(peak for _, peak in each))
        for job, each in costs.items()
    }


def videos_in(paths: list[Path]) -> list[Path]:
    found = []
    for path in paths:
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        found += [each for each in inside if each == path or each.suffix.lower() in SUFFIXES]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--two-tools", action="store_true", help="compare with the two tools as well")
    options = parser.parse_args()
    videos = videos_in(options.paths)
    jobs = {"decode": DECODE, "watch": WATCH} | ({"two tools": TWO_TOOLS} if options.two_tools else {})
    start = {job: statistics.median(cost(program)[0] for _ in range(5)) for job, program in START.items()}
    print(f"start-up: decode {start['decode']:.2f} s, watch {start['watch']:.2f} s; {options.rounds} rounds")
    print(f"{'':32} {'decode':>8} {'watch':>8} {'ratio':>7} {'less start-up':>14} {'watch MB':>9}", end="")
    print(f" {'two tools':>10} {'ratio':>7}" if options.two_tools else "")
    for video in videos:
        result = measured(video, jobs, options.rounds)
        decode, watch = result["decode"][0], result["watch"][0]
        bare = (watch - start["watch"]) / max(decode - start["decode"], 1e-3)
        line = f"{video.name[:32]:32} {decode:8.2f} {watch:8.2f} {watch / decode:7.2f} {bare:14.2f}"
        line += f" {result['watch'][1]:9.0f}"
        if options.two_tools:
            both = result["two tools"][0]
            line += f" {both:10.2f} {both / watch:7.2f}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
