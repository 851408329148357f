"""Stamps as broken files have them, against the times a viewer would see."""

from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.media.clock import Clock

STREAM: Any = SimpleNamespace(time_base=Fraction(1, 1000), average_rate=Fraction(25), guessed_rate=None)


def picture(pts: int | None, dts: int | None = None, duration: int = 0) -> Any:
    return SimpleNamespace(pts=pts, dts=dts, duration=duration)


def times(stamps: list[int | None]) -> list[float | None]:
    clock = Clock(STREAM, picture(stamps[0]))
    return [clock.time(picture(stamp)) for stamp in stamps]


def test_counts_from_the_first_picture() -> None:
    assert times([1400, 1440, 1500]) == [0.0, 0.04, 0.1]
    assert times([-80, -40, 0]) == [0.0, 0.04, 0.08]


def test_missing_stamps_follow_at_the_average_gap() -> None:
    assert times([0, 40, 80, None, None, 200]) == [0.0, 0.04, 0.08, 0.12, 0.16, 0.2]
    assert times([None, None, None]) == [0.0, 0.04, 0.08]


def test_decoding_stamps_stand_in_for_missing_ones() -> None:
    clock = Clock(STREAM, picture(None, 500))
    assert [clock.time(picture(None, dts)) for dts in (500, 533, 600)] == [0.0, 0.033, 0.1]


def test_a_late_picture_is_left_out_and_moves_nothing() -> None:
    assert times([0, 40, 80, 8, 120, 160]) == [0.0, 0.04, 0.08, None, 0.12, 0.16]


def test_an_absurd_jump_is_left_out() -> None:
    assert times([0, 40, 10**9, 80, 120]) == [0.0, 0.04, None, 0.08, 0.12]


@pytest.mark.parametrize("second", [0, 10**9])
def test_a_clock_set_anew_goes_on_where_the_first_left_off(second: int) -> None:
    first = [5000 + 40 * n for n in range(50)]
    joined = times([*first, *(second + 40 * n for n in range(50))])
    assert joined[:50] == [0.04 * n for n in range(50)] or joined[49] == pytest.approx(1.96)
    assert joined[-1] == pytest.approx(99 * 0.04)
    assert sum(time is None for time in joined) <= 7


def test_the_end_trusts_a_sane_duration_only() -> None:
    clock = Clock(STREAM, picture(0))
    for stamp in (0, 40, 80):
        clock.time(picture(stamp))
    assert clock.end(picture(80, duration=500)) == 0.58
    assert clock.end(picture(80)) == 0.12
    assert clock.end(picture(80, duration=10**12)) == 0.12


@given(st.lists(st.one_of(st.none(), st.integers(-(2**62), 2**62)), min_size=1, max_size=60))
def test_never_goes_back(stamps: list[int | None]) -> None:
    shown = [time for time in times(stamps) if time is not None]
    assert shown[0] == 0.0
    assert shown == sorted(shown)
