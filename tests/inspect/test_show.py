from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace

from datagen.inspect.terminal import plain
from datagen.records import Rejection
from tests.export.samples import answer, built, dialogue, question
from tests.inspect.samples import HOSTILE, config, shown, write


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    asked = question("Tell me what opens.", 0.0, answer("A red door opens.", 8.0, 16.0), kind="detect")
    lost = Rejection("verify", "v1", "v1#b/q0/a0", "repeat", "same as 'x'")
    made = built(dialogue(asked, id="v1#a", type="1QnA"), id="v1", frames=12, rejected=(lost,))
    captions = tuple(replace(caption, seen=HOSTILE) for caption in made.captions)
    return write(tmp_path_factory.mktemp("show") / "out", [replace(made, captions=captions)], config())


@pytest.mark.parametrize("wanted", ["v1", "v1#a"])
def test_a_dialogue_is_told_in_the_order_of_its_events(out, wanted):
    status, text, _ = shown(out, wanted)
    marks = [
        "Tell me what opens. [q0, detect]",
        "silent     3 turns, until 12.0",
        "due 8.0-16.0",
        "> says",
        "until 24.0",
    ]
    places = [text.index(mark) for mark in marks]
    assert status == 0
    assert places == sorted(places)
    assert "16.0 > says       A red door opens." in text
    assert "verify v1#b/q0/a0: repeat" in text


def test_text_cannot_steer_the_terminal(out):
    _, text, _ = shown(out, "v1")
    assert "\x1b" not in text and "\u202e" not in text
    assert "\\u001b[31mred" in text
    assert plain("tab\there, ümlaut, 漢字") == "tab here, ümlaut, 漢字"


def test_without_an_id_the_dialogues_are_listed(out):
    assert shown(out) == (0, "v1#a  1 asked, 1 answers: Tell me what opens.\n", "")


def test_what_is_not_there_is_said_in_one_line(out, tmp_path):
    status, text, wrong = shown(out, "v2")
    assert (status, text) == (2, "") and "v1#a" in wrong and wrong.count("\n") == 1
    status, _, wrong = shown(tmp_path, "v1")
    assert status == 2 and "holds no dialogues" in wrong
    (tmp_path / "dialogues").mkdir()
    (tmp_path / "dialogues" / "x.parquet").write_bytes(b"no parquet")
    status, _, wrong = shown(tmp_path, "v1")
    assert status == 2 and "cannot be read" in wrong
    pq.write_table(pa.table({"id": ["v1"]}), tmp_path / "dialogues" / "x.parquet")
    status, _, wrong = shown(tmp_path)
    assert status == 2 and "is no dataset that datagen built" in wrong
