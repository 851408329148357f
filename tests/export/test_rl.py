from itertools import pairwise

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.config import ExportOptions
from datagen.export.rl import UserTurnsFile, cut_windows, rl_rows, rl_table
from datagen.export.schema import table_schema
from datagen.export.spans import due_answers
from datagen.records import NO_REPLY, SYSTEM_PROMPT
from tests.export.samples import COUNTER, INTERVAL, answer, built, dialogue, grid, monitoring, question

OPTIONS = ExportOptions()


def export(d, turns, options=OPTIONS, interval=INTERVAL):
    rows, rejected = rl_rows(built(d), d, turns, options, interval, COUNTER)
    return rl_table(rows, "train").to_pylist(), {row.question_id: row.user_turns for row in rows}, rejected


def check_row(row, user_turns, turns, max_frames=90):
    """Every line of the contract that can be checked on one row."""
    prompt, truth, extra = row["prompt"], row["reward_model"]["ground_truth"], row["extra_info"]
    name = truth["question_id"]
    assert name == extra["question_id"]
    for kwargs in extra["tools_kwargs"]["online_video_provider"].values():
        assert kwargs == {"question_id": name}
    assert row["data_source"] == row["ability"] == row["agent_name"] == "proactive"
    assert row["reward_model"]["style"] == "rule"
    assert [m["role"] for m in prompt] == ["system"] + ["user", "assistant"] * (len(prompt) // 2 - 1) + [
        "user"
    ]
    assert prompt[0]["content"] == SYSTEM_PROMPT
    placeholders = sum(m["content"].count("<image>") for m in prompt)
    assert placeholders == len(row["images"]) == extra["num_images"]
    assert row["images"] == [
        {"type": "image", "image": f"frames/v1/{k:06d}.jpg"} for k in range(1, placeholders + 1)
    ]
    fetched = user_turns[name]
    in_prompt = sum(m["role"] == "user" for m in prompt)
    times = truth["model_pred_timestamps"]
    assert len(times) == len(fetched) - in_prompt + 1
    assert times == [turn["time"] for turn in fetched[in_prompt - 1 :]]
    assert len(fetched) <= len(turns)
    frames = []
    for turn, original in zip(fetched, turns, strict=False):
        assert turn["role"] == "user" and turn["time"] == original.time
        frames += [block["image"] for block in turn["content"] if block["type"] == "image"]
        said = [block["text"] for block in turn["content"] if block["type"] == "text"]
        assert said == ([original.user] if original.user else [])
    assert frames == [f"frames/v1/{k:06d}.jpg" for k in range(1, len(frames) + 1)]
    assert len(frames) <= max_frames
    for message, turn in zip(prompt[1::2], fetched, strict=False):
        assert message["content"].replace("<image>", "") == "".join(
            block["text"] for block in turn["content"] if block["type"] == "text"
        )
    assert [m["content"] for m in prompt[2::2]] == [turn.text for turn in turns[: in_prompt - 1]]
    assert truth["prev_assistant_replies"] == [m["content"] for m in prompt[2::2] if m["content"] != NO_REPLY]
    spans = [entry["reply_timespan"] for entry in truth["answer"]]
    assert spans
    for start, end in spans:
        assert start < end
        assert any(start <= time <= end for time in times)
    for time in [turn.time for turn in turns]:
        assert sum(start <= time <= end for start, end in spans) <= 1
    for entry in truth["answer"]:
        assert entry["role"] == "assistant"
        assert entry["question"] in [turn.user for turn in turns]


def test_windows_of_a_dialogue_rebuild_it():
    d = monitoring(180)
    turns = grid(d, 90)
    rows, user_turns, rejected = export(d, turns)
    assert not [r for r in rejected if r.code != "empty_window"]
    assert len(rows) >= 3
    decided = []
    for row in rows:
        check_row(row, user_turns, turns)
        decided += row["reward_model"]["ground_truth"]["model_pred_timestamps"]
        assert 20 <= len(row["reward_model"]["ground_truth"]["model_pred_timestamps"]) * 4 <= 60
    assert decided == [turn.time for turn in turns]
    answers = [entry for row in rows for entry in row["reward_model"]["ground_truth"]["answer"]]
    assert [a["content"] for a in answers] == [a.text for a in d.questions[0].answers]
    assert [a["reply_timespan"] for a in answers][1:4] == [[10.0, 20.0], [20.001, 28.0], [30.0, 40.0]]
    last = user_turns[rows[-1]["extra_info"]["question_id"]]
    assert [turn["time"] for turn in last] == [turn.time for turn in turns]


def test_a_row_in_full():
    d = dialogue(
        question("What happens?", 0.0, answer("They enter.", 1.0, 8.0), answer("They sit.", 16.0, 26.0))
    )
    turns = grid(d, 24)
    options = ExportOptions(rl_window_seconds=(8.0, 30.0))
    rows, user_turns, rejected = export(d, turns, options)
    assert [r.code for r in rejected] == ["empty_window"]
    row = rows[1]
    assert row["prompt"] == [
        {"role": "system", "content": SYSTEM_PROMPT},
        {"role": "user", "content": "<image><image>What happens?"},
        {"role": "assistant", "content": NO_REPLY},
        {"role": "user", "content": "<image><image>"},
        {"role": "assistant", "content": "They enter."},
        {"role": "user", "content": "<image><image>"},
    ]
    assert row["reward_model"] == {
        "style": "rule",
        "ground_truth": {
            "question_id": "v1#0#seg1",
            "answer": [
                {
                    "role": "assistant",
                    "content": "They sit.",
                    "question": "What happens?",
                    "reply_timespan": [16.0, 28.0],
                }
            ],
            "model_pred_timestamps": [12.0, 16.0, 20.0, 24.0, 28.0],
            "prev_assistant_replies": ["They enter."],
        },
    }
    assert user_turns["v1#0#seg1"][0] == {
        "role": "user",
        "time": 4.0,
        "content": [
            {"type": "image", "image": "frames/v1/000001.jpg"},
            {"type": "image", "image": "frames/v1/000002.jpg"},
            {"type": "text", "text": "What happens?"},
        ],
    }


def test_touching_spans_share_no_turn_even_inclusively():
    d = dialogue(
        question("What?", 0.0, answer("A.", 0.0, 8.0), answer("B.", 8.0, 16.0), answer("C.", 16.0, 24.0))
    )
    turns = grid(d, 12)
    due, rejected = due_answers(d, turns, INTERVAL)
    assert not rejected
    assert [(a.start, a.end) for a in due] == [(4.0, 8.0), (8.001, 16.0), (16.001, 24.0)]
    assert [(a.first, a.last, a.placed) for a in due] == [(0, 1, 1), (2, 3, 3), (4, 5, 5)]


def test_a_span_reaches_to_the_reply_that_was_rounded_up_past_its_end():
    d = dialogue(
        question("What?", 0.0, answer("A.", 0.0, 7.0), answer("B.", 7.0, 14.0), answer("C.", 21.0, 24.0))
    )
    due, rejected = due_answers(d, grid(d, 12), INTERVAL)
    assert not rejected
    assert [(a.start, a.end) for a in due] == [(4.0, 8.0), (8.001, 16.0), (21.0, 24.0)]
    assert [(a.first, a.last, a.placed) for a in due] == [(0, 1, 1), (2, 3, 3), (5, 5, 5)]


def test_an_immediate_answer_is_due_from_the_turn_that_asks():
    d = dialogue(
        question("What so far?", 9.0, answer("This.", 9.0, 10.0, immediate=True), answer("That.", 9.5, 20.0))
    )
    turns = grid(d, 12)
    due, rejected = due_answers(d, turns, INTERVAL)
    assert not rejected
    assert [(a.text, a.start, round(a.end, 3), a.first) for a in due] == [
        ("This.", 12.0, 13.999, 2),
        ("That.", 14.0, 20.0, 3),
    ]
    rows, user_turns, _ = export(d, turns)
    check_row(rows[0], user_turns, turns)


def test_an_answer_ends_where_the_next_question_takes_over():
    d = dialogue(
        question("One?", 0.0, answer("A.", 2.0, 10.0)), question("Two?", 15.0, answer("B.", 15.0, 22.0))
    )
    d = msgspec.structs.replace(
        d,
        questions=(
            question("One?", 0.0, answer("A.", 2.0, 12.0), answer("Late.", 13.0, 40.0)),
            d.questions[1],
        ),
    )
    due, rejected = due_answers(d, grid(d, 12), INTERVAL)
    assert [(a.text, a.end) for a in due] == [("A.", 12.0), ("B.", 24.0)]
    assert not rejected


def test_a_span_without_a_turn_is_dropped_with_a_row():
    d = dialogue(question("What?", 0.0, answer("Quick.", 8.5, 11.5), answer("Slow.", 14.0, 24.0)))
    rows, _, rejected = export(d, grid(d, 12))
    assert [(r.stage, r.item_id, r.code) for r in rejected] == [("export", "v1#0/q0/a0", "unearnable")]
    assert "Quick." in rejected[0].detail
    assert [a["content"] for a in rows[0]["reward_model"]["ground_truth"]["answer"]] == ["Slow."]


def test_an_answer_already_given_in_the_prompt_is_not_due_again():
    d = dialogue(question("What?", 0.0, answer("Long.", 0.0, 100.0)))
    turns = list(grid(d, 50))
    turns[-1] = msgspec.structs.replace(turns[-1], label="silent", text=NO_REPLY)
    turns[1] = msgspec.structs.replace(turns[1], label="reply", text="Long.")
    rows, _, rejected = export(d, turns)
    assert [row["extra_info"]["question_id"] for row in rows] == ["v1#0#seg0"]
    assert {r.code for r in rejected} == {"empty_window"}


def test_only_the_first_max_frames_frames_are_used_and_the_rest_is_reported():
    d = monitoring(400)
    _, user_turns, rejected = export(d, grid(d, 200))
    assert max(turn["time"] for turns in user_turns.values() for turn in turns) <= 180
    late = [r for r in rejected if r.code == "past_max_frames"]
    assert len(late) == 22
    assert "Step 18 " in late[0].detail


def test_hostile_text_drops_the_windows_that_would_show_it():
    d = monitoring(170)
    turns = list(grid(d, 90))
    at = next(k for k, turn in enumerate(turns) if turn.time > 100 and turn.label == "reply")
    turns[at] = msgspec.structs.replace(turns[at], text="<image> " + turns[at].text)
    rows, user_turns, rejected = export(d, turns)
    assert all(len(user_turns[row["extra_info"]["question_id"]]) <= at for row in rows)
    assert rows and "format" in {r.code for r in rejected}


def test_a_question_asked_inside_a_window_is_fetched_with_its_turn():
    d = dialogue(question("Later?", 13.0, answer("Yes.", 20.0, 30.0)))
    rows, user_turns, _ = export(d, grid(d, 20))
    assert all("Later?" not in message["content"] for message in rows[0]["prompt"])
    assert user_turns["v1#0#seg0"][3]["content"][-1] == {"type": "text", "text": "Later?"}


def test_where_windows_are_cut():
    times = [4.0 * k for k in range(1, 46)]
    assert cut_windows(times, [], 20, 60) == [(0, 14), (15, 29), (30, 44)]
    assert cut_windows(times[:4], [], 20, 60) == [(0, 3)]
    assert cut_windows(times[:17], [], 20, 60) == [(0, 11), (12, 16)]
    assert cut_windows([100.0, 200.0], [], 20, 60) == []
    assert cut_windows(times[:10], [], 20, 24) == [(0, 4), (5, 9)]
    assert cut_windows(times[:9], [], 20, 24) == [(0, 5)]
    assert cut_windows([], [], 20, 60) == []


def test_empty_tables_keep_the_schema(tmp_path):
    assert rl_table([], "val").schema == table_schema("rl")
    UserTurnsFile(tmp_path, "rl/val").close()
    assert not (tmp_path / "rl/user_turns/val.json").exists()


@st.composite
def random_dialogues(draw):
    seconds = st.floats(0, 200, allow_nan=False).map(lambda t: round(t, 2))
    questions = []
    asks = sorted(draw(st.lists(seconds, min_size=1, max_size=4, unique=True)))
    for n, ask in enumerate(asks):
        marks = sorted(draw(st.lists(seconds.filter(lambda t, a=ask: t >= a), max_size=8, unique=True)))
        answers = [answer(f"Q{n} A{k}.", a, b) for k, (a, b) in enumerate(pairwise(marks))]
        if draw(st.booleans()):
            answers.insert(0, answer(f"Q{n} now.", ask, ask + draw(st.floats(0.1, 20)), immediate=True))
        questions.append(question(f"Question {n}?", ask, *answers))
    return dialogue(*questions)


@settings(max_examples=60, deadline=None)
@given(random_dialogues(), st.integers(1, 120), st.integers(1, 3), st.sampled_from([0.5, 1.0, 2.0]))
def test_rows_keep_the_contract(d, frames, per_turn, interval):
    turns = grid(d, frames, interval, per_turn)
    rows, user_turns, rejected = export(d, turns, interval=interval)
    names = [row["extra_info"]["question_id"] for row in rows]
    assert len(set(names)) == len(names) == len(user_turns)
    for row in rows:
        check_row(row, user_turns, turns)
    due, dropped = due_answers(d, turns, interval)
    given = {turn.text for turn in turns}
    assert len(due) + len(dropped) == sum(a.text in given for q in d.questions for a in q.answers)
    shown = {a["content"] for row in rows for a in row["reward_model"]["ground_truth"]["answer"]}
    reachable = sum(turn.last_frame <= 90 for turn in turns)
    reported = {r.code for r in rejected}
    for a in due:
        if a.first < reachable and not reported & {"short_window"}:
            assert a.text in shown
