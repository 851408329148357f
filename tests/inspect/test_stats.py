"""`datagen stats`: one dataset, or two side by side."""

import json

import pytest

from datagen.inspect.stats import main
from tests.inspect.samples import cooking_dataset


def test_one_dataset_is_shown_beside_published_values(tmp_path, capsys):
    out = cooking_dataset(tmp_path / "out")
    assert main([str(out)]) == 0
    shown = capsys.readouterr().out
    assert "MMDuet2 web" in shown
    assert "answers a dialogue" in shown


def test_two_datasets_stand_side_by_side_with_their_difference(tmp_path, capsys):
    small = cooking_dataset(tmp_path / "small", videos=4)
    large = cooking_dataset(tmp_path / "large", videos=6)
    assert main([str(small), str(large)]) == 0
    lines = capsys.readouterr().out.splitlines()
    figures = {line[:34].strip(): line[34:].split() for line in lines}
    assert figures["dialogues"] == ["4", "6", "+2"]
    assert figures["rows videos/train"] == ["4", "6", "+2"]
    assert figures["answers per dialogue"][2:] == []
    assert len(figures["narrate: questions"]) == 3
    assert main([str(large), str(small)]) == 0
    assert "-2" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"status": "done", "shards": {}}', '{"status": "done", "shards": {}, "statistics": 7}',
     '{"status": "done", "shards": {}, "statistics": {"all": {"dialogues": "many"}}}'],
)  # fmt: skip
def test_without_statistics_there_is_one_line_and_status_2(tmp_path, capsys, text):
    good = cooking_dataset(tmp_path / "good", videos=3)
    bad = tmp_path / "bad"
    bad.mkdir()
    for argv in ([str(bad)], [str(bad), str(good)], [str(good), str(bad)]):
        assert main(argv) == 2
        (bad / "run.json").write_text(text)
        assert main(argv) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert len(err.splitlines()) == 2


def test_a_build_without_dialogues_says_so(tmp_path, capsys):
    out = cooking_dataset(tmp_path / "out", videos=3)
    run = json.loads((out / "run.json").read_text())
    run["statistics"]["all"] |= {"dialogues": 0, "videos": 0}
    (out / "run.json").write_text(json.dumps(run))
    assert main([str(out)]) == 0
    assert "has no dialogues" in capsys.readouterr().out
