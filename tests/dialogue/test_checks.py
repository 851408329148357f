import time

import pytest
from msgspec.structs import replace

from datagen.config import CheckOptions
from datagen.dialogue import checks
from datagen.dialogue.checks import CODES, DEFAULTS, check_dialogue
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


def check(*questions, words=60, segments=SEGMENTS, seen=None, heard=None, options=DEFAULTS):
    """What is kept, and (item, code) of the rest; `seen` and `heard` take the place of the captions'."""
    texts = CAPTIONS if seen is None else [replace(c, seen=t) for c, t in zip(CAPTIONS, seen, strict=False)]
    captions = tuple(replace(caption, heard=heard) for caption in texts)
    talk = Dialogue(id="v1#0", video_id="v1", type="nQnA", questions=questions, provenance="model")
    kept, rejected = check_dialogue(talk, segments, captions, words, options)
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
    asked = ask(answer(0, "她切菜。"), answer(1, "汤好了。"), answer(2, "她切菜。"))
    _, rejected = check(asked, seen=("她切菜。", "水开了。", "汤好了。"))
    assert rejected == [("v1#0/q0/a1", "future_leak_answer"), ("v1#0/q0/a2", "repeat")]


def coded(code):
    """The codes of the rows, without those that only follow from a question's going."""
    return [c for item, c in code if "/a" not in item.removeprefix("v1#0")]


@pytest.mark.parametrize(
    ("text", "time", "kind", "code"),
    [
        ("How is the soup eaten?", 0.0, "narrate", "future_leak_question"),
        ("What does Emo do?", 0.0, "narrate", "future_leak_question"),
        ("What are the 7 birds up to?", 0.0, "narrate", "future_leak_question"),
        ("Tell me when she eats the soup.", 0.0, "detect", None),
        ("What is on the stove?", 0.0, "narrate", None),
        ("What does Emo do?", 25.0, "narrate", None),
        ("What does it look like?", 0.0, "narrate", "ambiguous_reference"),
        ("What does she do with them?", 0.0, "narrate", "ambiguous_reference"),
        ("What is he doing?", 0.0, "narrate", "ambiguous_reference"),
        ("What is she doing?", 0.0, "narrate", None),
        ("Tell me what happens, as it happens.", 0.0, "narrate", None),
        ("Is the pot on, and what is in it?", 0.0, "narrate", None),
    ],
)
def test_what_a_first_question_may_name(text, time, kind, code):
    _, rejected = check(ask(answer(4), time=time, kind=kind, text=text))
    assert coded(rejected)[:1] == ([code] if code else [])


def test_the_answers_of_a_question_that_goes_have_rows_too():
    kept, rejected = check(
        ask(answer(0), answer(1), text="What does the caption say?"), ask(answer(4), time=35.0)
    )
    assert [q.ask_time for q in kept.questions] == [35.0]
    assert rejected == [(item, "caption_speak") for item in ("v1#0/q0", "v1#0/q0/a0", "v1#0/q0/a1")]


def test_a_pronoun_may_stand_for_what_was_said_before():
    assert check(ask(answer(0)), ask(answer(4), time=35.0, text="What happens to it?"))[1] == []


def test_silence_where_a_reply_is_due_is_not_taught():
    pours = {"kind": "detect", "text": "Tell me whenever she pours water."}
    assert check(ask(answer(1), **pours))[1] == []
    assert coded(check(ask(answer(4), **pours))[1]) == ["missed_reply", "unanswerable"]
    # Its own answer failed: what is left of the question would be silent there.
    assert coded(check(ask(answer(1, "null"), answer(4), **pours))[1])[0] == "missed_reply"
    # It is asked when that is over, or no longer active by then.
    assert check(ask(answer(4), **pours, time=30.0))[1] == []
    assert check(ask(answer(0), **pours), ask(answer(4), time=11.0))[1] == []
    never = {"kind": "never", "text": "Let me know when birds land."}
    assert coded(check(ask(**never))[1]) == ["missed_reply", "unanswerable"]
    assert check(ask(**never), ask(answer(4), time=35.0))[1] == []


def test_once_is_enough_unless_each_time_is_meant():
    seen = [SEEN[0], "She pours water.", SEEN[2], "She pours water.", SEEN[4]]

    def codes(text):
        question = ask(answer(1, "She pours water."), kind="detect", text=text)
        return [code for _, code in check(question, seen=seen)[1]]

    assert codes("Tell me when she pours water.") == []
    assert codes("Tell me each time she pours water.")[0] == "missed_reply"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("A horse gallops across the beach.", "unanswerable"),
        ("She cuts an onion for Walter.", "unanswerable"),
        ("She is slicing an onion while Emo enters.", None),
        ("Yes, sure.", "guessable"),
        ("It is going on.", "guessable"),
        ("Sure, happy to help with that.", "guessable"),
        ("The cooking continues nicely.", "guessable"),
        ("I'm sorry, I cannot tell.", "format"),
        ("Answer: she cuts an onion.", "format"),
        ("Next, Emo will leave; she cuts an onion.", "hindsight"),
        ("At v1:2 she cuts an onion.", "caption_speak"),
        ("She cuts a dozen onions.", "invented_number"),
        ("She cuts twenty-one onions.", "invented_number"),
        ("She cuts the second onion.", "invented_number"),
    ],
)
def test_replies(text, code):
    assert code_of(answer(2, text)) == code


def test_forms_of_a_word_are_the_same_word():
    assert code_of(answer(1, "Two cups of water are being poured into the pot by her.")) is None


def test_a_count_may_say_how_many_it_makes():
    counted = [answer(1, "Water is poured, that makes one."), answer(2, "That makes two, she cuts an onion.")]
    assert check(ask(*counted, kind="count", text="How many things does she do?"))[1] == []
    counted[1] = replace(counted[1], text="That makes nine, she cuts an onion.")
    assert check(ask(*counted, kind="count", text="How many things does she do?"))[1] == [
        ("v1#0/q0/a1", "invented_number")
    ]


def test_a_reply_joined_from_earlier_ones_is_a_repeat():
    joined = answer(4, f"{SEEN[0]} {SEEN[1]}", evidence=("v1:0", "v1:1", "v1:4"))
    assert check(ask(answer(0), answer(1), joined))[1] == [("v1#0/q0/a2", "repeat")]
    news = replace(joined, text=f"{SEEN[1]} {SEEN[4]}")
    assert check(ask(answer(0), answer(1), news))[1] == []


def test_span_width():
    segments = tuple(replace(s, start=10 * s.start, end=10 * s.end) for s in SEGMENTS)

    def codes(start, end):
        wide = answer(2, evidence_start=200, evidence_end=300, reply_start=start, reply_end=end)
        return [code for _, code in check(ask(wide), segments=segments)[1]][:1]

    assert codes(250, 310) == [] and codes(240, 301) == ["span_width"]
    assert code_of(answer(2, reply_start=5.0, reply_end=30.0)) is None
    assert code_of(answer(2, reply_start=5.0, reply_end=30.1)) == "span_width"


def test_what_was_only_heard_is_not_called_seen():
    def codes(**changes):
        _, rejected = check(ask(answer(2, **changes)), heard="My grandmother taught me this recipe.")
        return [code for _, code in rejected][:1]

    assert codes(text="Her grandmother taught her the recipe.") == ["heard_not_seen"]
    assert codes(text="Her grandmother taught her the recipe.", modality="audio") == []
    assert codes() == []
    assert code_of(answer(2, modality="audio")) == "heard_not_seen"


def test_thresholds_are_options():
    half = answer(2, "She cuts an onion, the bicycle falls.")
    for share, codes in ((0.15, ["future_leak_answer"]), (1.0, [])):
        _, rejected = check(ask(half), options=CheckOptions(leak_share=share, least_coverage=0))
        assert [code for _, code in rejected][:1] == codes


def test_german_nouns_are_no_names():
    seen = ("Die Frau holt den Topf.", "Sie gießt Wasser in den Topf.", "Der Hund frisst das Brot.")
    asked = ask(answer(1, "Jetzt gießt sie das Wasser in den Topf."), answer(2, seen[2]))
    assert check(asked, seen=seen)[1] == []


def test_every_code_is_documented():
    for code in CODES:
        assert f"| {code} |" in checks.__doc__


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
