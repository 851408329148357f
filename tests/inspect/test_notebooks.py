"""The notebooks run from start to end on a build of the samples, and are kept without outputs."""

import json
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from datagen.build import main
from datagen.errors import UsageError
from datagen.inspect import notebook
from datagen.samples import make_samples

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("build")
    videos = make_samples(folder / "videos")
    (videos / "empty.mp4").touch()
    assert main(["--videos", str(videos), "--out", str(folder / "out"), "--quiet"]) == 0
    return folder / "out"


def test_there_are_four():
    names = [path.stem for path in NOTEBOOKS]
    assert names == ["failures", "one_video", "run_overview", "turn_balance"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_they_are_kept_without_outputs_and_without_absolute_paths(path):
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    for cell in book.cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None
        assert not re.search(r"""["'](/|~|[A-Z]:\\)""", cell.source)


SHOWN = {
    "run_overview": ("videos_listed", "dialogues/train", "image/png"),
    "one_video": ("question", "silent", "image/png"),
    "turn_balance": ("reply rate", "image/png"),
    "failures": ("the file is empty", "Corrupt", "image/png"),
}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_they_run_and_show_what_they_promise(path, out, tmp_path, monkeypatch):
    monkeypatch.setenv("DATAGEN_OUT", str(out))
    book = nbformat.read(path, as_version=4)
    NotebookClient(book, timeout=60, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = json.dumps([cell.get("outputs") for cell in book.cells])
    assert all(words in shown for words in SHOWN[path.stem])
    assert "Warning" not in shown


def test_turns_and_answers_are_those_of_the_build(out):
    run, turns, answers = notebook.run(out), notebook.turns(out), notebook.answers(out)
    assert len(turns) == run["turns"] and (turns["label"] == "reply").sum() == run["reply_turns"]
    assert len(answers) == notebook.table(out, "dialogues")["answer_count"].sum()
    assert (turns["text"][turns["label"] == "silent"] == "NO REPLY").all()


def test_a_folder_that_is_no_build_is_told_so(tmp_path):
    with pytest.raises(UsageError, match=r"run\.json"):
        notebook.run(tmp_path)
    with pytest.raises(UsageError, match="finished build"):
        notebook.table(tmp_path, "videos")
