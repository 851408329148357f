"""Pictures of a video as small planes of blue, green and red, fast enough for ten of them a second."""

from functools import cache

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

_LONGER = 128
"""Longer side, in pixels."""

_PAIRED = "nv12"
"""What GPUs give: the two colours of a place side by side, in one plane."""

_READ_AS_THEY_ARE = {"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", _PAIRED}
"""Formats of 8 bits whose brightness and colours lie in planes of their own."""

_QUICKLY = Interpolation.FAST_BILINEAR | Interpolation.ACCURATE_RND | Interpolation.BITEXACT

_FULL_RANGE = 2
"""ffmpeg's number for brightness from 0 to 255 rather than 16 to 235."""

_LUMA = {1: (0.2126, 0.0722), 9: (0.2627, 0.0593), 10: (0.2627, 0.0593)}
_LUMA_ELSE = (0.299, 0.114)
"""Weights of red and blue in brightness, by ffmpeg's number of the space: BT.709, BT.2020; else BT.601."""


class Shrinker:
    """Makes the planes of one video; all are of the shape of the first."""

    def __init__(self) -> None:
        self.reformatter = VideoReformatter()
        self.size: tuple[int, int] | None = None

    def shrink(self, picture: VideoFrame) -> NDArray[np.uint8]:
        """Rows of blue, green and red, as stored, not turned for display; the longer side has 128 pixels.

        Single pixels would flicker enough to look like changes, and all pixels take long to read: it is the
        mean of eight around each place, of two for the colours.
        """
        if self.size is None:
            scale = _LONGER / max(picture.width, picture.height)
            self.size = max(8, round(picture.width * scale)), max(8, round(picture.height * scale))
        twice = self.size[0] * 2, self.size[1] * 2
        known = picture.format.name in _READ_AS_THEY_ARE
        if not known or any(p.line_size < 0 for p in picture.planes):
            picture = self.reformatter.reformat(
                picture, *twice, format="yuv444p", interpolation=_QUICKLY, threads=1
            )
        paired = picture.format.name == _PAIRED
        light, *others = (pixels_of(plane, 1 + n * paired) for n, plane in enumerate(picture.planes))
        light = cv2.resize(cv2.resize(_thin(light, twice), twice), self.size, interpolation=cv2.INTER_AREA)
        colours = [cv2.resize(_thin(plane, self.size), self.size) for plane in others]
        full = picture.format.name.startswith("yuvj") or picture.color_range == _FULL_RANGE
        stacked = cv2.merge([light, *colours])
        return np.asarray(cv2.transform(stacked, _to_colours(picture.colorspace, full)), np.uint8)


def _thin(plane: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Every n-th row, no fewer than the rows of `size`: fetching rows from memory is what takes long."""
    step = max(1, plane.shape[0] // size[1])
    return plane[step // 2 :: step]


def pixels_of(plane: VideoPlane, values: int = 1) -> NDArray[np.uint8]:
    """One plane of a picture of 8 bits, not copied: rows by columns, and by values if a pixel has several."""
    lines = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size // values, values)
    pixels = lines[: plane.height, : plane.width]
    return pixels if values > 1 else pixels[..., 0]


@cache
def _to_colours(space: int, full: bool) -> NDArray[np.float32]:
    """Matrix from brightness, blueness, redness and 1 to blue, green and red (ITU-R BT.601, 709, 2020)."""
    red, blue = _LUMA.get(space, _LUMA_ELSE)
    green = 1 - red - blue
    of_blue, of_red = 2 * (1 - blue), 2 * (1 - red)
    light, colour, black = (1.0, 1.0, 0.0) if full else (255 / 219, 255 / 224, 16.0)
    rows = np.array(
        [
            [light, colour * of_blue, 0.0],
            [light, -colour * of_blue * blue / green, -colour * of_red * red / green],
            [light, 0.0, colour * of_red],
        ]
    )
    return np.column_stack([rows, -rows @ [black, 128.0, 128.0]]).astype(np.float32)
