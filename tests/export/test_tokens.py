"""Rows bounded by tokens: counted by the rule or by a real processor, split at turns, never truncated."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from PIL import Image

from datagen.config import Config, ExportOptions
from datagen.errors import UsageError
from datagen.export.rl import rl_rows
from datagen.export.sft import sft_rows, sft_table
from datagen.export.tokens import TokenCounter
from datagen.records import NO_REPLY
from tests import tiny_models
from tests.export.samples import COUNTER, answer, built, dialogue, grid, monitoring, question

OPTIONS = ExportOptions(max_frames=1000)


def sft(d, turns, max_tokens, counter=COUNTER):
    return sft_rows(built(d), d, turns, replace(OPTIONS, max_tokens=max_tokens), 2.0, counter)


def said(row):
    return [text for text in row.texts[2::2] if text != NO_REPLY]


VIDEO = built().video
"""640 x 360: frames of 392 x 224, which are 14 x 8 tokens."""


def test_a_frame_is_worth_its_pixels_and_text_no_less_than_its_words():
    one, two = COUNTER.turns(grid(monitoring(8), 4), VIDEO)
    [single] = COUNTER.turns(grid(monitoring(8), 1), VIDEO)
    assert one - COUNTER.turns(grid(monitoring(8), 4, per_turn=1), VIDEO)[0] == 112 + 2
    assert single < one
    assert two < one, "only the first turn asks"
    asked = COUNTER.opening("Вопрос? 一二三") - COUNTER.opening()
    assert asked == 2 * 6 + 1 + 2 * 3


def test_a_row_beyond_the_bound_is_split_at_turns_and_nothing_is_lost():
    d = monitoring(440)
    turns = grid(d, 225)
    [whole], _ = sft(d, turns, None)
    rows, rejected = sft(d, turns, 8192)
    assert not rejected
    assert len(rows) == 4
    assert max(row.tokens for row in rows) <= 8192 < whole.tokens
    assert [text for row in rows for text in row.texts[2::2]] == whole.texts[2::2]
    assert [n for row in rows for n in row.frames] == whole.frames
    assert [row.texts[1] for row in rows] == ["What is being done?"] * 4
    assert sft_table(rows)["num_tokens"].to_pylist() == [row.tokens for row in rows]
    assert sum(row.tokens for row in rows) > whole.tokens, "each opens with the system prompt again"


def test_a_single_turn_beyond_the_bound_is_rejected_and_its_neighbours_stay():
    long = " ".join(f"word{n}" for n in range(2000))
    d = dialogue(
        question("What?", 0.0, answer("Early.", 2, 8), answer(long, 10, 16), answer("Late.", 18, 40))
    )
    turns = grid(d, 20)
    rows, [rejection] = sft(d, turns, 4096)
    assert [text for row in rows for text in said(row)] == ["Early.", "Late."]
    assert (rejection.stage, rejection.code) == ("export", "past_max_tokens")
    assert "16 s alone takes" in rejection.detail
    assert sum(len(row.frames) for row in rows) == len(turns) - 1


@given(st.lists(st.integers(0, 400), min_size=1, max_size=40), st.integers(600, 4000), st.integers(1, 3))
def test_whatever_the_lengths_no_row_exceeds_and_each_turn_is_in_a_row_or_rejected(words, bound, per_turn):
    answers = [answer("word " * n + f"{k}.", 4.0 * k, 4.0 * k + 3) for k, n in enumerate(words) if n]
    d = dialogue(question("What?", 0.0, *answers))
    turns = grid(d, 2 * len(words) + 2, per_turn=per_turn)
    rows, rejected = sft(d, turns, bound)
    assert all(row.tokens <= bound for row in rows)
    assert {r.code for r in rejected} <= {"past_max_tokens"}
    assert sum(len(row.frames) for row in rows) + len(rejected) == len(turns)
    ids = [row.question_id for row in rows] + [r.item_id for r in rejected]
    assert len(set(ids)) == len(ids)
    windows, _ = rl_rows(built(d), d, turns, replace(OPTIONS, max_tokens=bound), 2.0, COUNTER)
    assert all(row.tokens <= bound for row in windows)
    for row in windows:
        due = len(row.user_turns) - (len(row.texts) // 2) + 1
        assert len(row.ground_truth["model_pred_timestamps"]) == due
        shown = sum(block["type"] == "image" for turn in row.user_turns for block in turn["content"])
        assert row.tokens > shown * (112 + 2)


def test_rl_windows_end_where_the_bound_is_and_say_which_answers_lie_beyond():
    d = monitoring(170)
    turns = grid(d, 85)
    full, _ = rl_rows(built(d), d, turns, OPTIONS, 2.0, COUNTER)
    rows, rejected = rl_rows(built(d), d, turns, replace(OPTIONS, max_tokens=6000), 2.0, COUNTER)
    assert len(full) > len(rows) > 0
    late = [r for r in rejected if r.code == "past_max_tokens"]
    assert late and all("first 6000 tokens" in r.detail for r in late)
    assert max(row.tokens for row in full) > 6000 >= max(row.tokens for row in rows)


def test_without_transformers_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UsageError, match=r"export.tokenizer: needs transformers: pip install"):
        TokenCounter(counting_with("anything"))


def counting_with(name):
    return Config(name="t", export=replace(OPTIONS, tokenizer=str(name)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of a vision-language model; only its processor is used."""
    pytest.importorskip("torch")
    return tiny_models.vision_model(tmp_path_factory.mktemp("processor") / "tiny")


def as_blocks(row):
    frames = iter(row.frames)
    messages = [{"role": "system", "content": [{"type": "text", "text": row.texts[0]}]}]
    for n, text in enumerate(row.texts[1:]):
        role = ("user", "assistant")[n % 2]
        images = [{"type": "image"}] * (next(frames) if role == "user" else 0)
        texts = [{"type": "text", "text": text}] if text else []
        messages.append({"role": role, "content": images + texts})
    return messages


@pytest.mark.torch
def test_a_processor_counts_exactly_what_it_makes_of_the_whole_row(folder):
    from transformers import AutoProcessor

    counter = TokenCounter(counting_with(folder))
    processor = AutoProcessor.from_pretrained(folder)
    d = dialogue(
        question("What now? 你好", 0.0, answer("A person puts a pot on the stove. 😀", 2, 8)),
        question("And the handle's door?", 30.0, answer("It turns;\nsee.", 40, 44)),
    )
    rows, _ = sft(d, grid(d, 40), 600, counter)
    assert len(rows) > 1
    for row in rows:
        text = processor.apply_chat_template(as_blocks(row), tokenize=False)
        pictures = [Image.new("RGB", (392, 224))] * sum(row.frames)
        assert row.tokens == len(processor(text=[text], images=pictures)["input_ids"][0]) <= 600


@pytest.mark.torch
def test_a_tokenizer_alone_counts_text_and_the_rule_counts_frames(tmp_path):
    pytest.importorskip("transformers")
    tokenizer = tiny_models.make_tokenizer()
    tokenizer.save_pretrained(tmp_path / "tok")
    counter = TokenCounter(counting_with(tmp_path / "tok"))
    d = monitoring(40)
    [row], _ = sft(d, grid(d, 20), None, counter)
    roles = ["system", *["user", "assistant"] * (len(row.texts) // 2)]
    messages = [{"role": r, "content": text} for r, text in zip(roles, row.texts, strict=True)]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    assert row.tokens == len(tokenizer(text, add_special_tokens=False)["input_ids"]) + 20 * (112 + 2)


@pytest.mark.torch
def test_what_cannot_count_is_named_with_the_reason(tmp_path):
    pytest.importorskip("transformers")
    with pytest.raises(UsageError, match=r"export.tokenizer: .*empty: cannot be loaded"):
        (tmp_path / "empty").mkdir()
        TokenCounter(counting_with(tmp_path / "empty"))
    tokenizer = tiny_models.make_tokenizer()
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path / "silent")
    with pytest.raises(UsageError, match=r"silent: cannot count a dialogue: .*chat_template"):
        TokenCounter(counting_with(tmp_path / "silent"))
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }}{% endfor %}"
    tokenizer.save_pretrained(tmp_path / "mute")
    with pytest.raises(UsageError, match="does not write every message"):
        TokenCounter(counting_with(tmp_path / "mute"))
