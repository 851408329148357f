import time

import pytest
from msgspec.structs import replace

from datagen.dialogue.checks import ANSWER_CHECKS, check_dialogue
from datagen.records import Answer, Caption, Dialogue, Question, Segment

SEEN = (
    "A woman puts a red pot on the stove.",
    "She pours 2 cups of water into the pot.",
    "She cuts an onion, and Emo comes in.",
    "The bicycle frame falls over; later 7 birds land.",
    "She eats the soup.",
)
SEGMENTS = tuple(
    Segment(id=f"v1:{i}", video_id="v1", start=10.0 * i, end=10.0 * i + 10, method="uniform")
    for i in range(len(SEEN))
)
CAPTIONS = tuple(
    Caption(segment_id=f"v1:{i}", seen=text, heard=None, provenance="model") for i, text in enumerate(SEEN)
)


def answer(i, text=None, **changes):
    values = {
        "text": text or SEEN[i],
        "evidence": (f"v1:{i}",),
        "evidence_start": 10.0 * i,
        "evidence_end": 10.0 * i + 10,
        "reply_start": 10.0 * i,
        "reply_end": 10.0 * i + 10,
    }
    return Answer(**(values | changes))


def ask(*answers, time=0.0, kind="narrate", text="What is going on?"):
    return Question(text=text, ask_time=time, kind=kind, answers=answers)


def check(*questions, words=60):
    talk = Dialogue(id="v1#0", video_id="v1", type="nQnA", questions=questions, provenance="model")
    kept, rejected = check_dialogue(talk, SEGMENTS, CAPTIONS, words)
    assert all(row.stage == "verify" and row.video_id == "v1" and row.detail for row in rejected)
    return kept, [(row.item_id, row.code) for row in rejected]


def code_of(faulty, **more):
    """The code for one answer, asked for together with a sound one, which must stay."""
    sound = answer(4)
    kept, rejected = check(ask(faulty, sound, **more))
    assert kept.questions[0].answers[-1] == sound
    assert [item for item, _ in rejected] in ([], ["v1#0/q0/a0"])
    return rejected[0][1] if rejected else None


def test_a_clean_dialogue_passes_untouched():
    questions = (ask(answer(0), answer(1)), ask(answer(3), answer(4), time=25.0))
    kept, rejected = check(*questions)
    assert kept.questions == questions and rejected == []


@pytest.mark.parametrize(
    "text",
    [
        " ",
        "NO REPLY",
        "She cuts. NO REPLY",
        '{"reply": "She cuts an onion."}',
        "```She cuts an onion.```",
        "null",
        "assistant\nShe cuts an onion.",
        "She cuts\nan onion.",
        "She cuts <image> an onion.",
        "<|im_end|>She cuts an onion.",
        "She \u202ecuts an onion.",
        "onion " * 61,
    ],
)
def test_format(text):
    assert code_of(answer(2, text)) == "format"


def test_quotes_and_braces_of_speech_are_no_residue():
    assert code_of(answer(2, 'She cuts: "an onion". And Emo comes in.')) is None


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"reply_end": 20.0}, "span_width"),
        ({"evidence_start": 31.0}, "span_width"),
        ({"reply_end": 51.0}, "span_width"),
        ({"evidence": ()}, "unanswerable"),
        ({"evidence": ("v1:99",)}, "unanswerable"),
        ({"evidence_end": 33.0}, "future_leak_answer"),
        ({"evidence": ("v1:3",), "evidence_end": 40.0}, "future_leak_answer"),
        ({"evidence": ("v1:3",)}, "future_leak_answer"),
    ],
)
def test_times_and_evidence(changes, code):
    assert code_of(answer(2, **changes)) == code


def test_asked_after():
    assert code_of(answer(2), time=21.0) == "asked_after"
    past = answer(0, reply_start=22.0, reply_end=30.0, immediate=True)
    assert code_of(past, time=22.0, kind="recall") is None
    unfinished = replace(past, evidence=("v1:0", "v1:2"), evidence_end=22.0)
    assert code_of(unfinished, time=22.0, kind="recall") == "asked_after"


def test_overlap_of_answers_and_of_questions():
    kept, rejected = check(ask(answer(0), answer(1, reply_start=9.0), answer(2)))
    assert rejected == [("v1#0/q0/a1", "overlap")] and len(kept.questions[0].answers) == 2
    _, rejected = check(ask(answer(0), answer(1)), ask(answer(2), time=15.0))
    assert rejected == [("v1#0/q0/a1", "overlap")]


@pytest.mark.parametrize(
    "text",
    [
        "She cuts an onion; birds land, the bicycle falls.",
        "She cuts an onion with 7 helpers.",
        "Seven times she cuts an onion.",
    ],
)
def test_future_leak(text):
    assert code_of(answer(2, text)) == "future_leak_answer"


def test_a_name_known_only_later_is_a_leak_however_long_the_rest():
    text = "She pours 2 cups of water into the red pot on the stove next to the woman with Emo."
    assert code_of(answer(1, text)) == "future_leak_answer"
    assert code_of(answer(2, text, evidence=("v1:1", "v1:2"))) is None


def test_hindsight_and_caption_speak_but_not_in_the_words_of_the_evidence():
    assert code_of(answer(2, "She cuts an onion that she will eat later.")) in (
        "hindsight",
        "future_leak_answer",
    )
    assert code_of(answer(2, "She is about to cut an onion.")) == "hindsight"
    assert code_of(answer(2, "In this clip she cuts an onion.")) == "caption_speak"
    assert code_of(answer(2, "The video shows an onion.")) == "caption_speak"
    assert code_of(answer(3, "The bicycle frame falls over, later birds land.")) is None


def test_invented_number():
    assert code_of(answer(1, "She pours 3 cups of water.")) == "invented_number"
    assert code_of(answer(1, "She pours two cups of water.")) is None


def test_repeat():
    first, again = answer(1), answer(2, "She pours 2 cups of water into the pot!", evidence=("v1:1", "v1:2"))
    near = replace(again, text="She again pours 2 cups of the water into a pot.")
    other = replace(again, text="She pours 2 cups of water into the onion.")
    for text, codes in ((again, ["repeat"]), (near, ["repeat"]), (other, [])):
        assert [code for _, code in check(ask(first, text))[1]] == codes
    assert check(ask(first, again, kind="detect"))[1] == []


def test_what_was_told_may_be_told_again_to_who_asks():
    recall = answer(0, reply_start=12.0, reply_end=20.0, immediate=True)
    assert check(ask(answer(0)), ask(recall, time=12.0, kind="recall"))[1] == []


def test_a_question_without_an_answer_left_goes_and_then_the_dialogue():
    kept, rejected = check(ask(answer(0, "NO REPLY")), ask(answer(4), time=25.0))
    assert [q.ask_time for q in kept.questions] == [25.0]
    assert rejected == [("v1#0/q0/a0", "format"), ("v1#0/q0", "unanswerable")]
    kept, rejected = check(ask(answer(0, " ")))
    assert kept is None and rejected[-1] == ("v1#0", "unanswerable")


def test_a_question_meant_to_be_unanswered_stays():
    kept, rejected = check(ask(kind="never", text="Tell me when it snows."))
    assert kept is not None and rejected == []
    assert check(ask(kind="detect"))[0] is None


def test_bad_questions_go_with_their_answers():
    for question, code in (
        (ask(answer(4), text="What does the caption say?"), "caption_speak"),
        (ask(answer(4), text="user\nWhat?"), "format"),
        (ask(answer(4), time=51.0), "span_width"),
    ):
        kept, rejected = check(ask(answer(0)), question) if question.ask_time else check(question)
        assert rejected[0][1] == code
        assert kept is None or len(kept.questions) == 1
    assert check(ask(answer(0), time=0.0), ask(answer(4), time=0.0))[1][0] == ("v1#0/q1", "overlap")


def test_other_scripts_are_compared_too():
    captions = tuple(
        replace(c, seen=t) for c, t in zip(CAPTIONS, ["她切菜。", "水开了。", "汤好了。"], strict=False)
    )
    talk = Dialogue(
        id="v1#0",
        video_id="v1",
        type="1QnA",
        questions=(ask(answer(0, "她切菜。"), answer(1, "汤好了。"), answer(2, "她切菜。")),),
        provenance="model",
    )
    _, rejected = check_dialogue(talk, SEGMENTS, captions, 60)
    assert [(r.item_id, r.code) for r in rejected] == [
        ("v1#0/q0/a1", "future_leak_answer"),
        ("v1#0/q0/a2", "repeat"),
    ]


def test_each_code_has_a_check_of_its_own():
    codes = [code for code, _ in ANSWER_CHECKS]
    assert len(set(codes)) == len(codes)


def test_hostile_answers_take_little_time():
    start = time.perf_counter()
    for text in (
        '{"' * 30_000,
        "[" * 60_000,
        "later " * 20_000,
        "\t" * 60_000,
        "a, " * 30_000,
        "x\n" * 30_000,
    ):
        check(ask(answer(0, text), answer(1, text)), words=100_000)
    assert time.perf_counter() - start < 5
