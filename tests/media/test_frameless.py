"""Builds that want no frames (export.frames=none): what is watched for them, and what their keys say."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from datagen import config as options
from datagen.config import Config, ExportOptions, SegmentOptions
from datagen.flow import flow, flow_keys, frames_key
from datagen.llm.models import Models
from datagen.records import Built
from datagen.scratch import Scratch
from tests.llm.scripted import said
from tests.media.clips import counter, entry, frames_in

RULES = Models()
SEEING = Models(vlm_url="http://x/v1", vlm_model="v")


def made(frames: Any) -> Config:
    segment = SegmentOptions(method="uniform", max_seconds=2.0, min_seconds=1.0)
    return Config(name="t", segment=segment, export=ExportOptions(frames=frames))


class Steps:
    """Runs what it is given, and answers every call with the same words."""

    async def __call__(self, function: Callable[..., Any], *args: Any, of: Any = (), seconds: float) -> Any:
        return function(*args)

    async def call(self, function: Callable[..., Any], request: Any) -> Any:
        return await function(request)

    async def ask(self, request: Any) -> Any:
        return said('{"caption": "Blocks."}')


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds long: three frames."""
    return counter(tmp_path_factory.mktemp("clip") / "a.mp4", [n / 5 for n in range(30)])


def build(clip: Path, folder: Path, frames: str, models: Models) -> tuple[Built, int]:
    """What became of a clip, and how many frames of it there are."""
    steps: Any = Steps()
    running = flow(steps, entry(clip), made(frames), folder / "frames", models, {"vlm": steps}, Scratch(1))
    built = asyncio.run(running)
    return built, len(frames_in(folder / "frames" / built.video.id))


@pytest.mark.parametrize("frames", get_args(options.Frames))
def test_frames_are_written_where_somebody_looks_at_them(clip: Path, tmp_path: Path, frames: str) -> None:
    for models in (RULES, SEEING):
        built, files = build(clip, tmp_path / (models.vlm_model or "rules"), frames, models)
        assert built.watched.frame_count == 3
        assert files == (0 if frames == "none" and models is RULES else 3)


def test_only_builds_without_frames_have_keys_of_their_own(tmp_path: Path) -> None:
    video = entry(tmp_path / "a.mp4")
    paths, embedded, none = (made(frames) for frames in ("paths", "embedded", "none"))
    assert frames_key(paths) == frames_key(embedded) != frames_key(none)
    keys = [flow_keys([video], config, RULES) for config in (paths, embedded, none)]
    assert keys[0] == keys[1] != keys[2]
