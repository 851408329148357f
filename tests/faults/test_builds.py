"""Whole builds against an endpoint that keeps accounts: what a fault costs. See benchmarks.faults."""

import asyncio
import os
from pathlib import Path

import pytest

from benchmarks.faults import FAULTS, is_good, try_fault
from benchmarks.model_builds import make_videos

pytestmark = pytest.mark.slow

MANY = {"driver": 4, "torn": 2}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults")
    make_videos(folder / "videos", 10)
    return folder


@pytest.mark.parametrize("fault", [name for name in FAULTS if not name.endswith("-ray")] + ["driver-ray"])
def test_nothing_is_lost_paid_twice_left_behind_or_changed(place, fault):
    if fault == "read-only" and os.geteuid():
        pytest.skip("mounting needs root")
    row = asyncio.run(try_fault(fault, MANY.get(fault, 1), place / "videos", place))
    assert is_good(row), row
