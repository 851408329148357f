"""Dialogues as ProactiveVideoQA items, and back."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from datagen.config import Config
from datagen.export.benchmark import benchmark_items, gold_items, gold_statistics
from datagen.sources.proactive_videoqa import Item, item_dialogue
from tests.export.samples import INTERVAL, answer, dialogue, grid, monitoring, question

TWO = dialogue(
    question("What is being done?", 0.0, answer("He saws.", 2.0, 10.0), answer("He drills.", 14.0, 22.0)),
    question("And with the paint?", 30.0, answer("She stirs it.", 34.0, 41.0), kind="monitor"),
)


def items_of(made, frames=30):
    return benchmark_items(made, "v1.mp4", frames * INTERVAL, grid(made, frames), INTERVAL)


def texts(shown):
    return [block["text"] for turn in shown["conversation"] for block in turn["content"] if "text" in block]


def images(shown):
    turns = shown["conversation"]
    return [block["image"] for turn in turns for block in turn["content"] if block["type"] == "image"]


def test_each_question_is_an_item_with_its_own_answers():
    (first, _), (second, _) = items_of(TWO)
    assert (first.question_id, second.question_id) == ("v1#0/q0", "v1#0/q1")
    assert [a.content for a in first.answer] == ["He saws.", "He drills."]
    assert [a.related_timespan for a in first.answer] == [(2.0, 10.0), (14.0, 22.0)]
    assert [(said.content, said.time) for said in second.conversation] == [("And with the paint?", 30.0)]
    assert second.answer[0].type == "monitor"
    assert items_of(monitoring(50))[0][0].question_id == "v1#0"


def test_the_model_is_shown_all_frames_from_the_start_and_asked_from_the_question_on():
    (_, first), (_, second) = items_of(TWO)
    assert texts(first) == ["What is being done?"]
    assert texts(second) == ["And with the paint?"]
    assert images(first) == [f"frames/v1/{n:06d}.jpg" for n in range(1, 15)]  # 28 s: the turn before 30 s
    assert images(second) == [f"frames/v1/{n:06d}.jpg" for n in range(1, 31)]
    waiting = [turn.get("skip_inference", False) for turn in second["conversation"]]
    asked = next(n for n, turn in enumerate(second["conversation"]) if turn["content"][-1]["type"] == "text")
    assert waiting == [n < asked for n in range(len(waiting))]
    assert asked == 7  # at 32 s, with turns of 4 s
    assert not any(turn.get("skip_inference") for turn in first["conversation"])
    assert not any("must_reply" in turn for turn in first["conversation"] + second["conversation"])


def test_a_question_on_the_last_turn_leaves_that_turn_to_reply_on():
    late = dialogue(question("What was that?", 57.0, answer("A bang.", 50.0, 56.0, immediate=True)))
    ((item, shown),) = items_of(late)
    assert "skip_inference" not in shown["conversation"][-1]
    assert all(turn["skip_inference"] for turn in shown["conversation"][:-1])
    assert item.answer[0].related_timespan == (50.0, 56.0)
    assert item.answer[0].reply_timespan[0] == 60.0


def test_what_silence_answers_or_no_turn_can_earn_is_left_out():
    silent = dialogue(question("Is there a cat?", 0.0), *TWO.questions[1:])
    assert [item.question_id for item, _ in items_of(silent)] == ["v1#0/q1"]
    short = dialogue(question("What?", 0.0, answer("It blinks.", 1.0, 3.0), answer("It stays.", 4.5, 20.0)))
    ((item, _),) = items_of(short)
    assert [a.content for a in item.answer] == ["It stays."]
    assert items_of(dialogue(question("Too late?", 100.0, answer("Yes.", 101.0, 110.0)))) == []


times = st.integers(0, 100_000).map(lambda n: n / 100)


@st.composite
def dialogues(draw):
    def made(text):
        start, end, shown = sorted((draw(times), draw(times), draw(times)))
        one = answer(text, start, end + 0.5)
        return replace(one, evidence_start=start, evidence_end=shown + 0.5)

    words = st.text(min_size=1, max_size=40)
    answers = [made(text) for text in draw(st.lists(words, min_size=1, max_size=4))]
    return dialogue(question(draw(words), draw(times), *answers, kind=draw(words)), id=draw(words))


@given(dialogues(), times)
def test_gold_read_as_a_dialogue_gives_the_same_gold(made, duration):
    gold = gold_items(made, "v.mp4", duration + 1)
    written = msgspec.json.encode(gold)
    again = [
        new
        for item in msgspec.json.decode(written, type=list[Item])
        for new in gold_items(item_dialogue(item), item.video, item.duration)
    ]
    assert msgspec.json.encode(again) == written


def test_gold_has_the_figures_that_its_dialogues_would_have_had():
    made = [monitoring(50, id=f"v{n}#0") for n in range(3)]
    gold = [item for one in made for item in gold_items(one, f"{one.id}.mp4", 60.0)]
    figures = gold_statistics(gold, Config(name="test"))
    total = figures["all"]
    assert (total["videos"], total["dialogues"], total["questions"]) == (3, 3, 3)
    assert total["answers_per_dialogue"] == 5.0
    assert total["mean_seconds"] == 60.0
    assert total["replies"] == 15
    assert set(figures["by_source"]) == {"ProactiveVideoQA"}
