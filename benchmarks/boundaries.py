"""How well shot boundaries are found: python benchmarks/boundaries.py FOLDER

For every video in FOLDER that has its true boundaries beside it as VIDEO.cuts.json, with a list
`boundaries` of `type`, `start_s`, `end_s` and a list `ignore` of stretches not judged. A boundary is
found if ours starts within half a second of it (of a gradual one: of any of its mixed pictures), one
to one. Compared are ours, as `watch` gives them, and PySceneDetect's detectors with their defaults on every
picture, 128 pixels wide.
"""

import json
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
from scenedetect import AdaptiveDetector, ContentDetector
from scenedetect.common import FrameTimecode, Timecode

from datagen.config import FrameOptions, SceneOptions
from datagen.media.small import TICK
from datagen.media.watch import watch
from datagen.records import Location

TOLERANCE = 0.5
WIDTH = 128


def ours(video: Path) -> list[float]:
    with TemporaryDirectory() as folder:
        frames = Location(f"{folder}/frames")
        found = watch(Location(str(video)), frames, 0.0, None, SceneOptions(), FrameOptions())
    return [boundary.start for boundary in found.boundaries]


def plain(video: Path) -> dict[str, list[float]]:
    """Cuts of the plain detectors, by their names."""
    detectors = {"content": ContentDetector, "adaptive": AdaptiveDetector}
    made = {name: detector(min_scene_len=0.5) for name, detector in detectors.items()}
    cuts: dict[str, list[FrameTimecode]] = {name: [] for name in made}
    first = timecode = None
    with av.open(str(video)) as container:
        for picture in container.decode(video=0):
            if picture.time is None:
                continue
            first = picture.time if first is None else first
            timecode = FrameTimecode(Timecode(round((picture.time - first) / TICK), TICK), 25.0)
            height = max(8, round(picture.height * WIDTH / picture.width))
            plane = picture.to_ndarray(format="bgr24", width=WIDTH, height=height, interpolation="AREA")
            for name, detector in made.items():
                cuts[name] += detector.process_frame(timecode, plane)
    for name, detector in made.items():
        if timecode is not None:
            cuts[name] += detector.post_process(timecode)
    return {name: [float(cut.pts * TICK) for cut in found] for name, found in cuts.items()}


def matched(found: list[float], truth: list[dict[str, Any]]) -> dict[int, int]:
    """Of each found boundary that is true, the number of the true one; as many as can be paired."""
    owners: dict[int, int] = {}

    def pair(true: int, tried: set[int]) -> bool:
        for number, time in enumerate(found):
            near = truth[true]["start_s"] - TOLERANCE <= time <= truth[true]["end_s"] + TOLERANCE
            if near and number not in tried:
                tried.add(number)
                if number not in owners or pair(owners[number], tried):
                    owners[number] = true
                    return True
        return False

    for true in range(len(truth)):
        pair(true, set())
    return owners


def judge(found: list[float], known: dict[str, Any]) -> Counter[str]:
    """Numbers of boundaries found (tp), found wrongly (fp) and missed (fn), and by kind."""
    truth = known["boundaries"]
    owners = matched(found, truth)
    counts: Counter[str] = Counter(tp=len(owners), fn=len(truth) - len(owners))
    for number, time in enumerate(found):
        if number not in owners and not any(
            stretch["start_s"] - TOLERANCE <= time <= stretch["end_s"] + TOLERANCE
            for stretch in known.get("ignore", [])
        ):
            counts["fp"] += 1
    for number, boundary in enumerate(truth):
        counts[f"{boundary['type']} {'found' if number in owners.values() else 'missed'}"] += 1
    return counts


def figures(counts: Counter[str]) -> str:
    tp, fp, fn = counts["tp"], counts["fp"], counts["fn"]
    f1, precision, recall = 2 * tp / max(1, 2 * tp + fp + fn), tp / max(1, tp + fp), tp / max(1, tp + fn)
    return f"tp {tp:3} fp {fp:3} fn {fn:3}   F1 {f1:.3f} precision {precision:.3f} recall {recall:.3f}"


def main(folder: Path) -> None:
    totals: dict[str, Counter[str]] = {}
    for truth in sorted(folder.glob("*.cuts.json")):
        video = truth.with_name(truth.name.removesuffix(".cuts.json"))
        known = json.loads(truth.read_text())
        for name, found in {"ours": ours(video), **plain(video)}.items():
            counts = judge(found, known)
            totals.setdefault(name, Counter()).update(counts)
            print(f"{video.name:24} {name:9} {figures(counts)}")
    for name, counts in totals.items():
        print(f"{'all':24} {name:9} {figures(counts)}")
        for kind in sorted({key.split()[0] for key in counts if " " in key}):
            known_number = counts[f"{kind} found"] + counts[f"{kind} missed"]
            print(f"{'':24} {name:9} {kind}: {counts[f'{kind} found']} of {known_number} found")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
