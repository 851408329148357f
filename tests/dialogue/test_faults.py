import json

import pytest
from msgspec.structs import replace

from datagen.dialogue.checks import CODES
from datagen.dialogue.fault_material import SETS, read_wordings, written
from datagen.dialogue.faults import inject, score, thing_of
from datagen.inspect.faults import main
from datagen.records import Answer, Question

FLOORS = {
    "known": {"future_leak_answer": 0.95, "missed_reply": 0.94},
    # Not tuned on: hindsight and the like can be worded in any number of ways.
    "held_out": {
        "ambiguous_reference": 0.70,
        "caption_speak": 0.87,
        "future_leak_question": 0.88,
        "heard_not_seen": 0.90,
        "hindsight": 0.60,
    },
}
PRECISION = {"known": 0.98, "held_out": 0.95}


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_what_is_found_and_what_is_found_falsely(name):
    scores = score(written(name), read_wordings(name))
    assert set(scores) == set(CODES)
    for code, row in scores.items():
        assert row.injected >= 40, code
        assert row.recall >= FLOORS[name].get(code, 0.95), code
        assert row.precision >= PRECISION[name], code


def test_a_few_dialogues_show_the_same_in_a_moment():
    scores = score(written("known")[:3], read_wordings("known"))
    assert set(scores) == set(CODES)
    rows = scores.values()
    assert sum(row.found for row in rows) >= 0.95 * sum(row.injected for row in rows) > 300
    assert sum(row.right for row in rows) >= 0.98 * sum(row.flagged for row in rows)


def test_each_fault_changes_one_item_and_nothing_else():
    clean, other = written("held_out")[:2]
    faults = list(inject(clean, read_wordings("held_out"), other))
    assert len({(f.code, f.item, f.dialogue) for f in faults}) == len(faults) > 60
    for fault in faults:
        q = int(fault.item.split("/q")[1].split("/")[0])
        for number, (old, new) in enumerate(
            zip(clean.dialogue.questions, fault.dialogue.questions, strict=True)
        ):
            assert (old == new) == (number != q)


def test_a_check_that_finds_nothing_or_everything_is_seen_in_the_figures(monkeypatch):
    cleans, wordings = written("known")[:2], {"hindsight": ("Eventually, {l}.",)}
    monkeypatch.setattr("datagen.dialogue.faults.check_dialogue", lambda talk, *_: (talk, ()))
    scores = score(cleans, wordings)
    assert scores["hindsight"].recall == 0 and scores["hindsight"].precision == 1


def test_known_and_held_out_share_no_wording_and_no_video():
    for code in CODES:
        known, held_out = (read_wordings(name).get(code, ()) for name in SETS)
        assert not set(known) & set(held_out)
    assert not {c.dialogue.video_id for c in written("known")} & {
        c.dialogue.video_id for c in written("held_out")
    }


def test_without_a_hint_the_late_thing_is_taken_from_the_captions():
    clean = written("known")[0]._replace(thing="")
    word = thing_of(clean).removeprefix("the ")
    early = " ".join(c.seen for c in clean.captions[:-2]).lower()
    late = " ".join(c.seen for c in clean.captions[-2:]).lower()
    assert word in late and word not in early


def test_the_command_reads_no_dataset_where_there_is_none(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "holds no dialogues" in capsys.readouterr().err


def test_the_command_prints_a_table_or_json(monkeypatch, capsys):
    monkeypatch.setattr("datagen.inspect.faults.written", lambda name: written(name)[:1])
    assert main([]) == 0
    table = capsys.readouterr().out
    assert table.count("hindsight ") == 2 and "held_out wordings" in table
    assert main(["--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert set(values) == set(SETS) and 0 <= values["known"]["hindsight"]["recall"] <= 1


def test_a_reply_that_is_rightly_turned_away_and_then_missed_is_no_false_alarm():
    clean = written("known")[0]
    seen = "A red door opens."
    captions = tuple(replace(c, seen=seen if n < 2 else c.seen) for n, c in enumerate(clean.captions))
    answers = tuple(
        Answer(
            text=seen,
            evidence=(s.id,),
            evidence_start=s.start,
            evidence_end=s.end,
            reply_start=s.start,
            reply_end=s.end,
        )
        for s in clean.segments[:2]
    )
    question = Question(text="Tell me each time a door opens.", ask_time=0.0, kind="detect", answers=answers)
    dialogue = replace(clean.dialogue, questions=(question,))
    scores = score(
        [clean._replace(dialogue=dialogue, captions=captions)], {"hindsight": ("Eventually, {l}.",)}
    )
    assert scores["hindsight"].found == 1 and "missed_reply" not in scores
