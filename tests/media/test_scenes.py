import itertools
import json
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.config import SceneOptions
from datagen.media.scenes import Scenes
from datagen.records import Boundary
from tests.media.clips import SHARED, Pixels, seen

DETECTORS = get_args(get_type_hints(SceneOptions)["detector"])


def shot(seed: int) -> Pixels:
    """A picture unlike those of other seeds: large patches of different colours."""
    patches = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), np.uint8)
    return np.kron(patches, np.ones((18, 21, 1), np.uint8))


def find(times: list[float], shots: list[int], options: SceneOptions) -> tuple[Boundary, ...]:
    scenes = Scenes(options)
    chance = np.random.default_rng(0)
    for time, seed in zip(times, shots, strict=True):
        grain = chance.integers(0, 4, (72, 126, 3), np.uint8)
        scenes.add(time, np.minimum(shot(seed), 250) + grain)
    return scenes.finish()


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("rate", [30000 / 1001, 8.0])
def test_every_detector_finds_plain_cuts_to_the_picture(detector: str, rate: float) -> None:
    times = [n / rate for n in range(160)]
    shots = [n // 40 for n in range(160)]
    found = find(times, shots, SceneOptions(detector=detector))  # type: ignore[arg-type]
    assert [boundary.start for boundary in found] == [times[40], times[80], times[120]]
    assert all(b.end == b.start and b.kind == "cut" and 0.05 < b.score < 1 for b in found)


def test_a_threshold_changes_what_is_found() -> None:
    times = [n / 10 for n in range(60)]
    shots = [n // 30 for n in range(60)]
    assert find(times, shots, SceneOptions(threshold=255.0)) == ()
    assert len(find(times, shots, SceneOptions(threshold=5.0))) == 1


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("rate", [5.0, 24.0, 60.0])
def test_the_shortest_shot_is_in_seconds_whatever_the_rate(detector: str, rate: float) -> None:
    times = [n / rate for n in range(round(rate * 12))]
    shots = [int(time / 0.8) for time in times]
    near = find(times, shots, SceneOptions(detector=detector, min_seconds=0.5))  # type: ignore[arg-type]
    far = find(times, shots, SceneOptions(detector=detector, min_seconds=2.0))  # type: ignore[arg-type]
    assert len(near) >= 11
    assert len(far) <= 6


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0.01, 0.5), min_size=5, max_size=60), st.sampled_from(DETECTORS), st.data())
def test_boundaries_keep_their_distance(gaps: list[float], detector: str, data: st.DataObject) -> None:
    times = [0.0, *np.cumsum(gaps).tolist()]
    shots = data.draw(st.lists(st.integers(0, 3), min_size=len(times), max_size=len(times)))
    found = [b.start for b in find(times, shots, SceneOptions(detector=detector))]  # type: ignore[arg-type]
    assert set(found) <= set(times[1:])
    assert all(later - earlier >= 0.5 - 1e-5 for earlier, later in itertools.pairwise(found))


def _score(name: str, folder: Path, detector: str) -> tuple[int, int, int]:
    """Boundaries found, found wrongly, and missed, at half a second."""
    known = json.loads((SHARED / f"{name}.cuts.json").read_text())
    options = SceneOptions(detector=detector)  # type: ignore[arg-type]
    left = [b.start for b in seen(SHARED / name, folder, scenes=options).boundaries]
    hits = 0
    for true in known["boundaries"]:
        near = [time for time in left if true["start_s"] - 0.5 <= time <= true["end_s"] + 0.5]
        if near:
            left.remove(near[0])
            hits += 1
    ignored = known.get("ignore", [])
    wrong = [t for t in left if not any(i["start_s"] - 0.5 <= t <= i["end_s"] + 0.5 for i in ignored)]
    return hits, len(wrong), len(known["boundaries"]) - hits


@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared videos")
@pytest.mark.parametrize("name", ["dev_slides_2fps.mp4", "dev_tos_battle.webm"])
def test_known_cuts_are_found(tmp_path: Path, name: str) -> None:
    hits, wrong, missed = _score(name, tmp_path / "out", "content")
    assert 2 * hits / (2 * hits + wrong + missed) > 0.94


@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared videos")
@pytest.mark.parametrize("name", ["dev_bike_ego.webm", "dev_walk_ego.mp4"])
def test_nothing_is_found_where_there_is_no_cut(tmp_path: Path, name: str) -> None:
    assert _score(name, tmp_path / "out", "content") == (0, 0, 0)


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared videos")
@pytest.mark.parametrize("detector", ["content", "adaptive"])
def test_the_long_mix(tmp_path: Path, detector: str) -> None:
    hits, wrong, missed = _score("dev_mix.mp4", tmp_path / "out", detector)
    assert 2 * hits / (2 * hits + wrong + missed) > 0.85
