"""--dry-run: it says what a run would do, the run then does that, and the dry run itself does nothing."""

import json
import shutil
from pathlib import Path

import pytest

from datagen import resources
from datagen.build import main
from datagen.llm.prompts import load_prompt
from datagen.resources import resource
from datagen.samples import make_samples
from tests.model_server import KEY
from tests.priced_server import PricedServer


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_samples(tmp_path_factory.mktemp("samples"))


@pytest.fixture(scope="module")
def built(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(videos, output) of a finished build by rules. Never written to by a test: copy it."""
    folder = tmp_path_factory.mktemp("built")
    shutil.copytree(samples, folder / "videos")
    assert main(["--videos", str(folder / "videos"), "--out", str(folder / "out"), "--quiet"]) == 0
    return folder / "videos", folder / "out"


@pytest.fixture
def copy(built: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    shutil.copytree(built[0], tmp_path / "videos")
    shutil.copytree(built[1], tmp_path / "out")
    where = tmp_path / "videos", tmp_path / "out"
    assert steps_run(where) == {"probe": 4}  # a moved folder is probed again, no more
    return where


def dry(where: tuple[Path, Path], capsys, *more: str) -> str:
    before = {path: path.stat().st_mtime_ns for path in where[1].rglob("*") if ".work" not in str(path)}
    capsys.readouterr()
    assert main(["--videos", str(where[0]), "--out", str(where[1]), "--dry-run", *more]) == 0
    after = {path: path.stat().st_mtime_ns for path in where[1].rglob("*") if ".work" not in str(path)}
    assert before == after
    return capsys.readouterr().out


def steps_run(where: tuple[Path, Path], *more: str) -> dict[str, int]:
    assert main(["--videos", str(where[0]), "--out", str(where[1]), "--quiet", *more]) == 0
    return json.loads((where[1] / "run.json").read_bytes())["steps_run"]


def test_a_finished_build_has_nothing_to_do(copy, capsys):
    said = dry(copy, capsys)
    assert "4 are done, 0 to do" in said and "Nothing to do" in said


def test_an_added_video_alone_is_run(copy, capsys):
    shutil.copy(copy[0] / "shapes.mp4", copy[0] / "more.mp4")
    with (copy[0] / "more.mp4").open("ab") as file:
        file.write(b"\0" * 64)
    said = dry(copy, capsys)
    assert (
        "4 are done, 1 to do" in said and "1 of them begin with probe" in said and "to do: more.mp4" in said
    )
    assert steps_run(copy)["watch"] == 1


def test_a_removed_video_loses_its_rows_and_runs_nothing(copy, capsys):
    (copy[0] / "shapes.mp4").unlink()
    said = dry(copy, capsys)
    assert said.count("its rows go: v") == 1 and "no video is opened" in said
    assert steps_run(copy) == {}


def test_a_placement_only_writes_the_tables_again(copy, capsys):
    more = ("--set", "export.placement=jitter")
    assert "no video is opened, no model asked" in dry(copy, capsys, *more)
    assert steps_run(copy, *more) == {}


def test_another_segmentation_needs_no_step(copy, capsys):
    more = ("--set", "segment.max_seconds=15")
    assert "4 of them need no step and no call" in dry(copy, capsys, *more)
    assert steps_run(copy, *more) == {}


def test_another_frame_interval_watches_again_and_says_what_is_lost(copy, capsys):
    more = ("--set", "frames.interval=1")
    said = dry(copy, capsys, *more)
    assert "4 of them begin with watch" in said and "is replaced" in said
    assert steps_run(copy, *more) == {"watch": 4}


def test_failures_that_would_be_tried_again_are_counted(copy, capsys):
    (copy[0] / "empty.mp4").touch()
    steps_run(copy)
    assert "tried again" not in dry(copy, capsys)
    assert "tried again" not in dry(copy, capsys, "--retry-failed", "Timeout")
    assert "1 failed (Corrupt) and are tried again" in dry(copy, capsys, "--retry-failed")


def test_a_changed_prompt_asks_again_from_there_on(copy, capsys, monkeypatch, tmp_path):
    """What is owed is told by stage, no endpoint is asked; captions are not paid for again."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with PricedServer() as server:
        said = dry(copy, capsys, *server.options())
        assert "4 of them begin with calls to caption" in said and not server.prompts
        steps_run(copy, *server.options())
        assert "Nothing to do" in dry(copy, capsys, *server.options())
        captions = server.prompts["caption"]
        for name in ("prompts", "schemas", "pipelines"):
            shutil.copytree(resource(name), tmp_path / "resources" / name)
        newest = max((tmp_path / "resources" / "prompts" / "n_qna").glob("v*.md"))
        newest.write_text(newest.read_text() + "\nKeep to plain words.\n")
        load_prompt.cache_clear()
        monkeypatch.setattr(resources, "_INSTALLED", tmp_path / "resources")
        assert "begin with calls to synthesize" in dry(copy, capsys, *server.options())
        steps_run(copy, *server.options())
        assert server.prompts["caption"] == captions > 0
    load_prompt.cache_clear()
