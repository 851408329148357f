import asyncio
import json
import re
from itertools import pairwise

import pytest

from datagen.config import SILENT_KINDS, DialogueOptions, ExportOptions
from datagen.dialogue.checks import check_dialogue
from datagen.dialogue.grid import make_turns
from datagen.dialogue.judge import judge_answers
from datagen.dialogue.synthesize import synthesize
from datagen.errors import Provider, Refused
from datagen.llm.kinds import WAITING_KINDS
from datagen.llm.text import content, tokens
from datagen.records import Caption, Segment, Video
from tests.llm.scripted import Scripted, faults_in, text_of

SEEN = (
    "A woman puts a red pot on the stove.",
    "She pours water into the pot.",
    "She cuts an onion on a wooden board.",
    "The onion falls into the boiling water.",
    "She stirs the soup with a spoon.",
    "A black cat jumps onto the table.",
    "She pushes the cat away from the plates.",
    "She carries two bowls to the window.",
)
VIDEO = Video(id="v1", digest="0" * 32, name="a", duration=160.0, fps=30.0, width=64, height=36, codec="x")
SEGMENTS = tuple(
    Segment(id=f"v1:{20 * i}", video_id="v1", start=20.0 * i, end=20.0 * i + 20, method="uniform")
    for i in range(len(SEEN))
)
CAPTIONS = tuple(
    Caption(segment_id=s.id, seen=a, heard=None, provenance="m") for s, a in zip(SEGMENTS, SEEN, strict=True)
)
QUESTIONS = (
    "What is the woman doing now?",
    "Tell me what else she does.",
    "And what happens to her now?",
    "Keep me posted on everything, please.",
)


def notes_of(request):
    block = text_of(request, "user").partition("<notes>\n")[2].partition("</notes>")[0]
    return [json.loads(line) for line in block.splitlines()]


def viewer(request):
    """Asks one question after the other, and tells of every stretch in the words of its note."""
    if request.schema == "question":
        return {"question": QUESTIONS[sum(question in text_of(request) for question in QUESTIONS)]}
    last = notes_of(request)[-1]
    return {"from": [last["id"]], "evidence": [last["seen"]], "reply": last["seen"]}


def make(model=viewer, type="nqna", seed=0, captions=CAPTIONS, **options):
    scripted = Scripted(model)
    options = DialogueOptions(type=type, writing="incremental", **options)
    made, rejected = asyncio.run(synthesize(VIDEO, SEGMENTS, captions, options, seed, scripted, "llm"))
    assert all(row.stage == "synthesize" and row.video_id == "v1" and row.detail for row in rejected)
    return made, rejected, scripted.requests


def by_schema(requests, schema):
    return [request for request in requests if request.schema == schema]


def place(mark):
    return int(mark[1:]) - 1


@pytest.mark.parametrize("type", ["1qna", "nqna"])
@pytest.mark.parametrize("seed", range(6))
def test_no_request_for_a_reply_holds_anything_later(type, seed):
    dialogues, _, requests = make(type=type, seed=seed)
    replies = by_schema(requests, "reply")
    given = 0
    for dialogue in dialogues:
        for question in dialogue.questions:
            for answer in question.answers:
                at = max(i for i, s in enumerate(SEGMENTS) if s.id in answer.evidence)
                wrote = [
                    r
                    for r in replies
                    if len(notes_of(r)) == at + 1 and json.dumps(question.text) in text_of(r)
                ]
                assert len(wrote) == 1 and all(text not in text_of(wrote[0]) for text in SEEN[at + 1 :])
                given += 1
    assert given >= 4


@pytest.mark.parametrize("seed", range(12))
def test_questions_know_what_their_asker_knows(seed):
    _, _, requests = make(seed=seed)
    for request in by_schema(requests, "question"):
        tail = text_of(request).rpartition("</notes>")[2]
        kind = tail.partition('of the type "')[2].partition('"')[0]
        ended = re.search(r"stretch s(\d+) has just ended", tail)
        known = int(ended[1]) + 1 if ended else 1
        assert len(notes_of(request)) == (len(SEEN) if kind in WAITING_KINDS else known)


def test_requests_grow_by_a_line_so_that_their_beginning_is_cached():
    _, _, requests = make(type="1qna", max_questions=2)
    replies = sorted(by_schema(requests, "reply"), key=lambda r: len(notes_of(r)))
    for shorter, longer in pairwise(replies):
        beginning = text_of(shorter).partition("</notes>")[0]
        assert text_of(longer).startswith(beginning) and "reply has 3 to" not in beginning


def test_what_is_made_passes_the_checks_and_finds_its_turns():
    for type in ("1qna", "nqna"):
        for seed in range(6):
            dialogues, _, _ = make(type=type, seed=seed)
            assert dialogues
            for dialogue in dialogues:
                assert dialogue.provenance.startswith("llm:question/v1:")
                checked, _ = check_dialogue(dialogue, SEGMENTS, CAPTIONS, 60)
                assert checked == dialogue
                _, dropped, counts = make_turns(dialogue, 80, 2.0, ExportOptions(), 60, 0)
                assert dropped == () and counts["before_evidence_end"] == 0


def test_silence_is_never_asked_again_and_questions_take_over():
    dialogues, _, requests = make(seconds_per_question=40.0, shapes=("narrate", "stop"))
    (dialogue,) = dialogues
    times = [question.ask_time for question in dialogue.questions]
    assert times == sorted(set(times)) and len(times) > 1
    for question, following in zip(dialogue.questions, [*dialogue.questions[1:], None], strict=True):
        for answer in question.answers:
            assert following is None or answer.reply_end <= following.ask_time
    told = [r for r in by_schema(requests, "reply") if "just been asked" not in text_of(r, "user")]
    assert len({len(notes_of(r)) for r in told}) == len(told)


def test_the_model_may_be_silent_and_a_vain_wait_is_a_question_of_its_own():
    def silent(request):
        return (
            viewer(request) if request.schema == "question" else {"from": [], "evidence": [], "reply": None}
        )

    (dialogue, *_), rejected, _ = make(silent, type="1qna", shapes=("detect", "never"))
    assert dialogue.questions[0].kind == "never" and dialogue.questions[0].answers == ()
    dialogues, rejected, _ = make(silent, type="1qna", shapes=("narrate",))
    assert dialogues == () and {row.code for row in rejected} == {"unanswerable"}


def test_a_wait_that_could_not_be_followed_is_no_proof_that_nothing_came():
    def failing(request):
        if request.schema == "question":
            return viewer(request)
        silence = {"from": [], "evidence": [], "reply": None}
        return Refused("no") if len(notes_of(request)) == 4 else silence

    dialogues, rejected, _ = make(failing, type="1qna", shapes=("detect", "never"), seed=1)
    assert dialogues == () and "Refused" in {row.code for row in rejected}
    assert ("v1/question.0/s4", "Refused") in [(row.item_id, row.code) for row in rejected]


def test_what_is_waited_for_is_named_before_it_comes_and_answered_when_it_does():
    wait = "Tell me when the onion falls into the water."

    def waiting(request):
        if request.schema == "question":
            return {"question": wait}
        last = notes_of(request)[-1]
        hit = "falls" in last["seen"]
        return {"from": [], "evidence": [last["seen"]] * hit, "reply": last["seen"] if hit else None}

    (dialogue,), rejected, _ = make(waiting, type="1qna", shapes=("detect",), max_questions=2)
    (question,) = dialogue.questions
    assert (question.kind, [a.evidence for a in question.answers]) == ("detect", [("v1:60",)])
    # The other question was the same again.
    assert {row.code for row in rejected} == {"near_duplicate_question"}
    assert check_dialogue(dialogue, SEGMENTS, CAPTIONS, 60) == (dialogue, ())


def test_a_follow_up_may_say_it():
    def following(request):
        if request.schema == "question":
            first = "earlier questions: []" in text_of(request)
            return {"question": "What is in the red pot?" if first else "And what does she do with it?"}
        return viewer(request)

    (dialogue,), rejected, _ = make(following, shapes=("follow_up", "narrate"), max_questions=2)
    assert [q.kind for q in dialogue.questions] == ["narrate", "follow_up"] and rejected == ()
    assert all(q.answers for q in dialogue.questions)


def test_recall_is_answered_once():
    for seed in range(8):
        dialogues, _, _ = make(seed=seed, shapes=("recall", "narrate"), seconds_per_question=40.0)
        for dialogue in dialogues:
            for question in dialogue.questions:
                if question.kind == "recall" and question.ask_time > 0:
                    assert [answer.immediate for answer in question.answers] == [True]


def test_earlier_replies_are_told_and_those_of_other_questions_are_not():
    _, _, requests = make(type="1qna", max_questions=2, shapes=("narrate", "guide"))
    for request in by_schema(requests, "reply"):
        earlier = json.loads(text_of(request).rpartition("earlier replies: ")[2].partition("\n")[0])
        assert earlier == list(SEEN[: len(notes_of(request)) - 1])


def test_a_reply_that_breaks_the_rules_is_repaired_or_left_out():
    def parrot(request):
        if request.schema == "repair":
            return {"repairs": [{"path": fault["path"], "value": None} for fault in faults_in(request)]}
        value = viewer(request)
        if request.schema == "reply" and len(notes_of(request)) == 3:
            value["reply"] = "The caption says that 17 onions are cut."
        return value

    (dialogue, *_), rejected, requests = make(parrot, type="1qna", shapes=("narrate",))
    assert "v1:40" not in [id for answer in dialogue.questions[0].answers for id in answer.evidence]
    assert len(dialogue.questions[0].answers) == len(SEEN) - 1 and rejected == ()
    (first, *_) = by_schema(requests, "repair")
    assert [fault["path"] for fault in faults_in(first)] == ["/reply"]


def test_a_question_that_nobody_could_ask_is_not_asked():
    def asker(request):
        if request.schema == "question":
            return {"question": "Which segment of the captions is about soup?"}
        return {"repairs": []} if request.schema == "repair" else viewer(request)

    dialogues, rejected, _ = make(asker, type="1qna", max_questions=2)
    assert dialogues == () and [row.code for row in rejected][:2] == ["caption_speak"] * 2


def test_no_shape_that_fits_costs_no_call():
    dialogues, rejected, requests = make(type="1qna", shapes=("recall", "stop"))
    assert dialogues == () and requests == [] and "dialogue.shapes" in rejected[0].detail


def test_a_dead_endpoint_is_not_this_videos_fault():
    with pytest.raises(Provider):
        make(lambda request: Provider("down") if request.schema == "reply" else viewer(request))


def test_the_same_again():
    for type in ("1qna", "nqna"):
        first, again = make(type=type, seed=3), make(type=type, seed=3)
        assert first[:2] == again[:2] and sorted(map(text_of, first[2])) == sorted(map(text_of, again[2]))


def leaker(request):
    """Written at once by one who has seen everything: each reply also tells of the stretch after it."""
    marks = [note["id"] for note in notes_of(request)]
    answers = [
        {
            "segment": marks[i],
            "evidence": [SEEN[i]],
            # Of the later stretch only words that earlier ones hold too, so that no word gives it away.
            "reply": f"{SEEN[i].rstrip('.')} and {'the pot is on the stove' if i != 1 else 'stirs it'}.",
        }
        for i in range(3)
    ]
    return {
        "dialogues": [{"type": "narrate", "question": "What is the woman doing now?", "answers": answers}]
    }


def strict(request):
    """A judge that finds a reply borne out where the notes hold all of its words."""
    known = set(content(tokens(json.dumps(notes_of(request)))))
    said = set(content(tokens(text_of(request).rpartition("reply: ")[2].partition("\n")[0])))
    return {
        "answerable": "yes" if said <= known else "no",
        "earliest_sufficient": None,
        "uses_future": False,
        "contradicts": False,
        "adds_new": True,
        "referent_clear": True,
        "hint": None,
    }


def test_one_who_leaks_on_purpose_is_caught_by_the_judge_and_cannot_when_writing_incrementally():
    options = DialogueOptions(type="1qna")
    written, _ = asyncio.run(
        synthesize(
            VIDEO,
            SEGMENTS,
            CAPTIONS,
            options,
            0,
            Scripted(lambda r: {"repairs": []} if r.schema == "repair" else leaker(r)),
            "llm",
        )
    )
    (dialogue,) = written
    leaking = [a for a in dialogue.questions[0].answers if "stirs it" in a.text]
    assert len(leaking) == 1
    kept, rejected = asyncio.run(judge_answers(dialogue, SEGMENTS, CAPTIONS, Scripted(strict), "judge"))
    assert [(row.item_id, row.code) for row in rejected] == [(f"{dialogue.id}/q0/a1", "future_leak_answer")]
    assert kept and len(kept.questions[0].answers) == len(dialogue.questions[0].answers) - 1
    # One that writes as it goes has nothing to leak from: what it makes up is no truth about later.
    _, _, requests = make(type="1qna")
    assert all("stirs" not in text_of(r) for r in by_schema(requests, "reply") if len(notes_of(r)) < 5)


def test_types_are_those_chosen():
    seen = set()
    for seed in range(40):
        dialogues, _, _ = make(
            seed=seed, shapes=("guide", "swap"), seconds_per_question=40.0, min_questions=2
        )
        seen |= {question.kind for dialogue in dialogues for question in dialogue.questions}
    assert seen == {"guide", "swap"} and "swap" in SILENT_KINDS
