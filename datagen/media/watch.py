"""One pass over the pictures of a video: shot boundaries, training frames, measures."""

from pathlib import Path

import cv2
import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from datagen.config import FrameOptions, SceneOptions
from datagen.media.decode import Reading, failure, read_pictures
from datagen.media.frames import FrameWriter, replacing
from datagen.media.measure import Measures
from datagen.media.scenes import Scenes
from datagen.records import Location, Watched

_PLANE = 128
"""Longer side, in pixels, of the planes in which cuts are found and measures taken."""

_SCALING = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.BITEXACT


def watch(
    location: Location,
    folder: Location,
    start: float,
    end: float | None,
    scenes: SceneOptions,
    frames: FrameOptions,
) -> Watched:
    """Decode the video at `location` once, from `start` to `end` seconds after its first picture.

    Writes the training frames to `folder` as 000001.jpg, ..., which is replaced as a whole at the
    end. Frame k shows the last picture whose time is at most k * interval. All times returned count
    from `start`. Raises Corrupt where not one picture can be read.
    """
    cv2.setNumThreads(1)
    reading = Reading()
    shrinker = Shrinker()
    boundaries, measures = Scenes(scenes), Measures()
    with replacing(Path(folder.path)) as fresh:
        writer = FrameWriter(fresh, frames)
        try:
            for time, picture in read_pictures(location.path, start, end, reading):
                plane = shrinker.plane(picture)
                boundaries.add(time, plane)
                measures.add(time, plane)
                writer.show(time, picture, reading.aspect)
            count = writer.finish(reading.duration)
        except FFmpegError as error:
            name = Path(location.path).name
            raise failure(name, f"its pictures cannot be converted ({error.strerror})", error) from None
    return Watched(
        duration=reading.duration,
        boundaries=boundaries.finish(),
        measures=measures.finish(reading.duration),
        frame_count=count,
        partial=reading.damage(start, end),
    )


class Shrinker:
    """Makes small planes of blue, green and red of pictures; all of the first one's shape."""

    def __init__(self) -> None:
        self.reformatter = VideoReformatter()
        self.size: tuple[int, int] | None = None

    def plane(self, picture: VideoFrame) -> NDArray[np.uint8]:
        """Rows of pixels, as stored; not turned for display."""
        if self.size is None:
            scale = _PLANE / max(picture.width, picture.height)
            self.size = max(8, round(picture.width * scale)), max(8, round(picture.height * scale))
        width, height = self.size
        small = self.reformatter.reformat(picture, width, height, "bgr24", interpolation=_SCALING, threads=1)
        return np.asarray(small.to_ndarray(), np.uint8)
