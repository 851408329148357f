"""One pass over the pictures of a video: shot boundaries, training frames, measures."""

import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from datagen.config import FrameOptions, SceneOptions
from datagen.errors import Corrupt, OutOfMemory
from datagen.media.clock import EPSILON
from datagen.media.decode import failure, read_pictures
from datagen.media.frames import FrameWriter, replacing
from datagen.media.gpu import accelerator
from datagen.media.lookahead import Unsure, due
from datagen.media.measure import Measures
from datagen.media.plane import Shrinker
from datagen.media.probe import check_unchanged
from datagen.media.reading import Reading
from datagen.media.scenes import Scenes
from datagen.records import Location, Watched
from datagen.remote import fetched

_RATE = 10
"""Pictures looked at a second."""

_TOGETHER = 16
"""Small planes judged at a time: between one picture and the next the decoder empties the caches."""

_HELD = 4
"""Pictures kept in case the next one looked at shows that something happened between."""

_CHANGE = 10.0
"""Mean change of the colours, 0 to 255, from one picture looked at to the next that makes this likely ..."""

_BEFORE = 2
"""... if it is no less than each of so many changes before it: amid motion a cut is the largest."""


def watch(
    location: Location,
    folder: Location,
    start: float,
    end: float | None,
    scenes: SceneOptions,
    frames: FrameOptions,
    writes_frames: bool = True,
    gpu: bool = False,
) -> Watched:
    """Decode the video at `location` once, from `start` to `end` seconds after its first picture.

    Writes the training frames to `folder` as 000001.jpg, ..., which is replaced as a whole at the
    end. Frame k shows the last picture whose time is at most k * interval. Without `writes_frames`
    they are only counted, and what is decoded for them alone is not, so that cuts may be timed a picture
    off; `folder` is made, and kept if there. With `gpu` an NVIDIA GPU decodes, if there is one and it finds
    nothing wrong, codecs whose pictures are laid down to the bit, so that they are the same.
    All times returned count from `start`. Raises Corrupt where not one picture can be
    read, or the file has been changed, and as `fetched` does.
    """
    cv2.setNumThreads(1)
    location = fetched(location)
    attempt = partial(_watch, location, folder, start, end, scenes, frames, writes_frames)
    watched = _on_gpu(attempt) if gpu and accelerator() else None
    if watched is None:
        try:
            watched = attempt(sparing=True)
        except Unsure:
            watched = attempt(sparing=False)
    check_unchanged(location)
    return watched


def _on_gpu(attempt: Callable[..., Watched]) -> Watched | None:
    """What a GPU makes of it; None where that is not to be relied upon: the fault may be the GPU's."""
    try:
        watched = attempt(sparing=True, gpu=True)
    except (Unsure, Corrupt, OutOfMemory):
        return None
    return None if watched.partial else watched


def _watch(
    location: Location,
    folder: Location,
    start: float,
    end: float | None,
    scenes: SceneOptions,
    frames: FrameOptions,
    writes_frames: bool,
    sparing: bool,
    gpu: bool = False,
) -> Watched:
    reading = Reading()
    sampler = Sampler()
    boundaries, measures = Scenes(scenes), Measures()
    looked: list[tuple[float, NDArray[np.uint8]]] = []

    def look() -> None:
        for moment, plane in looked:
            boundaries.add(moment, plane)
            measures.add(moment, plane)
        looked.clear()

    if not writes_frames:
        Path(folder.path).mkdir(parents=True, exist_ok=True)
    with replacing(Path(folder.path)) if writes_frames else nullcontext() as fresh:
        writer = FrameWriter(fresh, frames) if fresh else None
        interval = (frames.interval if writer else math.inf) if sparing else None
        try:
            for time, picture in read_pictures(location.path, start, end, reading, interval, gpu):
                if writer:
                    writer.show(time, picture, reading.aspect)
                looked.extend(sampler.planes(time, picture))
                if len(looked) >= _TOGETHER:
                    look()
            look()
            if writer:
                writer.finish(reading.duration)
        except FFmpegError as error:
            name = Path(location.path).name
            raise failure(name, f"its pictures cannot be converted ({error.strerror})", error) from None
    return Watched(
        duration=reading.duration,
        boundaries=boundaries.finish(),
        measures=measures.finish(reading.duration),
        frame_count=due(reading.duration, frames.interval),
        partial=reading.damage(start, end),
    )


class Sampler:
    """Makes small planes of about _RATE pictures a second, and of those between where much changes."""

    def __init__(self) -> None:
        self.shrink = Shrinker().shrink
        self.slot = -1
        self.passed: deque[tuple[float, VideoFrame]] = deque(maxlen=_HELD)
        self.plane: NDArray[np.uint8] | None = None
        self.changes: deque[float] = deque([_CHANGE], maxlen=_BEFORE)

    def planes(self, time: float, picture: VideoFrame) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        """Times and planes to look at now that the picture at `time` is there, in order."""
        slot = math.floor(time * _RATE + EPSILON)
        if slot == self.slot:
            self.passed.append((time, picture))
            return
        plane = self.shrink(picture)
        if self.plane is not None:
            change = cv2.norm(plane, self.plane, cv2.NORM_L1) / plane.size
            if change >= max(_CHANGE, *self.changes):
                for moment, between in self.passed:
                    yield moment, self.shrink(between)
            self.changes.append(change)
        yield time, plane
        self.passed.clear()
        self.slot, self.plane = slot, plane
