"""The export on the turns that the grid really makes, for every placement."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.config import Config, ExportOptions
from datagen.dialogue.grid import make_turns
from datagen.export.export import export
from datagen.export.rl import rl_rows, rl_table
from datagen.export.sft import sft_rows, sft_table
from datagen.export.spans import asking_turns, due_answers
from tests.export.samples import COUNTER, built, monitoring
from tests.export.test_rl import check_row as check_rl_row
from tests.export.test_rl import random_dialogues
from tests.export.test_sft import check_row as check_sft_row

PLACEMENTS = ["end", "jitter", "first_evidence", "start"]


@settings(max_examples=80, deadline=None)
@given(
    random_dialogues(), st.integers(1, 120), st.integers(1, 3), st.sampled_from([0.5, 1.0, 2.0]),
    st.sampled_from(PLACEMENTS),
)  # fmt: skip
def test_every_answer_is_a_reply_of_sft_and_due_in_rl_or_has_a_rejection(
    d, frames, per_turn, interval, placement
):
    options = ExportOptions(frames_per_turn=per_turn, placement=placement)
    turns, by_grid, _ = make_turns(d, frames, interval, options, 60, 0)
    sft, sft_dropped = sft_rows(built(d), d, turns, options, interval, COUNTER)
    for row in sft_table(sft).to_pylist():
        check_sft_row(row)
    assert {r.code for r in sft_dropped} <= {"no_question"}
    said = " ".join(text for row in sft for text in row.texts[2::2])
    due, unearnable = due_answers(d, turns, interval)
    rejected = {r.item_id for r in by_grid}
    names = {f"{d.id}/q{q}/a{a}" for q, each in enumerate(d.questions) for a in range(len(each.answers))}
    assert {a.item for a in due} | {r.item_id for r in unearnable} == names - rejected
    assert all(a.text in said for a in due)
    asked = {number for _, number in asking_turns(d, turns)}
    assert asked == {q for q in range(len(d.questions)) if f"{d.id}/q{q}" not in rejected}
    rows, _ = rl_rows(built(d), d, turns, options, interval, COUNTER)
    user_turns = {row.question_id: row.user_turns for row in rows}
    for row in rl_table(rows, "train").to_pylist():
        check_rl_row(row, user_turns, turns)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_an_export_with_each_placement(tmp_path, placement):
    options = ExportOptions(placement=placement, rl_fraction=0.4, val_fraction=0.5)
    videos = [built(monitoring(150, 13.0, id=f"v{k}#0"), id=f"v{k}", frames=80) for k in range(8)]
    report = export(lambda: iter(videos), [], tmp_path, Config(name="t", export=options))
    rows = report["rows"]
    assert rows["videos/train"] == rows["dialogues/train"] == 8
    assert rows["sft/train"] and rows["rl/train"] and rows["rl/val"]
    grid = report["grid"]
    assert grid["answers"] == 8 * 11 == grid["replies"] + grid["merged"] + grid["dropped"]
    assert report["reply_turns"] == grid["replies"]
