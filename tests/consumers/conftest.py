import os
import runpy
from pathlib import Path

import pytest

from tests.consumers import tiny_qwen
from tests.consumers.shards import PARTS, make_shards

SITE = Path(__file__).parent / "site"


@pytest.fixture(scope="session")
def shards(tmp_path_factory) -> Path:
    """The builds of shards.py, never written to by a test."""
    ready = os.environ.get("DATAGEN_SHARDS")
    return Path(ready).absolute() if ready else make_shards(tmp_path_factory.mktemp("shards"))


@pytest.fixture(params=[name for name in PARTS if name != "embedded"])
def part(request, shards, monkeypatch, tmp_path) -> Path:
    """One of them, by default each whose frames are paths.

    It is the current folder at the same time: paths of frames are relative to it.
    """
    monkeypatch.chdir(shards / request.param)
    for cache in ("HF_HOME", "HF_DATASETS_CACHE", "MODELSCOPE_CACHE"):
        monkeypatch.setenv(cache, str(tmp_path / "cache"))
    return shards / request.param


@pytest.fixture(scope="session")
def torchvision_without_cuda() -> dict:
    """Its operators are declared as long as somebody holds on to them."""
    return runpy.run_path(str(SITE / "sitecustomize.py"))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory, torchvision_without_cuda) -> Path:
    """Folder of a tiny Qwen2.5-VL."""
    return tiny_qwen.build(tmp_path_factory.mktemp("qwen") / "Qwen2.5-VL-tiny")
