"""What watching videos costs, against decoding alone and against the usual two tools one after the other.

    python benchmarks/watch.py VIDEO_OR_FOLDER ... [--rounds 5] [--two-tools] [--profile]

Every job runs as a process of its own, in the environment of a build's workers; what counts is the
processor time, user and system, of it and of all that it started. One round runs each job once, one
after the other, so that whatever else the machine does meets all alike; the table gives medians over
the rounds, of ratios too. Jobs: `decode` decodes all pictures in one thread with PyAV; `watch` finds
the cuts, measures, and writes an exact JPEG for every second; `no frames` is that without the JPEGs;
`two tools` is the command line of PySceneDetect, then `ffmpeg -vf fps=1`. Ratios to `decode` are given
of whole processes, and less the start-up (imports) of each, as it is where many videos run in one
process; `no frames` of the latter kind. The last column is `two tools` over `watch`; the last line
gives the same of the time on the clock that all videos both can read take, each twice, as many at once
as there are processors. watch_clips.py makes a minute of 720p in each kind.
"""

import argparse
import cProfile
import itertools
import math
import os
import pstats
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av

from datagen.config import FrameOptions, SceneOptions
from datagen.media.watch import watch
from datagen.records import Location
from datagen.sandbox import ONE_THREAD

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

NO_FRAMES = WATCH.replace("(interval=1.0))", "(interval=1.0), False)")

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
    command = [sys.executable, "-c", program, *arguments]
    process = subprocess.Popen(command, env=os.environ | ONE_THREAD, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        return math.nan, math.nan
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def measured(video: Path, jobs: dict[str, str], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Costs by job, one for each round."""
    costs: dict[str, list[tuple[float, float]]] = {job: [] for job in jobs}
    for _ in range(rounds):
        for job, program in jobs.items():
            with tempfile.TemporaryDirectory() as folder:
                costs[job].append(cost(program, str(video), folder))
    return costs


def clock_time(program: str, videos: list[Path]) -> float:
    """Seconds until a program has gone through all videos, as many at once as there are processors."""

    def go_through(video: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            cost(program, str(video), folder)

    began = time.perf_counter()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(go_through, videos))
    return time.perf_counter() - began


def ratio(above: list[float], below: list[float]) -> float:
    """Median of the ratios within each round: what slows a machine down slows both."""
    return statistics.median(a / max(b, 1e-3) for a, b in zip(above, below, strict=True))


def kind(video: Path) -> str:
    """Codec, whether it has B pictures, and size: what decoding costs."""
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        codec = stream.codec_context
        seen = itertools.islice((p for p in container.demux(stream) if p.pts is not None), 100)
        reordered = any(b.pts < a.pts for a, b in itertools.pairwise(seen))
        return f"{codec.codec.canonical_name}{' with B' if reordered else ''} {codec.width}x{codec.height}"


def videos_in(paths: list[Path]) -> list[Path]:
    found = []
    for path in paths:
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        found += [each for each in inside if each == path or each.suffix.lower() in SUFFIXES]
    return found


def profile(video: Path) -> None:
    """Print where the time of watching one video goes, the start-up left out."""
    with tempfile.TemporaryDirectory() as folder:
        place, frames, options = Location(str(video)), Location(f"{folder}/f"), FrameOptions(interval=1.0)
        with cProfile.Profile() as profiler:
            watch(place, frames, 0.0, None, SceneOptions(), options)
    pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


def table(videos: list[Path], rounds: int, two_tools: bool) -> None:
    jobs = {"decode": DECODE, "watch": WATCH, "no frames": NO_FRAMES}
    jobs |= {"two tools": TWO_TOOLS} if two_tools else {}
    start = {job: statistics.median(cost(program)[0] for _ in range(5)) for job, program in START.items()}
    print(f"start-up: decode {start['decode']:.2f} s, watch {start['watch']:.2f} s; {rounds} rounds")
    heads = ["decode", "watch", "ratio", "less start", "no frames", "MB"] + ["two tools"] * two_tools
    print(f"{'':24} {'':26}", *(f"{head:>10}" for head in heads))
    able: list[Path] = []
    for video in videos:
        result = measured(video, jobs, rounds)
        cpu = {job: [seconds for seconds, _ in each] for job, each in result.items()}
        bare = {job: [each - start[job] for each in cpu[job]] for job in ("decode", "watch")}
        bare["no frames"] = [each - start["watch"] for each in cpu["no frames"]]
        figures = [
            statistics.median(cpu["decode"]),
            statistics.median(cpu["watch"]),
            ratio(cpu["watch"], cpu["decode"]),
            ratio(bare["watch"], bare["decode"]),
            ratio(bare["no frames"], bare["decode"]),
            statistics.median(peak for _, peak in result["watch"]),
        ]
        if two_tools:
            figures.append(ratio(cpu["two tools"], cpu["watch"]))
            able += [] if math.isnan(figures[-1]) else [video, video]
        print(
            f"{video.name[:24]:24} {kind(video)[:26]:26}", *(f"{each:10.2f}" for each in figures), flush=True
        )
    if two_tools:
        waits = [[clock_time(program, able) for program in (TWO_TOOLS, WATCH)] for _ in range(rounds)]
        print(f"time on the clock, two tools over watch: {statistics.median(a / b for a, b in waits):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--two-tools", action="store_true", help="compare with the two tools as well")
    parser.add_argument("--profile", action="store_true", help="print where the time of each video goes")
    options = parser.parse_args()
    videos = videos_in(options.paths)
    if options.profile:
        for video in videos:
            profile(video)
    else:
        table(videos, options.rounds, options.two_tools)


if __name__ == "__main__":
    main()
