"""Whole builds against an endpoint that keeps accounts: what faults cost. See benchmarks.faults."""

import asyncio
import os
from pathlib import Path

import pytest

from benchmarks.faults import is_good, try_faults
from benchmarks.model_builds import make_videos

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults")
    make_videos(folder / "videos", 14)
    return folder


MOUNTS = ["read-only"] if os.geteuid() == 0 else []


@pytest.mark.parametrize(
    "faults",
    [
        ["torn", "full", *MOUNTS, "clock", "sigterm", "turn"],
        ["stopped"],
        ["driver-ray", "raylet-ray", "gcs-ray"],
    ],
    ids=["one process", "stopped", "Ray"],
)
def test_nothing_is_lost_paid_twice_left_behind_or_changed(place, faults):
    row = asyncio.run(try_faults(faults, place / "videos", place))
    assert is_good(row), row
