"""How a stored picture is shown: turned by its display matrix, its pixels made square."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from numpy.typing import NDArray


class Orientation(NamedTuple):
    """How stored pictures are turned for display: first transposed, then mirrored."""

    transposed: bool = False
    mirrored: bool = False
    """Left and right exchanged."""
    flipped: bool = False
    """Top and bottom exchanged."""

    @staticmethod
    def of(picture: VideoFrame) -> "Orientation":
        """From the picture's display matrix: x' = ax + cy and y' = bx + dy (ISO/IEC 14496-12, 6.2.2)."""
        sides: Mapping[Any, Any] = picture.side_data
        data = sides.get(Type.DISPLAYMATRIX)
        if data is None:
            return Orientation()
        a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
        if abs(b) > abs(a):
            return Orientation(True, c < 0, b < 0)
        return Orientation(False, a < 0, d < 0)

    @property
    def rotation(self) -> int:
        """Degrees clockwise: 0, 90, 180 or 270 (of what is turned and mirrored, the turn)."""
        if self.transposed:
            return 90 if self.mirrored else 270
        return 180 if self.flipped else 0

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The picture as displayed."""
        if self.transposed:
            pixels = pixels.swapaxes(0, 1)
        if self.mirrored:
            pixels = pixels[:, ::-1]
        if self.flipped:
            pixels = pixels[::-1]
        return np.ascontiguousarray(pixels)


def displayed_size(picture: VideoFrame, aspect: Fraction | None, orientation: Orientation) -> tuple[int, int]:
    """Width and height in square pixels, the right way up; `aspect` is that of one stored pixel."""
    stretch = float(aspect) if aspect and Fraction(1, 10) <= aspect <= 10 else 1.0
    width, height = max(1, round(picture.width * stretch)), picture.height
    return (height, width) if orientation.transposed else (width, height)
