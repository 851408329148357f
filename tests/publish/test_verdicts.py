"""Verdicts read back, kept with the dataset, counted, and shown in its card."""

import json

import pytest
from huggingface_hub import DatasetCard
from msgspec.structs import replace

from datagen.inspect.quality import members
from datagen.publish import read_verdicts
from datagen.publish.card import write_card
from tests.inspect.report_samples import video
from tests.inspect.samples import config, write


def build(out, change=None):
    made = [video(number) for number in range(12)]
    return write(out, [change(one) for one in made] if change else made, config())


@pytest.fixture
def out(tmp_path):
    return build(tmp_path / "out")


def line(out, id, verdict="good", judge="Ada", time="2026-01-01T12:00:00.000Z", **more):
    row = {"dialogue_id": id, "content": members(out)[id].content, "judge": judge, "verdict": verdict}
    return json.dumps(row | {"time": time} | more)


def run(out, tmp_path, capsys, *lines):
    path = tmp_path / "verdicts-Ada.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8", errors="surrogatepass")
    status = read_verdicts.main([str(out), *([str(path)] if lines else [])])
    said = capsys.readouterr()
    return status, said.out, said.err


def kept(out):
    return [json.loads(line) for line in (out / "verdicts.jsonl").read_text().splitlines()]


def total(said):
    return next(row.split() for row in said.splitlines() if row.startswith("all "))


def test_verdicts_are_counted_kept_and_written_into_the_card(out, tmp_path, capsys):
    write_card(out)
    assert "No person has judged" in (out / "README.md").read_text()
    lines = [line(out, f"v{n:05d}#0") for n in range(9)]
    lines.append(line(out, "v00009#0", "bad", defects=["repeat", "mistimed"]))
    status, said, complained = run(out, tmp_path, capsys, *lines)
    assert (status, complained) == (0, "")
    assert total(said)[1:6] == ["12", "12", "10", "1", "10.0%"]
    assert "says again (repeat) 1" in said
    card = DatasetCard.load(out / "README.md")
    assert "| `all` | 12 | 12 | 10 | 1 | 10.0% |" in card.text and "says again (repeat) 1" in card.text
    # Without a file they are printed again; the card of a later build has them too.
    assert run(out, tmp_path, capsys) == (0, said, "")
    before = card.text
    assert DatasetCard.load(write_card(out)).text == before


def test_of_one_judge_the_latest_verdict_counts(out, tmp_path, capsys):
    new = line(out, "v00003#0", "bad", time="2026-01-02T12:00:00Z")
    old = line(out, "v00003#0", "good")
    _, said, _ = run(out, tmp_path, capsys, new, old)
    assert total(said)[3:5] == ["1", "1"]
    # It is taken back, and another judge disagrees with nobody.
    taken_back = line(out, "v00003#0", "none", time="2026-01-03T12:00:00Z")
    _, said, _ = run(out, tmp_path, capsys, taken_back, line(out, "v00003#0", judge="Bo"))
    assert total(said)[3:5] == ["1", "0"] and "Judged by 1 person" in said
    assert [row["verdict"] for row in kept(out)] == ["none", "good"]


def test_two_judges_are_compared(out, tmp_path, capsys):
    verdicts = {"v00000#0": "gg", "v00001#0": "gb", "v00002#0": "bb"}
    names = {"g": "good", "b": "bad"}
    lines = [
        line(out, id, names[says], judge)
        for id, pair in verdicts.items()
        for says, judge in zip(pair, ("Ada", "Bo"), strict=True)
    ]
    _, said, _ = run(out, tmp_path, capsys, *lines)
    assert "Of 3 pairs of verdicts on the same dialogue 2 agree" in said
    assert "of what one called bad, the other did so in 67%" in said
    assert total(said)[4] == "2"


def test_what_is_no_verdict_is_said_by_line_and_the_rest_is_taken_in(out, tmp_path, capsys):
    good = line(out, "v00000#0")
    wrong = [
        good[:40],
        '{"dialogue_id": 3}',
        "\udcff",
        "[" * 5000,
        line(out, "v00001#0", "superb"),
        line(out, "v00001#0", "bad", defects=["ugly"]),
        line(out, "v00001#0", "good", defects=["repeat"]),
        line(out, "v00001#0", time="yesterday"),
        line(out, "v00001#0").replace("v00001#0", "\\u202ev77\\u001b[31m"),
        line(out, "v00001#0", judge="x" * 20_000),
        line(out, "v00001#0", judge=""),
    ]
    status, said, complained = run(out, tmp_path, capsys, *wrong, "", good)
    assert status == 1 and total(said)[3] == "1" and len(kept(out)) == 1
    faults = complained.splitlines()
    assert [fault.split(": ")[2].split(":")[1] for fault in faults] == [
        str(n) for n in sorted(range(1, 12), key=lambda n: n == 9)
    ]
    assert "'superb'" in faults[4] and "'ugly'" in faults[5] and "no dialogue" in faults[-1]
    assert "\u001b" not in complained and "\u202e" not in complained


def test_a_rebuild_keeps_verdicts_on_what_is_the_same(tmp_path, capsys):
    out = build(tmp_path / "one")
    lines = [line(out, f"v{n:05d}#0", "bad") for n in range(4)]

    def other_words(one):
        dialogue = one.dialogues[0]
        if one.video.id != "v00002":
            return replace(one, dialogues=(replace(dialogue, provenance="another"),))
        first, second = dialogue.questions
        return replace(one, dialogues=(replace(dialogue, questions=(replace(first, text="Why?"), second)),))

    again = build(tmp_path / "two", other_words)
    run(again, tmp_path, capsys, *lines)
    _, said, _ = run(again, tmp_path, capsys)
    assert total(said)[3:5] == ["3", "3"]
    assert "1 verdicts are on dialogues that have changed since" in said
    assert len(kept(again)) == 4


def test_hostile_names_are_no_markup_in_the_card(tmp_path, capsys):
    hostile = "x | y\n# <script>alert(1)</script>"

    def renamed(one):
        return replace(one, video=replace(one.video, source=hostile))

    out = build(tmp_path / "out", renamed)
    run(out, tmp_path, capsys, line(out, "v00000#0", judge=hostile))
    part = (out / "README.md").read_text().split("## Quality control")[1].split("\n## ")[0]
    table = [row for row in part.splitlines() if row.startswith("|")]
    assert len(table) == 4 and all(row.count("|") == 8 for row in table)
    assert "script" not in part.replace(table[2], "") and "`x ¦ y?# <script>" in table[2]


def test_a_spoilt_file_of_kept_verdicts_stops_rather_than_losing_them(out, tmp_path, capsys):
    (out / "verdicts.jsonl").write_text("{torn")
    status, _, complained = run(out, tmp_path, capsys, line(out, "v00000#0"))
    assert status == 2 and "verdicts.jsonl:1" in complained and complained.count("\n") == 1
    assert (out / "verdicts.jsonl").read_text() == "{torn"


def test_wrong_usage_is_one_line(out, tmp_path, capsys):
    assert read_verdicts.main([str(tmp_path / "nothing")]) == 2
    assert read_verdicts.main([str(out), str(tmp_path / "missing.jsonl")]) == 2
    assert capsys.readouterr().err.count("\n") == 2
    assert read_verdicts.main([str(out)]) == 0
    assert "No verdicts" in capsys.readouterr().out
