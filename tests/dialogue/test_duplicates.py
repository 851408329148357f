import json
import random
import subprocess
import sys

import pytest
from msgspec.structs import replace

from datagen.config import DatasetOptions
from datagen.dialogue.duplicates import QuestionIndex, question_hash
from datagen.dialogue.exclusions import language_code, language_of, read_exclusions
from datagen.errors import UsageError
from tests.export.samples import built

LIKE = [
    ("How many times has she stirred the pot so far?", "How many times has she stirred that pot so far?"),
    ("Tell me when the water in the kettle boils.", "Please tell me when the water in the kettle boils!"),
    ("Wie oft hat sie den Topf bisher umgerührt?", "Wie oft hat sie diesen Topf bisher umgerührt?"),
    ("告诉我什么时候锅里的水烧开了", "请告诉我什么时候锅里的水烧开了"),
]
UNLIKE = [
    ("Tell me when the red light turns on.", "Tell me when the cat jumps."),
    ("What is the man doing?", "What has happened so far?"),
    ("How many onions are cut?", "How many potatoes are peeled?"),
]


def jaccard(one, other):
    a, b = ({t[k : k + 3] for k in range(len(t) - 2)} for t in (one, other))
    return len(a & b) / len(a | b)


@pytest.mark.parametrize(("one", "other"), LIKE)
def test_a_reworded_question_joins_the_group_of_the_first(one, other):
    index = QuestionIndex(0.75)
    assert index.add(one) == index.add(other) == 0
    assert len(index.examples) == 1
    assert len(index.asked) == 2


@pytest.mark.parametrize(("one", "other"), UNLIKE)
def test_other_questions_stay_apart(one, other):
    index = QuestionIndex(0.75)
    assert (index.add(one), index.add(other)) == (0, 1)
    assert index.find("Entirely different words here") is None


def test_case_and_punctuation_make_no_difference_and_equal_questions_are_counted():
    index = QuestionIndex(0.8)
    for text in ("What is it?", "what is it", "WHAT  IS IT?!"):
        assert index.add(text) == 0
    assert index.asked == {question_hash("What is it?"): 3}


@pytest.mark.parametrize("text", ["", "?", "a", "ab", "🙂", "a\udcffb", "\0" * 5, "x" * 100_000])
def test_any_text_has_a_group(text):
    index = QuestionIndex(0.8)
    assert index.add(text) == index.add(text) == index.find(text) == 0


def test_pairs_on_either_side_of_the_threshold_are_told_apart_almost_always():
    rng = random.Random(5)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 8))) for _ in range(500)]
    found = {"alike": [], "unlike": []}
    for _ in range(1500):
        one = rng.choices(words, k=14)
        other = [*one]
        for at in rng.sample(range(14), rng.randint(1, 5)):
            other[at] = rng.choice(words)
        one, other = " ".join(one), " ".join(other)
        similarity = jaccard(one, other)
        index = QuestionIndex(0.8)
        index.add(one)
        if similarity >= 0.88:
            found["alike"].append(index.find(other) == 0)
        elif similarity <= 0.7:
            found["unlike"].append(index.find(other) is None)
    for kind, right in found.items():
        assert len(right) > 50, kind
        assert sum(right) / len(right) > 0.97, kind


def test_groups_are_the_same_in_another_process():
    script = (
        "from datagen.dialogue.duplicates import QuestionIndex\n"
        "index = QuestionIndex(.6)\n"
        "print([index.add(f'is the {a} {b} on the {c}') for a in ('red', 'reddish', 'blue')"
        " for b in ('box', 'boxes', 'cup') for c in ('table', 'tables', 'floor')])"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]
    assert 1 < len(set(json.loads(runs[0]))) < 27


def exclusions(tmp_path, videos=None, questions=None):
    paths = {}
    for option, text in (("exclude_videos", videos), ("exclude_questions", questions)):
        if text is not None:
            path = tmp_path / option
            path.write_text(text, encoding="utf-8")
            paths[option] = str(path)
    return read_exclusions(DatasetOptions(**paths))


def test_videos_are_known_by_id_name_file_and_stem(tmp_path):
    listed = exclusions(tmp_path, "v7\n\n  bench/clip one.webm \nabc\n")
    names = {"v7": "x.mp4", "v1": "other/clip one.mp4", "v2": "deep/down/abc.mkv", "v3": "abcd.mp4"}
    found = {}
    for id, name in names.items():
        found[id] = listed.listed_video(replace(built(id=id).video, name=name))
    assert found == {"v7": "v7", "v1": "clip one", "v2": "abc", "v3": None}


def test_a_benchmarks_json_gives_its_videos_and_what_its_users_ask(tmp_path):
    gold = [
        {
            "video": "web/abc.mp4",
            "question_id": "1",
            "conversation": [
                {"role": "system", "content": "You are a helpful assistant."},
                {"role": "user", "content": "Tell me when the chef adds the salt.", "time": 0},
                {"role": "user", "content": [{"type": "image"}]},
                {"role": "assistant", "content": "The chef adds salt."},
            ],
        }
    ]
    listed = exclusions(tmp_path, json.dumps(gold), json.dumps(gold))
    assert listed.videos == {"web/abc.mp4", "abc.mp4", "abc"}
    assert listed.questions.examples == ["tell me when the chef adds the salt"]
    assert listed.listed_question("Tell me when the chef adds salt.") == "tell me when the chef adds the salt"
    assert listed.listed_question("You are a helpful assistant.") is None


@pytest.mark.parametrize(
    "text", ["", " \n\n", "[1, 2]", '{"a": 1}', "[{}]", "[" * 5000, '[{"video": 1}', "\xff"]
)
def test_a_file_of_exclusions_that_says_nothing_is_refused_by_name(tmp_path, text):
    path = tmp_path / "list"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=r"^dataset\.exclude_questions: .*list: "):
        read_exclusions(DatasetOptions(exclude_questions=str(path)))
    with pytest.raises(UsageError, match=r"dataset\.exclude_videos: .*cannot be read"):
        read_exclusions(DatasetOptions(exclude_videos=str(tmp_path / "missing")))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Tell me when this happens: The person drills a hole. It happened just now.", "en"),
        ("Was macht der Mann gerade? Sag mir Bescheid, wenn er damit fertig ist.", "de"),
        ("告诉我什么时候水开了。水现在开了。", "zh"),
        ("¿Qué está haciendo la mujer? La mujer está cortando las verduras.", "es"),
        ("", None),
        ("1 2 3", None),
    ],
)
def test_languages_are_told_where_there_is_enough_text(text, code):
    assert language_of(text) == code


def test_the_language_of_a_tag():
    assert [language_code(t) for t in ("en-US", "EN_gb", " de ", "zh-Hans-CN", "")] == [
        "en",
        "en",
        "de",
        "zh",
        "",
    ]
