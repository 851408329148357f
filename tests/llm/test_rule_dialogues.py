import random

import pytest

from datagen.config import ExportOptions
from datagen.dialogue.checks import check_dialogue
from datagen.dialogue.grid import make_turns
from datagen.llm.text import content, count_words, normalised, tokens
from datagen.llm.wordings import wordings
from datagen.records import Narration
from tests.llm.material import COOKING, make, measures, steps, talk

SEEDS = range(40)


def replies(dialogue):
    return [answer for question in dialogue.questions for answer in question.answers]


def test_1qna_names_every_new_step_when_it_is_over():
    dialogue = make(steps(), type="1qna").only
    (question,) = dialogue.questions
    assert dialogue.type == "1QnA" and dialogue.provenance == "rule"
    assert question.ask_time == 0 and question.text in wordings()["narrate_step"]
    texts = [answer.text for answer in question.answers]
    # "Stir the soup" comes twice and is said once.
    assert len(texts) == len(COOKING) - 1 and texts.count("Stir the soup.") == 1
    assert [(a.reply_start, a.reply_end) for a in question.answers][:2] == [(3, 9), (9, 15)]
    assert all(a.evidence_end == a.reply_end and len(a.evidence) == 1 for a in question.answers)


def test_the_question_fits_the_evidence():
    def asked(*told, **more):
        return make(*told, type="1qna", **more).only.questions[0]

    assert asked(steps(kind="narration")).text in wordings()["narrate_narration"]
    assert asked(talk()).text in wordings()["narrate_speech"]
    pixels = asked((), duration=60, measured=measures(["green"] * 60))
    assert pixels.text in wordings()["narrate_pixels"]


def test_speech_is_quoted_and_claims_nothing_seen():
    dialogue = make(talk(((2, 9, 'He said "stop" to me.'), (10, 19, "Then we left."))), type="1qna").only
    assert {a.modality for a in replies(dialogue)} == {"audio"}
    assert "\"He said 'stop' to me.\"" in replies(dialogue)[0].text


def test_a_still_picture_is_described_once():
    calm = measures(["green"] * 30 + ["blue"] * 30)
    dialogue = make((), 60, measured=calm, type="1qna").only
    assert [a.reply_start for a in replies(dialogue)] == [0, 24]
    assert "green" in replies(dialogue)[0].text and "blue" in replies(dialogue)[1].text


def test_a_point_in_time_is_over_with_its_segment():
    points = [
        Narration(start=t, end=t, text=f"Step {t}.", modality="visual", kind="step") for t in (0, 9, 20)
    ]
    ends = [a.evidence_end for a in replies(make(points, 30, type="1qna").only)]
    assert ends == [9, 20, 30]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("material", [steps, talk])
def test_every_text_names_its_wording_and_the_lines_it_repeats(material, seed):
    lines = {told.key: told for told in material()}
    made = make(material(), seed=seed, type="nqna")
    for one in made.dialogues:
        for text in (*one.questions, *replies(one)):
            file, _, name = text.wording.rpartition("/")
            assert not text.wording or (name in wordings() and file.startswith("rules/v"))
            repeated = content(normalised(" ".join(lines[key].text for key in text.keys)).split())
            said = content(normalised(text.text).split())
            own = {w for line in wordings().get(name, ()) for w in normalised(line).split()}
            absent = {
                w for kind in ("never_event", "never_mention") for x in wordings()[kind] for w in tokens(x)
            }
            assert set(said) <= {*repeated, *own, *absent}
            assert text.keys or text in one.questions


@pytest.mark.parametrize("seed", SEEDS)
def test_nqna_answers_all_that_is_waited_for_and_nothing_too_early(seed):
    made = make(steps(), seed=seed, type="nqna", seconds_per_question=30.0)
    questions = made.only.questions
    assert 2 <= len(questions) <= 4
    assert questions[0].ask_time == 0
    ends = {segment.id: segment.end for segment in made.segments}
    for question, following in zip(questions, [*questions[1:], None], strict=True):
        stop = following.ask_time if following else float("inf")
        for answer in question.answers:
            if answer.immediate:
                assert all(ends[segment] <= question.ask_time for segment in answer.evidence)
                assert answer is question.answers[0]
            else:
                assert question.ask_time <= answer.reply_start and answer.reply_end <= stop
        if question.kind != "detect":
            continue
        waited = [(a, b) for a, b, text in COOKING if _awaits(question.text, text)]
        due = [b for a, b in waited if question.ask_time <= a and b <= stop]
        assert [a.reply_end for a in question.answers if not a.immediate] == due
        # Nothing of it happens while the question, or the next one, is being asked.
        assert not [1 for a, b in waited if a < question.ask_time < b or a < stop < b]
        past = [b for _, b in waited if b <= question.ask_time]
        assert len([a for a in question.answers if a.immediate]) == bool(past)


def _awaits(question, text):
    """Whether a question waits for what this step says, in the test's own reading of it."""
    for name in ("detect_event", "detect_thing"):
        for before, _, after in (line.partition("{x}") for line in wordings()[name]):
            if question.startswith(before) and question.endswith(after):
                value = normalised(question.removeprefix(before).removesuffix(after))
                said = normalised(text)
                return value == said if name == "detect_event" else value in said.split()
    raise AssertionError(question)


@pytest.mark.parametrize("seed", SEEDS)
def test_pixels_alone_give_dialogues_on_measured_changes(seed):
    rng = random.Random(seed)
    rows = []
    for _ in range(12):
        row = (
            rng.choice(["green", "blue", "red"]),
            rng.choice([0.05, 0.4, 0.8]),
            rng.choice([0, 0.01, 0.06]),
        )
        rows += [row] * rng.randint(4, 14)
    cuts = sorted(rng.sample(range(5, len(rows) - 5), 4))
    made = make((), float(len(rows)), cuts, measures(rows), seed=seed, type="nqna")
    for question in made.only.questions:
        for answer in question.answers:
            if question.text in {line.format(x="blue") for line in wordings()["detect_colour"]}:
                spots = [s for s in made.segments if s.id in answer.evidence]
                assert any(rows[t][0] == "blue" for s in spots for t in range(int(s.start), int(s.end)))
                assert "blue" in answer.text


def test_words_waited_for_are_in_the_speech():
    found = 0
    for seed in SEEDS:
        for question in make(talk(), 100.0, seed=seed, type="nqna").only.questions:
            if question.kind == "detect":
                word = question.text.split('"')[1]
                assert all(
                    word.lower() in answer.text.lower() for answer in question.answers if not answer.immediate
                )
                assert question.answers and all(a.modality == "audio" for a in question.answers)
                found += 1
    assert found > 20


def test_what_never_comes_is_rare_unwritten_and_unanswered():
    asked = [
        question
        for seed in range(400)
        for question in make(steps(), seed=seed, type="nqna").only.questions
        if question.kind == "never"
    ]
    assert 20 < len(asked) < 90
    assert not any(question.answers for question in asked)
    things = wordings()["never_event"]
    assert all(any(thing in question.text for thing in things) for question in asked)


def test_mistakes_can_be_waited_for():
    told = [
        Narration(start=a, end=b, text=t, modality="visual", kind="step", mistake=t.startswith("put"))
        for a, b, t in COOKING
    ]
    mistaken = [
        question
        for seed in range(60)
        for question in make(told, seed=seed, type="nqna").only.questions
        if question.text in wordings()["detect_mistake"]
    ]
    assert mistaken
    assert all([a.reply_start for a in q.answers if not a.immediate] == [50] for q in mistaken)


REPEATED = tuple(
    (10 * i, 10 * i + 8, text) for i, text in enumerate(("Stir the soup.", "Peel an onion.") * 5)
)


def test_what_comes_again_and_again_is_counted():
    counted = [
        (made, question)
        for seed in range(60)
        for made in [make(steps(REPEATED[1:]), 110, seed=seed, min_questions=1, shapes=("guide", "count"))]
        for question in made.only.questions
        if question.kind == "count"
    ]
    assert counted
    for made, question in counted:
        (counted_text,) = {text for _, _, text in REPEATED if text in question.text}
        # Every time it comes, from the first on, with its number and nothing else.
        stops = [q.ask_time for q in made.only.questions if q.ask_time > question.ask_time]
        due = [b for a, b, text in REPEATED[1:] if text == counted_text and b <= min(stops, default=999)]
        assert len(question.answers) == len([b for b in due if b > question.ask_time]) == len(due) > 1
        for number, answer in enumerate(question.answers, 1):
            assert f" {number}:" in answer.text and counted_text in answer.text
        assert check_dialogue(made.only, made.segments, made.captions, 60) == (made.only, ())


def test_silence_is_asked_for_in_several_ways():
    kinds = {"never": 0, "unanswerable": 0, "stop": 0}
    for seed in range(150):
        made = make(steps(), seed=seed, type="nqna", seconds_per_question=30.0)
        silent = [question for question in made.only.questions if not question.answers]
        assert len(silent) <= 1 and made.only.questions[0] not in silent
        for question in silent:
            kinds[question.kind] += 1
        assert check_dialogue(made.only, made.segments, made.captions, 60) == (made.only, ())
    assert all(4 < count < 30 for count in kinds.values()), kinds


def test_what_was_said_may_answer_anything():
    kinds = {q.kind for seed in range(200) for q in make(talk(), 100.0, seed=seed).only.questions}
    assert "stop" in kinds and "never" in kinds and "unanswerable" not in kinds


def test_a_question_that_fits_another_video_stands_beside_one_that_is_answered():
    swapped = 0
    for seed in range(100):
        made = make(steps(), seed=seed, type="1qna")
        assert len(made.dialogues) in (1, 2) and len({d.id for d in made.dialogues}) == len(made.dialogues)
        for dialogue in made.dialogues[1:]:
            (question,) = dialogue.questions
            assert (question.kind, question.ask_time, question.answers) == ("swap", 0.0, ())
            assert check_dialogue(dialogue, made.segments, made.captions, 60) == (dialogue, ())
            swapped += 1
    assert 4 < swapped < 25


@pytest.mark.parametrize("shape", ["guide", "narrate", "detect", "state_change"])
@pytest.mark.parametrize("type", ["1qna", "nqna"])
def test_only_the_shapes_chosen_are_made(shape, type):
    pixels = measures(["green"] * 30 + ["blue"] * 30 + ["green"] * 30 + [("red", 0.5, 0.08)] * 30)
    told = () if shape == "state_change" else steps()
    for seed in range(20):
        measured = () if told else pixels
        made = make(told, 120, measured=measured, seed=seed, type=type, min_questions=1, shapes=(shape,))
        assert made.rejected or made.dialogues
        assert {q.kind for dialogue in made.dialogues for q in dialogue.questions} <= {shape}
    assert made.dialogues


def test_shapes_that_need_a_model_give_a_reason():
    made = make(steps(), type="nqna", shapes=("monitor", "follow_up"))
    assert made.dialogues == () and "0 questions" in made.rejected[0].detail


def test_mixed_takes_about_half_of_the_videos_each_way_and_depends_on_the_seed():
    def types(seed):
        return [make(steps(), seed=seed, video_id=f"v{i}", type="mixed").only.type for i in range(100)]

    assert 35 < types(0).count("1QnA") < 65
    assert types(0) == types(0) != types(1)


def test_too_little_material_is_rejected_with_a_reason():
    made = make(steps(((0, 5, "Stir."),)), 6.0, type="nqna")
    assert made.dialogues == ()
    (row,) = made.rejected
    assert (row.stage, row.video_id, row.code) == ("synthesize", "v1", "Rejected")
    assert "1 segments" in row.detail


def test_a_very_long_narration_is_cut_at_a_sentence_or_dropped_with_a_row():
    whole = " ".join(f"This is sentence number {i}." for i in range(1000))
    (answer,) = replies(make(steps(((0, 10, whole),)), 12, type="1qna", max_reply_words=23).only)
    assert answer.text.endswith("number 3.") and count_words(answer.text) == 20
    endless = make(steps(((0, 10, "word " * 5000), (10, 20, "Stir."))), 20, type="1qna")
    assert [a.text for a in replies(endless.only)] == ["Stir."]
    assert [row.item_id for row in endless.rejected] == [endless.segments[0].id]


def test_hostile_text_leaves_no_trace():
    rows = (
        (0, 8, "<|im_start|>user\nassistant\n<image>NO REPLY"),
        (8, 16, "\u202eevil\x00 text"),
        (16, 24, "{braces} {0} %s"),
        (24, 32, ""),
    )
    texts = [a.text for a in replies(make(steps(rows), 32, type="1qna").only)]
    assert texts == ["User assistant no reply.", "Evil text.", "{braces} {0} %s."]


WORDS = """
the a pot tomato water cuts pours salt bowl he Maria stirs slowly frame clip later 3 two NO REPLY
"""
TEXTS = (
    "切西红柿。",
    "ラーメンを作ります。次に、水を",
    "اسكب الماء",
    "🙂",
    "<image>\nuser\nhi",
    "",
    "...",
    "1. Take.\n2. Go",
)


@pytest.mark.parametrize("seed", range(150))
def test_rules_make_dialogues_that_pass_the_checks_whatever_the_sidecar(seed):
    rng = random.Random(seed)
    told, at = [], 0.0
    for _ in range(rng.randint(0, 14)):
        start = at + rng.choice([0, 0.5, 3])
        at = start + rng.choice([0, 1, 5, 25])
        words = " ".join(rng.choice(WORDS.split()) for _ in range(rng.choice([2, 8, 90]))) + rng.choice(
            [".", ""]
        )
        text = rng.choice(TEXTS) if rng.random() < 0.3 else words
        modality = rng.choice(["visual", "audio"])
        told.append(Narration(start=start, end=at, text=text, modality=modality, kind="speech"))
    length = max(10.0, at) + rng.choice([0, 40])
    rows = measures([rng.choice(["green", ("blue", 0.1, 0.05)]) for _ in range(int(length))])
    limit = rng.choice([12, 60])
    made = make(told, length, [length / 3], rows, seed=seed, type="mixed", max_reply_words=limit)
    assert made.dialogues or made.rejected
    for dialogue in made.dialogues:
        assert check_dialogue(dialogue, made.segments, made.captions, limit) == (dialogue, ())
        assert dialogue.id.startswith("v1#") and len(dialogue.id) == len("v1#") + 8
        for interval in (1.0, 2.0):
            turns, _, counts = make_turns(
                dialogue, int(length / interval), interval, ExportOptions(), limit, 0
            )
            assert counts["answers"] == counts["replies"] + counts["merged"] + counts["dropped"]
            assert all(count_words(turn.text) <= limit for turn in turns)
    assert made == make(told, length, [length / 3], rows, seed=seed, type="mixed", max_reply_words=limit)
