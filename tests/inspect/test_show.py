import io
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from datagen.export.export import export
from datagen.inspect.show import main
from datagen.inspect.terminal import plain
from datagen.pipeline_file import load_config
from datagen.records import (
    Answer,
    Built,
    Caption,
    Dialogue,
    Question,
    Rejection,
    Segment,
    Video,
    Watched,
)

HOSTILE = "a \x1b[31mred\x1b[0m door \u202eopens"


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("show")
    segments = tuple(
        Segment(id=f"s{n}", video_id="v1", start=8.0 * n, end=8.0 * n + 8, method="uniform") for n in range(3)
    )
    answer = Answer(
        text="A red door opens.",
        evidence=("s1",),
        evidence_start=8,
        evidence_end=16,
        reply_start=8,
        reply_end=16,
    )
    built = Built(
        video=Video(
            id="v1", digest="d", name="door.mp4", duration=24, fps=25, width=64, height=64, codec="h264"
        ),
        watched=Watched(duration=24, frame_count=12),
        segments=segments,
        captions=(Caption(segment_id="s1", seen=HOSTILE, heard=None, provenance="sidecar:srt"),),
        dialogues=(
            Dialogue(
                id="v1#a",
                video_id="v1",
                type="1QnA",
                questions=(
                    Question(text="Tell me what opens.", ask_time=0, kind="detect", answers=(answer,)),
                ),
                provenance="rule",
            ),
        ),
        rejected=(Rejection("verify", "v1", "v1#b/q0/a0", "repeat", "same as 'x'"),),
    )
    counts = export(lambda: iter([built]), [], folder, load_config("nqna", []))
    assert counts["rows"]["dialogues/train"] == 1
    return folder


def shown(*argv: object) -> tuple[int, str, str]:
    said, wrong = io.StringIO(), io.StringIO()
    with redirect_stdout(said), redirect_stderr(wrong):
        status = main([str(a) for a in argv])
    return status, said.getvalue(), wrong.getvalue()


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
