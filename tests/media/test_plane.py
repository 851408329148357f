"""Small planes show the colours of the picture, whatever its format."""

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace

from datagen.media.plane import Shrinker

COLOURS = [(30, 30, 30), (220, 40, 40), (40, 200, 60), (50, 60, 210), (230, 220, 50), (225, 225, 225)]
"""Red, green and blue of six upright stripes."""


def striped(width: int, height: int) -> av.VideoFrame:
    chart = np.zeros((height, width, 3), np.uint8)
    for number, colour in enumerate(COLOURS):
        chart[:, number * width // 6 : (number + 1) * width // 6] = colour
    return av.VideoFrame.from_ndarray(chart, "rgb24")


def shown(plane: np.ndarray) -> list[tuple[int, ...]]:
    """Red, green and blue in the middle of each stripe."""
    places = [(2 * n + 1) * plane.shape[1] // 12 for n in range(6)]
    return [tuple(int(level) for level in plane[plane.shape[0] // 2, at, ::-1]) for at in places]


@pytest.mark.parametrize("size", [(1280, 720), (426, 240), (721, 1281), (90, 50)])
@pytest.mark.parametrize(
    "layout", ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuv420p10le", "nv12", "rgb24"]
)
@pytest.mark.parametrize("space", [Colorspace.ITU601, Colorspace.ITU709])
def test_colours(size: tuple[int, int], layout: str, space: Colorspace) -> None:
    chart = striped(*size)
    picture = chart.reformat(format=layout, dst_colorspace=space) if layout != "rgb24" else chart
    if layout != "rgb24":
        picture.colorspace = int(space)
    plane = Shrinker().shrink(picture)
    assert max(plane.shape[:2]) == 128 and abs(plane.shape[0] / plane.shape[1] - size[1] / size[0]) < 0.02
    for found, wanted in zip(shown(plane), COLOURS, strict=True):
        assert np.allclose(found, wanted, atol=8)


def test_full_range_is_read_as_such() -> None:
    picture = striped(640, 360).reformat(format="yuv420p", dst_color_range=ColorRange.JPEG)
    picture.color_range = ColorRange.JPEG
    for found, wanted in zip(shown(Shrinker().shrink(picture)), COLOURS, strict=True):
        assert np.allclose(found, wanted, atol=8)


def test_grey_and_what_changes_its_size() -> None:
    shrinker = Shrinker()
    first = shrinker.shrink(striped(640, 360).reformat(format="gray"))
    assert np.ptp(first, axis=2).max() <= 2
    later = shrinker.shrink(striped(426, 240).reformat(format="yuv420p"))
    assert later.shape == first.shape
