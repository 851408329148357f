"""Stamps as broken files have them, against the times a viewer would see."""

from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.media.clock import Clock, Stamps

STREAM: Any = SimpleNamespace(time_base=Fraction(1, 1000), average_rate=Fraction(25), guessed_rate=None)


def picture(pts: int | None, dts: int | None = None, duration: int = 0) -> Any:
    return SimpleNamespace(pts=pts, dts=dts, duration=duration)


def shown(stamps: list[int | None], kind: Stamps = "display", duration: int = 0) -> dict[int, float]:
    """Seconds by the number of the picture, of those that are shown."""
    pictures = [picture(stamp, stamp, duration) for stamp in stamps]
    clock = Clock(STREAM, pictures[0], kind)
    given = [pair for one in pictures for pair in clock.times(one)]
    numbers = {id(one): number for number, one in enumerate(pictures)}
    return {numbers[id(one)]: time for time, one in given}


def times(stamps: list[int | None]) -> list[float | None]:
    given = shown(stamps)
    return [given.get(number) for number in range(len(stamps))]


def test_counts_from_the_first_picture() -> None:
    assert times([1400, 1440, 1500]) == [0.0, 0.04, 0.1]
    assert times([-80, -40, 0]) == [0.0, 0.04, 0.08]


def test_missing_stamps_follow_at_the_average_gap() -> None:
    assert times([0, 40, 80, None, None, 200]) == [0.0, 0.04, 0.08, 0.12, 0.16, 0.2]
    assert times([None, None, None]) == [0.0, 0.04, 0.08]


def test_decoding_stamps_stand_in_for_missing_ones() -> None:
    clock = Clock(STREAM, picture(None, 500))
    given = [clock.times(picture(None, dts))[0][0] for dts in (500, 533, 600)]
    assert given == [0.0, 0.033, 0.1]


def test_missing_stamps_follow_when_the_picture_before_says_how_long_it_is_shown() -> None:
    assert list(shown([None, None, None], duration=60).values()) == [0.0, 0.06, 0.12]


def test_stamps_that_begin_late_go_on_from_the_pictures_before() -> None:
    assert times([None, None, None, 7000, 7040]) == [0.0, 0.04, 0.08, 0.12, 0.16]


def test_stamps_of_bare_streams_are_not_believed() -> None:
    assert list(shown([0, 90, 130], "none", duration=40).values()) == [0.0, 0.04, 0.08]


def test_stamps_of_decoding_stand_for_the_order_in_which_pictures_come() -> None:
    clock = Clock(STREAM, picture(40, 80), "decoding")
    pairs = [(40, 80), (80, 120), (160, 160), (120, 200)]
    assert [clock.times(picture(*pair))[0][0] for pair in pairs] == [0.0, 0.04, 0.08, 0.12]


def test_a_late_picture_is_left_out_and_moves_nothing() -> None:
    assert times([0, 40, 80, 8, 120, 160]) == [0.0, 0.04, 0.08, None, 0.12, 0.16]


def test_an_absurd_jump_is_left_out() -> None:
    assert times([0, 40, 10**9, 80, 120]) == [0.0, 0.04, None, 0.08, 0.12]


@pytest.mark.parametrize("second", [0, 10**9])
@pytest.mark.parametrize("gap", [40, 5000])
def test_a_clock_set_anew_goes_on_where_the_first_left_off(second: int, gap: int) -> None:
    first = [5000 + gap * n for n in range(50)]
    joined = times([*first, *(second + gap * n for n in range(50))])
    assert joined == pytest.approx([gap * n / 1000 for n in range(100)])


def test_the_end_trusts_a_sane_duration_only() -> None:
    for duration, end in ((500, 0.58), (0, 0.12), (10**12, 0.12)):
        clock = Clock(STREAM, picture(0))
        for stamp in (0, 40, 80):
            clock.times(picture(stamp, duration=duration if stamp == 80 else 0))
        assert clock.end() == end


def test_pictures_left_out_are_counted() -> None:
    clock = Clock(STREAM, picture(0))
    for stamp in (0, 40, 80, 8, 120, 16):
        clock.times(picture(stamp))
    clock.end()
    assert clock.left_out == 2


@given(st.lists(st.one_of(st.none(), st.integers(-(2**62), 2**62)), min_size=1, max_size=60))
def test_never_goes_back(stamps: list[int | None]) -> None:
    given = list(shown(stamps).values())
    assert given[0] == 0.0
    assert given == sorted(given)
