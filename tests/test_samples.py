import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from datagen import samples
from datagen.records import Location, Narration
from datagen.samples import make_samples
from datagen.sources.listing import list_videos
from datagen.sources.sidecar import read_sidecar


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_samples(tmp_path_factory.mktemp("made") / "samples")


def _pictures(path: Path) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield frame.time, frame.to_ndarray(format="rgb24")


def _narrations(folder: Path, name: str) -> tuple[Narration, ...]:
    entries, _ = list_videos(folder)
    (entry,) = [entry for entry in entries if entry.name == name]
    assert entry.sidecar
    stamp = (entry.sidecar_size, entry.sidecar_mtime_ns)
    return read_sidecar(Location(entry.sidecar), stamp, (name,)).narrations


def test_four_videos_of_two_kinds_of_sidecar_and_none(folder: Path) -> None:
    entries, rejected = list_videos(folder)
    assert not rejected
    assert [(entry.name, Path(entry.sidecar or "").suffix) for entry in entries] == [
        ("dawn.mp4", ""),
        ("pizza.mp4", ".vtt"),
        ("race.mp4", ".srt"),
        ("shapes.mp4", ""),
    ]
    assert sum(path.stat().st_size for path in folder.iterdir()) < 5_000_000


def test_what_is_narrated_is_short_and_some_of_it_happens_again(folder: Path) -> None:
    told = _narrations(folder, "pizza.mp4")
    assert {narration.modality for narration in told} == {"visual"}
    assert {narration.modality for narration in _narrations(folder, "race.mp4")} == {"audio"}
    assert all(4 <= len(re.findall(r"\w+", n.text)) <= 15 for n in told)
    counts = sorted((sum(n.text == text for n in told) for text in {n.text for n in told}), reverse=True)
    assert counts[0] >= 3 and len(counts) >= 10 and counts[-1] == 1


def test_what_is_narrated_can_be_seen(folder: Path) -> None:
    pictures = list(_pictures(folder / "pizza.mp4"))

    def share(time: float, low: tuple[int, int, int], high: tuple[int, int, int]) -> float:
        picture = next(picture for at, picture in pictures if at >= time)
        return float(((picture >= low) & (picture <= high)).all(axis=2).mean())

    red, white, brown = (
        ((160, 0, 0), (255, 90, 90)),
        ((215, 200, 150), (255, 255, 225)),
        ((80, 40, 0), (140, 100, 70)),
    )
    told = {narration.text: narration for narration in _narrations(folder, "pizza.mp4")}
    for text, colour in (("Red sauce", red), ("The dough spreads", white), ("A brown board", brown)):
        (event,) = [narration for start, narration in told.items() if start.startswith(text)]
        assert share(event.end + 0.1, *colour) > share(event.start - 0.1, *colour) + 0.04, text
    for event in _narrations(folder, "pizza.mp4"):
        before, after = (
            next(picture for at, picture in pictures if at >= time).astype(int)
            for time in (event.start - 0.1, event.end)
        )
        assert np.abs(after - before).max() > 60, event.text


def test_the_known_cuts_are_where_the_pictures_change(folder: Path) -> None:
    known = json.loads((folder / "shapes.mp4.cuts.json").read_text())["boundaries"]
    pictures = list(_pictures(folder / "shapes.mp4"))
    change = {
        now: float(np.abs(picture.astype(int) - before).mean())
        for (_, before), (now, picture) in pairwise(pictures)
    }
    cuts = [time for time, much in change.items() if much > 20]
    assert cuts == pytest.approx([cut["start_s"] for cut in known], abs=1e-6)


def test_a_second_call_touches_nothing(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    make_samples(folder)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_an_interrupted_call_is_made_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "_FPS", 2)
    whole = make_samples(tmp_path / "whole")
    encode = samples._encode
    folder = tmp_path / "torn"
    folder.mkdir()
    (folder / "mine.txt").write_text("not yours")

    def interrupted(path: Path, scenes: tuple[samples.Scene, ...]) -> None:
        if "race" in path.name:
            path.write_bytes(b"torn")
            raise KeyboardInterrupt
        encode(path, scenes)

    monkeypatch.setattr(samples, "_encode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_samples(folder)
    assert not list(folder.glob("race.mp4"))
    monkeypatch.setattr(samples, "_encode", encode)
    make_samples(folder)
    made = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "mine.txt"}
    assert made == {path.name: path.read_bytes() for path in whole.iterdir()}
    assert (folder / "mine.txt").read_text() == "not yours"
