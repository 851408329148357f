"""A minute of one video in each kind watching is judged by: python benchmarks/watch_clips.py VIDEO FOLDER

Needs the extra `benchmarks`: ffmpeg-python builds the commands, imageio-ffmpeg has the program.
"""

import sys
from pathlib import Path

import ffmpeg
import imageio_ffmpeg

_X264 = {"vcodec": "libx264", "preset": "veryfast", "crf": 23}
_REALTIME = {"deadline": "realtime", "cpu-used": 8, "b:v": "2500k"}

KINDS = {
    "h264-b.mp4": {**_X264, "bf": 3},
    "h264-no-b.mp4": {**_X264, "bf": 0},
    "vp8.webm": {"vcodec": "libvpx", **_REALTIME},
    "vp9.webm": {"vcodec": "libvpx-vp9", **_REALTIME},
    "av1.mkv": {"vcodec": "libsvtav1", "preset": 11, "crf": 38},
}


def make_clips(video: Path, folder: Path, seconds: float = 60.0) -> list[Path]:
    """The start of a video at 720p, once for every kind; those already there are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    made = [folder / name for name in KINDS]
    for clip in made:
        if clip.exists():
            continue
        part = clip.with_stem("part")
        pictures = ffmpeg.input(str(video), t=seconds).video.filter("scale", -2, 720)
        command = pictures.output(str(part), pix_fmt="yuv420p", **KINDS[clip.name])
        command.global_args("-loglevel", "error").run(
            cmd=imageio_ffmpeg.get_ffmpeg_exe(), overwrite_output=True
        )
        part.rename(clip)
    return made


if __name__ == "__main__":
    for path in make_clips(Path(sys.argv[1]), Path(sys.argv[2])):
        print(path)
