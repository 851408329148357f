import colorsys
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.media.measure import COLOURS, Measures
from datagen.records import Measure
from tests.media.clips import Pixels


def plane(red: int, green: int, blue: int) -> Pixels:
    return np.full((72, 128, 3), (blue, green, red), np.uint8)


def measure(pictures: list[tuple[float, Pixels]], duration: float) -> tuple[Measure, ...]:
    measures = Measures()
    for time, picture in pictures:
        measures.add(time, picture)
    return measures.finish(duration)


@pytest.mark.parametrize(
    ("name", "colours"),
    [
        ("red", [(255, 0, 0), (200, 30, 30), (139, 0, 0), (220, 20, 60)]),
        ("orange", [(255, 165, 0), (255, 120, 10)]),
        ("yellow", [(255, 255, 0), (240, 220, 60), (255, 215, 0)]),
        ("green", [(0, 128, 0), (0, 255, 0), (85, 107, 47), (144, 238, 144)]),
        ("cyan", [(0, 255, 255), (0, 128, 128), (64, 224, 208)]),
        ("blue", [(0, 0, 255), (0, 0, 128), (135, 206, 235), (65, 105, 225)]),
        ("purple", [(128, 0, 128), (148, 0, 211), (138, 43, 226)]),
        ("pink", [(255, 192, 203), (255, 105, 180), (255, 20, 147)]),
        ("brown", [(139, 69, 19), (101, 67, 33), (160, 82, 45)]),
        ("black", [(0, 0, 0), (36, 38, 36), (20, 10, 10)]),
        ("grey", [(128, 128, 128), (70, 72, 75), (180, 180, 175)]),
        ("white", [(255, 255, 255), (240, 240, 235)]),
    ],
)
def test_colours_have_the_names_people_give_them(name: str, colours: list[tuple[int, int, int]]) -> None:
    for colour in colours:
        (found,) = measure([(0.0, plane(*colour))], 0.5)
        assert (found.colour, found.colour_share) == (name, 1.0), colour


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(0.7, 1), st.floats(0.5, 1))
def test_vivid_colours_are_never_grey(hue: float, saturation: float, value: float) -> None:
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, saturation, value))
    (found,) = measure([(0.0, plane(red, green, blue))], 0.5)
    assert found.colour not in ("black", "grey", "white")
    assert found.saturation == pytest.approx((max(red, green, blue) - min(red, green, blue)) / 255, abs=1e-4)


@settings(deadline=None)
@given(st.integers(0, 255))
def test_greys_are_never_colourful(level: int) -> None:
    (found,) = measure([(0.0, plane(level, level, level))], 0.5)
    assert found.colour in ("black", "grey", "white")
    assert (found.light, found.saturation, found.motion) == (pytest.approx(level / 255, abs=1e-4), 0, 0)


def test_the_commonest_colour_and_its_share() -> None:
    picture = plane(220, 20, 20)
    picture[:, 96:] = (200, 40, 20)
    (found,) = measure([(0.0, picture)], 0.5)
    assert (found.colour, found.colour_share) == ("red", 0.75)


def test_motion_is_the_mean_change_of_brightness() -> None:
    pictures = [(n / 4, plane(51 * (n % 2), 51 * (n % 2), 51 * (n % 2))) for n in range(5)]
    moving, *_ = measure(pictures, 1.25)
    assert moving.motion == pytest.approx(0.2, abs=1e-4)
    still, *_ = measure([(n / 4, plane(90, 10, 10)) for n in range(5)], 1.25)
    assert still.motion == 0


def test_a_cut_is_no_motion() -> None:
    pictures = [
        (n / 4, plane(20 + n, 20 + n, 20 + n) if n < 2 else plane(200 + n, 200 + n, 200 + n))
        for n in range(4)
    ]
    (found,) = measure(pictures, 1)
    assert found.motion == pytest.approx(1 / 255, abs=1e-4)


@settings(deadline=None)
@given(st.lists(st.floats(0.005, 5), max_size=80), st.floats(0.01, 3))
def test_stretches_cover_the_video_without_gap(gaps: list[float], last: float) -> None:
    times = [0.0, *itertools.accumulate(gaps)]
    found = measure([(time, plane(9, 9, 9)) for time in times], times[-1] + last)
    assert found[0].start == 0 and found[-1].end == times[-1] + last
    assert all(a.end == b.start for a, b in itertools.pairwise(found))
    assert all(m.end - m.start >= 1 - 1e-5 for m in found[:-1])
    assert all(m.colour in COLOURS for m in found)
