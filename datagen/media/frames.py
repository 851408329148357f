"""The training frames: pictures at a fixed interval, as JPEG files of one size."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorTrc, Interpolation, VideoReformatter

from datagen.config import FrameOptions
from datagen.media.display import Orientation, displayed_size
from datagen.media.lookahead import due
from datagen.media.plane import pixels_of
from datagen.media.size import frame_size

_SCALING = (
    Interpolation.AREA
    # The same bytes on every processor.
    | Interpolation.ACCURATE_RND
    | Interpolation.BITEXACT
)

_HIGH_RANGE = {ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67}
_STANDARD_RANGE = {"dst_color_trc": ColorTrc.IEC61966_2_1, "dst_color_primaries": ColorPrimaries.BT709}
"""What JPEG files are taken to be: sRGB. Pictures of high dynamic range would look grey and dull in them."""


class FrameWriter:
    """Writes frame k = 1, 2, ... as 000001.jpg, ...: the picture on screen at k * interval seconds."""

    def __init__(self, folder: Path, options: FrameOptions) -> None:
        self.folder = folder
        self.options = options
        self.reformatter = VideoReformatter()
        self.count = 0
        self.shown: VideoFrame | None = None
        self.jpeg: bytes | None = None
        self.size: tuple[int, int] | None = None
        self.orientation = Orientation()

    def show(self, time: float, picture: VideoFrame, aspect: Fraction | None) -> None:
        """From `time` on, `picture` is on screen; its stored pixels are `aspect` times as wide as high."""
        if self.size is None:
            self.orientation = Orientation.of(picture)
            displayed = displayed_size(picture, aspect, self.orientation)
            self.size = frame_size(*displayed, self.options.max_pixels)
        while self.count + 1 < due(time, self.options.interval):
            self._write()
        self.shown, self.jpeg = picture, None

    def finish(self, duration: float) -> None:
        """Write what is still due, the last frame showing the last picture."""
        while self.count < due(duration, self.options.interval):
            self._write()

    def _write(self) -> None:
        if self.jpeg is None:
            self.jpeg = self._encode()
        self.count += 1
        (self.folder / f"{self.count:06d}.jpg").write_bytes(self.jpeg)

    def _encode(self) -> bytes:
        assert self.shown is not None and self.size is not None
        width, height = self.size[::-1] if self.orientation.transposed else self.size
        colours = _STANDARD_RANGE if self.shown.color_trc in _HIGH_RANGE else {}
        # Planes take half as long as interleaved colours, which are rounded worse besides.
        scaled = self.reformatter.reformat(
            self.shown, width, height, "gbrp", interpolation=_SCALING, threads=1, **colours
        )
        green, blue, red = map(pixels_of, scaled.planes)
        upright = self.orientation.apply(np.asarray(cv2.merge([blue, green, red]), np.uint8))
        # Twice as fast as Pillow, which wants red, green and blue, through the same library.
        return cv2.imencode(".jpg", upright, [cv2.IMWRITE_JPEG_QUALITY, self.options.quality])[1].tobytes()


_SWAPS = 10
"""Attempts to put a folder in place while others do the same."""


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder` that takes its place when the block ends well.

    Whenever this is interrupted, `folder` is the old one, the new one or (between two renames) absent,
    never a mixture; also when two processes replace it at once. What a kill leaves behind is hidden.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as waiting:
        fresh = Path(waiting) / "new"
        fresh.mkdir()
        yield fresh
        for attempt in range(_SWAPS):
            try:
                fresh.rename(folder)
                return
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or attempt == _SWAPS - 1:
                    raise
            with suppress(FileNotFoundError):
                folder.rename(Path(waiting) / f"old-{attempt}")
