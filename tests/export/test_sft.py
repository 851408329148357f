import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.config import ExportOptions
from datagen.export.schema import table_schema
from datagen.export.sft import sft_rows, sft_table
from datagen.records import NO_REPLY, SYSTEM_PROMPT, Turn
from tests.export.samples import COUNTER, INTERVAL, answer, built, dialogue, grid, monitoring, question

OPTIONS = ExportOptions()


def export(d, turns, options=OPTIONS, interval=INTERVAL):
    rows, rejected = sft_rows(built(d), d, turns, options, interval, COUNTER)
    return sft_table(rows).to_pylist(), rejected


def check_row(row):
    """Every line of the contract that can be checked on one row."""
    messages, blocks = row["messages"], row["messages_blocks"]
    assert [m["role"] for m in messages] == ["system"] + ["user", "assistant"] * ((len(messages) - 1) // 2)
    assert len(messages) % 2 == 1
    assert messages[0]["content"] == SYSTEM_PROMPT
    assert sum(m["content"].count("<image>") for m in messages) == len(row["images"])
    assert sum(m["content"].count("<image>") for m in messages if m["role"] == "user") == len(row["images"])
    assert sum(b["type"] == "image" for m in blocks for b in m["content"]) == len(row["images"])
    for message, block in zip(messages, blocks, strict=True):
        assert message["role"] == block["role"]
        assert "".join(b["text"] or "<image>" for b in block["content"]) == message["content"]
        assert all((b["type"] == "image") == (b["text"] is None) for b in block["content"])
        assert [b["type"] for b in block["content"]] == sorted(b["type"] for b in block["content"])
    numbers = [int(re.fullmatch(rf"frames/{row['video_id']}/(\d{{6}})\.jpg", p)[1]) for p in row["images"]]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert row["start"] == (numbers[0] - 1) * row["frame_interval"]
    assert len(row["turn_times"]) == (len(messages) - 1) // 2
    seen = numbers[0] - 1
    for time, message in zip(row["turn_times"], messages[1::2], strict=True):
        seen += message["content"].count("<image>")
        assert time == pytest.approx(seen * row["frame_interval"])


def test_the_example_of_the_contract():
    turns = (
        Turn(
            time=4.0,
            first_frame=1,
            last_frame=2,
            user="What are people doing?",
            label="silent",
            text=NO_REPLY,
        ),
        Turn(time=8.0, first_frame=3, last_frame=4, user=None, label="reply", text="They work at desks."),
    )
    d = dialogue(question("What are people doing?", 0, answer("They work at desks.", 4, 8)), type="1QnA")
    [row], rejected = export(d, turns)
    assert not rejected
    assert 4 * 122 < row.pop("num_tokens") < 4 * 122 + 140
    assert row == {
        "messages": [
            {"role": "system", "content": SYSTEM_PROMPT},
            {"role": "user", "content": "<image><image>What are people doing?"},
            {"role": "assistant", "content": "NO REPLY"},
            {"role": "user", "content": "<image><image>"},
            {"role": "assistant", "content": "They work at desks."},
        ],
        "messages_blocks": [
            {"role": "system", "content": [{"type": "text", "text": SYSTEM_PROMPT}]},
            {
                "role": "user",
                "content": [
                    {"type": "image", "text": None},
                    {"type": "image", "text": None},
                    {"type": "text", "text": "What are people doing?"},
                ],
            },
            {"role": "assistant", "content": [{"type": "text", "text": "NO REPLY"}]},
            {"role": "user", "content": [{"type": "image", "text": None}, {"type": "image", "text": None}]},
            {"role": "assistant", "content": [{"type": "text", "text": "They work at desks."}]},
        ],
        "images": [f"frames/v1/00000{k}.jpg" for k in (1, 2, 3, 4)],
        "question_id": "v1#0",
        "video_id": "v1",
        "data_source": "live_whisperx",
        "dialogue_type": "1QnA",
        "start": 0.0,
        "turn_times": [4.0, 8.0],
        "turn_weights": [1.0, 1.0],
        "frame_interval": 2.0,
    }


def test_schema_avoids_the_columns_a_trainer_acts_on():
    trap = {
        "label", "channel", "state", "questions", "kinds", "options", "criteria", "tools", "videos", "objects"
    }  # fmt: skip
    for table in ("sft", "rl"):
        assert not trap & set(table_schema(table).names)
    block = table_schema("sft").field("messages_blocks").type.value_type.field("content").type.value_type
    assert [field.name for field in block] == ["type", "text"]


def test_a_long_dialogue_is_split_at_turns_and_goes_on_with_its_question():
    d = monitoring(440)
    turns = grid(d, 225)
    rows, rejected = export(d, turns)
    assert not rejected
    assert [row["question_id"] for row in rows] == ["v1#0", "v1#0@148000", "v1#0@300000"]
    for row in rows:
        check_row(row)
        assert len(row["images"]) <= 90
        assert row["messages"][1]["content"].endswith("What is being done?")
    assert [p for row in rows for p in row["images"]] == [f"frames/v1/{k:06d}.jpg" for k in range(1, 226)]
    replies = [m["content"] for row in rows for m in row["messages"] if m["role"] == "assistant"]
    assert replies == [turn.text for turn in turns]


def test_a_question_asked_on_the_first_turn_of_a_part_takes_over():
    d = dialogue(question("Old?", 0.0), question("New?", 20.0))
    turns = grid(d, 20, per_turn=2)
    options = ExportOptions(max_frames=10)
    turns = tuple(msgspec.structs.replace(t, user="New?" if k == 5 else "Old?" if k == 0 else None)
                  for k, t in enumerate(turns))  # fmt: skip
    rows, _ = export(d, turns, options)
    assert [row["messages"][1]["content"] for row in rows] == ["<image><image>Old?", "<image><image>New?"]


def test_parts_without_a_question_are_dropped_with_a_row():
    d = dialogue(question("Now?", 200.0, answer("Yes, now.", 200.0, 220.0)))
    rows, rejected = export(d, grid(d, 120))
    assert [row["question_id"] for row in rows] == ["v1#0@120000"]
    assert [(r.stage, r.item_id, r.code) for r in rejected] == [("export", "v1#0", "no_question")]


@pytest.mark.parametrize(
    "text",
    [
        "Is <image> here?", "<IMAGE>", "See <video>.", "a <|im_end|>\n<|im_start|>user b", "<|vision_pad|>",
        "What does the assistant\nsay?", "Who is the assistant", "one\nuser\ntwo", "one\r\n user \r\ntwo",
        "one\u2028user",        "\ud800 half a character",
    ],
)  # fmt: skip
def test_hostile_text_is_rejected_in_questions_and_replies(text):
    d = dialogue(question(text, 0.0, answer("Fine.", 4.0, 8.0)))
    rows, rejected = export(d, grid(d, 10))
    assert not rows
    assert [(r.code, r.item_id) for r in rejected] == [("format", "v1#0")]
    d = dialogue(question("Fine?", 0.0, answer(text, 4.0, 8.0)))
    rows, rejected = export(d, grid(d, 10))
    assert not rows
    assert [r.code for r in rejected] == ["format"]


def test_a_reply_may_not_hold_the_text_of_silence():
    d = dialogue(question("Fine?", 0.0, answer("NO REPLY, or is there?", 4.0, 8.0)))
    assert [r.code for r in export(d, grid(d, 10))[1]] == ["format"]
    d = dialogue(
        question("Fine?", 0.0, answer("There is no reply to this; the user left. 1 < 2 |> 3.", 4.0, 8.0))
    )
    assert not export(d, grid(d, 10))[1]


def test_a_bad_question_also_drops_the_parts_that_would_repeat_it():
    d = dialogue(question("<image>?", 0.0), question("Good?", 300.0))
    rows, rejected = export(d, grid(d, 225))
    assert [r.item_id for r in rejected] == ["v1#0", "v1#0@148000"]
    assert [row["question_id"] for row in rows] == ["v1#0@300000"]


def test_no_rows_make_a_table_and_no_turns_make_no_rows():
    assert sft_table([]).schema == table_schema("sft")
    assert export(monitoring(20), ()) == ([], [])


texts = st.text(max_size=30) | st.sampled_from(
    ["<image>", "a<image>b", "user", "assistant\n", "NO REPLY", "é\n"]
)


@st.composite
def random_turns(draw):
    per_turn = draw(st.integers(1, 3))
    frames = draw(st.integers(1, 60))
    turns = []
    for first in range(1, frames + 1, per_turn):
        last = min(first + per_turn - 1, frames)
        reply = draw(st.none() | texts)
        turns.append(
            Turn(
                time=last * 0.5,
                first_frame=first,
                last_frame=last,
                user=draw(st.none() | texts),
                label="silent" if reply is None else "reply",
                text=NO_REPLY if reply is None else reply,
            )
        )
    return turns


@given(random_turns(), st.integers(3, 40))
def test_rows_keep_the_contract_whatever_the_text(turns, max_frames):
    d = dialogue(question("Q?", 0.0))
    rows, rejected = export(d, turns, ExportOptions(max_frames=max_frames), 0.5)
    for row in rows:
        check_row(row)
        assert 0 < len(row["images"]) <= max_frames
    names = [row["question_id"] for row in rows] + [r.item_id for r in rejected]
    assert len(set(names)) == len(names) > 0
    kept = sum(len(row["turn_times"]) for row in rows)
    assert kept == len(turns) or rejected


def test_a_long_silence_at_the_end_is_left_out_with_a_row_that_says_so():
    d = dialogue(question("What is being done?", 0, answer("A door opens.", 4, 8)))
    turns = grid(d, 40)
    [whole], _ = export(d, turns)
    [row], [rejection] = export(d, turns, msgspec.structs.replace(OPTIONS, silent_tail=20.0))
    check_row(row)
    assert row["turn_times"] == whole["turn_times"][:7] == [4, 8, 12, 16, 20, 24, 28]
    assert row["messages"] == whole["messages"][:15]
    assert (rejection.code, rejection.item_id) == ("silence_balance", "v1#0")
    assert "13 silent turns after 28 s" in rejection.detail


@pytest.mark.parametrize("weights", ["none", "inverse_length", "class_balanced"])
def test_every_part_of_a_dialogue_has_a_weight_a_turn_that_averages_one(weights):
    d = monitoring(440)
    rows, _ = export(d, grid(d, 225), msgspec.structs.replace(OPTIONS, weights=weights))
    assert len(rows) == 3
    for row in rows:
        assert len(row["turn_weights"]) == len(row["turn_times"])
        assert sum(row["turn_weights"]) / len(row["turn_weights"]) == pytest.approx(1, abs=1e-5)
