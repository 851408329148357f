"""ProactiveVideoQA annotations as gold, as dialogues and as a sidecar."""

import json

import pytest

from datagen.errors import Invalid
from datagen.records import Location
from datagen.sources.proactive_videoqa import item_dialogue, read_gold
from datagen.sources.sidecar import read_sidecar
from tests.inspect.gold import answer, item, write_gold

CUTS = answer("Somebody cuts an onion.", 20.5, 76.69, related_end=75.69, type="step")
STIRS = answer("The soup is stirred.", 75.69, 95.41, related_end=94.41, type="substep", num_captions=1)


def test_the_fields_of_every_published_part_are_read(tmp_path):
    subtitled = item("ep1.mp4%Q0", CUTS, video="show=ep1.mp4", duration=96)
    subtitled |= {"frame": "show/ep1", "audio": "ep1.mp3"}
    subtitled["conversation"].append({"role": "user", "content": "Subtitle: (Ann:)Hello.", "time": 0.352})
    first, second = read_gold(write_gold(tmp_path / "anno.json", subtitled, item("k", CUTS, STIRS)))
    assert (first.video, first.question_id, first.duration) == ("show=ep1.mp4", "ep1.mp4%Q0", 96.0)
    assert [said.content for said in first.conversation][1:] == ["Subtitle: (Ann:)Hello."]
    assert second.answer[1].related_timespan == (75.69, 94.41)
    assert second.answer[1].reply_timespan == (75.69, 95.41)


def test_an_item_is_a_dialogue_of_one_question(tmp_path):
    made = item_dialogue(read_gold(write_gold(tmp_path / "g.json", item("k", CUTS, STIRS)))[0])
    (question,) = made.questions
    assert (question.text, question.ask_time) == ("What is happening in the workshop?", 0.0)
    assert [(a.text, a.evidence_end, a.reply_end) for a in question.answers] == [
        ("Somebody cuts an onion.", 75.69, 76.69),
        ("The soup is stirred.", 94.41, 95.41),
    ]


def test_as_a_sidecar_it_tells_what_is_seen_in_the_video_of_that_name(tmp_path):
    other = item("other", answer("A dog barks.", 1.0, 2.0), video="dog.mp4")
    path = write_gold(
        tmp_path / "gold.json",
        item("q1", CUTS, video="soup.mp4"),
        other,
        item("q2", STIRS, answer("", 1.0, 2.0), video="soup.mp4"),
        {"question_id": "q3", "answer": []},
    )
    found = read_sidecar(Location(str(path)), (path.stat().st_size, 1), ("folder/soup.mp4",))
    assert found.format == "proactive_videoqa"
    assert [(n.start, n.end, n.text, n.modality) for n in found.narrations] == [
        (20.5, 75.69, "Somebody cuts an onion.", "visual"),
        (75.69, 94.41, "The soup is stirred.", "visual"),
    ]
    assert [row.item_id for row in found.rejected] == ["gold.json:[2].answer[1]", "gold.json:[3]"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"conversation": []}, "conversation: holds no question"),
        ({"duration": 0}, "duration"),
        ({"duration": None}, "duration"),
        ({"question_id": None}, "question_id"),
        ({"answer": [answer("x", 5.0, 1.0)]}, "answer[0].related_timespan: [5, 1]"),
        ({"answer": [answer("x", -1.0, 1.0)]}, "answer[0].related_timespan"),
        ({"answer": [answer("x", 1.0, 5.0) | {"reply_timespan": [1, 2, 3]}]}, "reply_timespan"),
        ({"answer": [answer(7, 1.0, 2.0)]}, "content"),
        ({"question_id": "good"}, "another item's too"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_item_and_field(tmp_path, change, why):
    path = write_gold(tmp_path / "gold.json", item("good", CUTS), item("bad", CUTS) | change)
    with pytest.raises(Invalid, match=r"gold\.json: item 1: ") as told:
        read_gold(path)
    assert why in str(told.value)


@pytest.mark.parametrize("text", ["", "{}", "[1", '{"a": []}', "[" * 5000, "\x00", "7"])
def test_what_is_no_list_of_items_is_told(tmp_path, text):
    (tmp_path / "gold.json").write_text(text)
    with pytest.raises(Invalid, match=r"gold\.json: "):
        read_gold(tmp_path / "gold.json")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(Invalid, match=r"gold\.json: cannot be read: No such file"):
        read_gold(tmp_path / "gold.json")


@pytest.mark.parametrize("value", [[1, 2], ["text"], [[]], [{"question_id": 1}]])
def test_other_lists_are_no_annotations(tmp_path, value):
    path = tmp_path / "list.json"
    path.write_text(json.dumps(value))
    with pytest.raises(Invalid, match="no known format"):
        read_sidecar(Location(str(path)), (path.stat().st_size, hash(path)), ("v",))
