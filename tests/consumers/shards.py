"""The shards that the trainers are tried on: real builds of the sample videos, by rules.

`python -m tests.consumers.shards FOLDER` makes them where datagen is installed; with DATAGEN_SHARDS=FOLDER
the tests read them in the environment of a trainer that does not agree with datagen's requirements.
"""

import json
import subprocess
import sys
from pathlib import Path

PARTS = {
    "two_frames_a_turn": ("mixed", "export.max_frames=16", "export.weights=class_balanced"),
    "one_frame_a_turn": ("1qna", "frames.interval=1", "export.frames_per_turn=1"),
    "embedded": ("nqna", "export.frames=embedded"),
}
"""Name of each build, its pipeline and options: split rows and turns with weights; a frame a turn; the
pictures themselves in the rows."""

SMALL = ("frames.max_pixels=6272", "export.dialogues_per_shard=1", "export.rl_fraction=0.3")
"""At most 8 visual tokens a frame, so that a step of training takes seconds; a shard a dialogue."""

UNICODE = {"A brown mushroom": "Ein brauner Champiñón 🍄", "The dough": "Der Teig (тесто, 面团, عجين)"}


def make_shards(folder: Path) -> Path:
    """A folder of each of PARTS in `folder`; its source has words of several scripts."""
    from datagen.samples import make_samples

    videos = make_samples(folder / "samples")
    told = (videos / "pizza.vtt").read_text()
    for english, other in UNICODE.items():
        told = told.replace(english, other)
    (videos / "unicode.vtt").write_text(told)
    rows = [
        {"path": "pizza.mp4", "sidecar": "pizza.vtt"},
        {"path": "pizza.mp4", "sidecar": "pizza.vtt", "end": 40},
        {"path": "pizza.mp4", "sidecar": "unicode.vtt", "start": 1.5, "source": "küche 🍄"},
        {"path": "race.mp4", "sidecar": "race.srt"},
        {"path": "dawn.mp4"},
        {"path": "shapes.mp4"},
    ]
    manifest = videos / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, (pipeline, *options) in PARTS.items():
        build = [sys.executable, "-m", "datagen.build", "--pipeline", pipeline, "--quiet"]
        places = ["--videos", str(manifest), "--out", str(folder / name)]
        subprocess.run([*build, *places, *(f"--set={option}" for option in (*options, *SMALL))], check=True)
    return folder


if __name__ == "__main__":
    make_shards(Path(sys.argv[1]))
