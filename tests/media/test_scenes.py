import itertools
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import get_args, get_type_hints

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.config import SceneOptions
from datagen.media.scenes import Scenes
from datagen.media.small import Small, moves, returns
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


@pytest.mark.parametrize("detector, threshold", [("content", 20.0), ("adaptive", 2.0)])
def test_the_users_threshold_finds_cuts_among_few_pictures(detector: str, threshold: float) -> None:
    times = [n / 2 for n in range(40)]
    found = find(times, [n // 10 for n in range(40)], SceneOptions(detector, threshold))  # type: ignore[arg-type]
    assert [boundary.start for boundary in found] == [5.0, 10.0, 15.0]


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


def mixed(kind: str, share: float, old: Pixels, new: Pixels) -> Pixels:
    """A picture of a gradual change, in which `share` is done."""
    if kind == "dissolve":
        return np.asarray(old * (1 - share) + new * share, np.uint8)
    if kind == "fade":
        left = abs(1 - 2 * share)
        return np.asarray((old if share < 0.5 else new) * left, np.uint8)
    picture = old.copy()
    edge = round(share * old.shape[1])
    picture[:, :edge] = new[:, :edge]
    return picture


def watched(times: list[float], picture_at: Callable[[float], Pixels]) -> tuple[Boundary, ...]:
    scenes = Scenes(SceneOptions())
    for time in times:
        scenes.add(time, picture_at(time))
    return scenes.finish()


def clock(rate: float, seconds: float, uneven: bool = False) -> list[float]:
    """Times of pictures; with `uneven`, a third of them is missing here and there."""
    chance = np.random.default_rng(1)
    return [n / rate for n in range(int(seconds * rate)) if not uneven or not n or chance.random() > 0.35]


def panned(seed: int, offset: float) -> Pixels:
    """A window on a wide smooth landscape; `offset`, 0 to 1, is where it looks."""
    landscape = np.random.default_rng(seed).integers(0, 256, (6, 40, 3)).astype(np.uint8)
    wide = cv2.resize(landscape, (1280, 72), interpolation=cv2.INTER_CUBIC)
    left = round(offset * (1280 - 128))
    return np.ascontiguousarray(wide[:, left : left + 128])


@pytest.mark.parametrize("kind", ["dissolve", "fade", "wipe"])
@pytest.mark.parametrize("length", [0.8, 1.2])
@pytest.mark.parametrize(
    ("rate", "uneven"), [(10.0, False), (12.5, False), (30.0, True), (30.0, False), (60.0, False)]
)
def test_gradual_changes_are_found_with_their_ends(
    kind: str, length: float, rate: float, uneven: bool
) -> None:
    def picture(time: float) -> Pixels:
        return mixed(kind, min(max((time - 2) / length, 0), 1), shot(1), shot(2))

    (found,) = watched(clock(rate, 5 + length, uneven), picture)
    assert found.kind == kind
    assert found.start == pytest.approx(2, abs=0.3) and found.end == pytest.approx(2 + length, abs=0.35)
    assert 0.05 < found.score < 1


@pytest.mark.parametrize("opens", [True, False])
def test_most_round_irises_are_wipes(opens: bool) -> None:
    rows, columns = np.mgrid[0:72, 0:126]
    distance = np.hypot(columns - 62.5, rows - 35.5)[..., None]

    def picture(time: float, old: int) -> Pixels:
        share = min(max(time - 2, 0.0), 1.0)
        reached = distance < share * 73 if opens else distance > (1 - share) * 73
        return np.where(reached, shot(old + 1), shot(old))

    found = [
        boundary for old in (1, 3, 5, 7) for boundary in watched(clock(10, 5), partial(picture, old=old))
    ]
    assert 3 <= len(found) <= 4
    for boundary in found:
        assert boundary.kind == "wipe"
        assert 1.9 <= boundary.start <= 2.5 and 2.6 <= boundary.end <= 3.1


ROWS, COLUMNS = np.mgrid[0:72, 0:126]
ARRIVALS = {
    "clock": (np.arctan2(COLUMNS - 62.5, ROWS - 35.5) / np.pi + 1) / 2,
    "blinds": ROWS % 18 / 18,
    "diagonal": (ROWS / 72 + COLUMNS / 126) / 2,
}
"""When a wipe reaches each pixel, 0 to 1."""


@pytest.mark.parametrize("way", ARRIVALS)
@pytest.mark.parametrize("light", [1.0, 0.2])
def test_wipes_of_any_shape_are_found_in_any_light(way: str, light: float) -> None:
    def picture(time: float) -> Pixels:
        reached = ARRIVALS[way][..., None] < time - 2
        return np.asarray(np.where(reached, shot(2), shot(1)) * light, np.uint8)

    (found,) = watched(clock(20, 5), picture)
    assert found.kind == "wipe" and 1.9 <= found.start <= 2.4 and 2.6 <= found.end <= 3.3


@pytest.mark.parametrize("light", [1.0, 0.2])
def test_long_dissolves_are_found_in_any_light(light: float) -> None:
    def picture(time: float) -> Pixels:
        share = min(max((time - 2) / 2.5, 0), 1)
        return np.asarray(mixed("dissolve", share, shot(1), shot(2)) * light, np.uint8)

    (found,) = watched(clock(20, 7), picture)
    assert found.kind == "dissolve" and found.start >= 1.5 and found.end <= 5


def test_black_for_long_is_a_shot_of_its_own() -> None:
    def picture(time: float) -> Pixels:
        light = float(np.interp(time, [2, 3, 7, 8], [1, 0, 0, 1]))
        return np.asarray(shot(1 if time < 5 else 2) * light, np.uint8)

    found = watched(clock(25, 10), picture)
    assert [boundary.kind for boundary in found] == ["fade", "fade"]
    assert [boundary.start for boundary in found] == [pytest.approx(2, abs=0.2), pytest.approx(7, abs=0.2)]


def test_fades_at_either_end_of_the_video_change_no_shot() -> None:
    def picture(time: float) -> Pixels:
        return np.asarray(shot(1) * float(np.interp(time, [0, 1, 5, 6], [0, 1, 1, 0])), np.uint8)

    assert watched(clock(25, 6), picture) == ()


def flash(time: float) -> Pixels:
    return np.full((72, 126, 3), 250, np.uint8) if 2 <= time < 2.12 else shot(1)


def fading_flash(time: float) -> Pixels:
    glare = 220 * max(0.0, 1 - (time - 2) / 0.4) if time >= 2 else 0
    return np.asarray(np.minimum(shot(1) + glare, 255), np.uint8)


def blink(time: float) -> Pixels:
    return shot(1) // 60 if 2 <= time < 2.12 else shot(1)


def lamp(time: float) -> Pixels:
    return np.asarray(shot(1) * (0.4 if 2 <= time < 4 else 0.9), np.uint8)


def dimmer(time: float) -> Pixels:
    return np.asarray(shot(1) * float(np.interp(time, [2, 3], [1, 0.35])), np.uint8)


def strobe(time: float) -> Pixels:
    return np.asarray(shot(1) * (1 if int(time * 8) % 2 else 0.4), np.uint8)


def shake(time: float) -> Pixels:
    return panned(3, 0.5 + 0.03 * np.sin(time * 29) * np.cos(time * 11))


def pan(time: float) -> Pixels:
    return panned(3, time / 15)


def passer_by(time: float) -> Pixels:
    picture = shot(1)
    edge = int((time - 2) * 126)
    picture[:, max(edge, 0) : max(edge + 30, 0)] = (20, 30, 60)
    return picture


def page() -> Pixels:
    """A long text in pale colours."""
    chance = np.random.default_rng(9)
    words = np.kron(chance.random((60, 21)) < 0.6, np.ones((6, 6), bool)) & (np.arange(360) % 6 < 4)[:, None]
    return np.where(words[..., None], np.uint8([60, 50, 40]), np.uint8([240, 235, 225]))


def scrolling(time: float) -> Pixels:
    top = 16 * int(time / 1.3)
    return page()[top : top + 72]


def window(time: float) -> Pixels:
    picture = page()[:72].copy()
    if 2 <= time < 4.5:
        picture[12:60, 20:80] = shot(2)[12:60, 20:80]
    return picture


@pytest.mark.parametrize("rate", [12.0, 24.0, 30.0])
@pytest.mark.parametrize(
    "scene",
    [flash, fading_flash, blink, lamp, dimmer, strobe, shake, pan, passer_by, scrolling, window],
    ids=lambda f: f.__name__,
)
def test_light_and_motion_change_no_shot(scene: Callable[[float], Pixels], rate: float) -> None:
    assert watched(clock(rate, 6), scene) == ()


@settings(max_examples=40, deadline=None)
@given(st.integers(-6, 6), st.integers(-10, 10), st.floats(0.3, 1.0), st.integers(0, 50))
def test_a_shot_is_known_again_in_other_light_and_moved(
    down: int, right: int, light: float, seed: int
) -> None:
    wide = np.random.default_rng(seed).integers(40, 256, (60, 90, 3)).astype(np.uint8)

    def small(top: int, left: int, gain: float) -> Small:
        # As large as makes one pixel of the margin and one of the picture for each of these.
        seen = np.asarray(wide[top : top + 35, left : left + 62] * gain, np.uint8)
        return Small(0.0, seen, None)

    here, there = small(10, 12, 1.0), small(10 + down, 12 + right, light)
    assert moves(here, there)
    assert returns(here, small(10, 12, light))
    other = Small(0.0, np.random.default_rng(seed + 100).integers(0, 256, (35, 62, 3)).astype(np.uint8), None)
    assert not returns(here, other) and not moves(here, other)


def test_a_cut_through_one_mixture_of_both_shots_is_found() -> None:
    def picture(time: float) -> Pixels:
        return mixed("dissolve", 0.5 if 2.99 < time < 3.01 else float(time > 3), shot(1), shot(2))

    (found,) = watched(clock(20, 6), picture)
    assert found.start == pytest.approx(3, abs=0.06)


def test_a_cut_amid_motion_is_found() -> None:
    def picture(time: float) -> Pixels:
        return panned(3 if time < 3 else 4, time / 15)

    (found,) = watched(clock(24, 6), picture)
    assert (found.kind, found.start) == ("cut", 3.0)


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
    assert 2 * hits / (2 * hits + wrong + missed) > 0.95


@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared videos")
@pytest.mark.parametrize(
    "name", ["dev_bike_ego.webm", "dev_walk_ego.mp4", "dev_bottles_static.mp4", "dev_flower.webm"]
)
def test_nothing_is_found_where_there_is_no_cut(tmp_path: Path, name: str) -> None:
    assert _score(name, tmp_path / "out", "content") == (0, 0, 0)


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared videos")
@pytest.mark.parametrize("detector", ["content", "adaptive"])
def test_the_long_mix(tmp_path: Path, detector: str) -> None:
    hits, wrong, missed = _score("dev_mix.mp4", tmp_path / "out", detector)
    assert 2 * hits / (2 * hits + wrong + missed) > 0.95
