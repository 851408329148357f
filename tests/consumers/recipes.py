"""Runs a recipe of recipes/sft as its reader would, on the tiny model, for two steps."""

import os
import subprocess
import sys
from pathlib import Path

RECIPES = Path(__file__).parents[2] / "recipes" / "sft"
SHORT = ("--max_steps", "2", "--gradient_accumulation_steps", "1", "--logging_steps", "1")
SITE = Path(__file__).parent / "site"


def run_recipe(command: list, output: Path) -> str:
    """What the command prints, run in the current folder by this environment's Python.

    The name of a file of recipes/sft stands for its path.
    """
    places = {path.name: str(path) for path in RECIPES.iterdir()}
    words = [places.get(str(word), str(word)) for word in command]
    known = {**os.environ, "PYTHONPATH": str(SITE), "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    known["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{known['PATH']}"
    done = subprocess.run(
        [*words, *SHORT, "--output_dir", str(output)],
        env=known,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout + done.stderr
