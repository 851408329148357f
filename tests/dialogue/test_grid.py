import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.config import ExportOptions
from datagen.dialogue.grid import make_turns
from datagen.records import NO_REPLY, Answer, Dialogue, Question


def answer(start, end, text=None, evidence_end=None, **more):
    evidence = (f"v1:{round(start * 1000):07d}-{round(end * 1000):07d}",)
    values = {
        "text": text or f"Reply to {start:g}.",
        "evidence": evidence,
        "evidence_start": start,
        "evidence_end": end if evidence_end is None else evidence_end,
        "reply_start": start,
        "reply_end": end,
    }
    return Answer(**(values | more))


def dialogue(*questions):
    return Dialogue(id="v1#0", video_id="v1", type="nQnA", questions=questions, provenance="rule")


def ask(time, *answers, text=None):
    return Question(text=text or f"Asked at {time:g}?", ask_time=time, kind="narrate", answers=answers)


def turns_of(talk, frames=30, interval=2.0, words=60, seed=0, **options):
    return make_turns(talk, frames, interval, ExportOptions(**options), words, seed)


def replies(turns):
    return {turn.time: turn.text for turn in turns if turn.label == "reply"}


def test_every_group_of_frames_is_a_turn_at_the_time_of_its_last_frame():
    turns, _, _ = turns_of(dialogue(ask(0, answer(0, 5))), frames=5, interval=0.1)
    assert [(t.time, t.first_frame, t.last_frame) for t in turns] == [(0.2, 1, 2), (0.4, 3, 4), (0.5, 5, 5)]
    assert turns[0].user == "Asked at 0?" and {t.user for t in turns[1:]} == {None}
    assert {t.text for t in turns if t.label == "silent"} == {NO_REPLY}


def test_the_reply_comes_on_the_first_turn_after_the_span():
    turns, rejected, counts = turns_of(dialogue(ask(0, answer(5, 12), answer(13, 17))))
    assert replies(turns) == {12.0: "Reply to 5.", 20.0: "Reply to 13."}
    assert rejected == ()
    assert counts["rounded_past_span"] == 1 and counts["replies"] == 2


@pytest.mark.parametrize(
    ("placement", "time"), [("end", 20.0), ("first_evidence", 16.0), ("start", 4.0), ("jitter", 12.0)]
)
def test_placements(placement, time):
    talk = dialogue(ask(0, answer(3, 20, evidence_end=13.5)))
    turns, _, counts = turns_of(talk, placement=placement, jitter=(0.5, 0.5))
    assert list(replies(turns)) == [time]
    assert counts["before_evidence_end"] == (placement in ("start", "jitter"))


def test_jitter_stays_in_its_range_and_depends_on_the_seed():
    talk = dialogue(ask(0, answer(0, 100)))
    found = {t for s in range(40) for t in replies(turns_of(talk, 60, seed=s, placement="jitter")[0])}
    assert min(found) >= 50 and max(found) <= 76 and len(found) > 3


def test_even_an_early_placement_waits_for_all_but_the_last_evidence():
    merged = answer(0, 20, evidence=("v1:0000000-0009000", "v1:0009000-0020000"))
    unknown = answer(0, 20, evidence=("a", "b"))
    assert list(replies(turns_of(dialogue(ask(0, merged)), placement="start")[0])) == [12.0]
    assert list(replies(turns_of(dialogue(ask(0, unknown)), placement="start")[0])) == [20.0]


def test_an_answer_whose_span_holds_no_turn_joins_the_next():
    turns, rejected, counts = turns_of(dialogue(ask(0, answer(4.5, 6), answer(6, 9))))
    assert replies(turns) == {12.0: "Reply to 4.5. Reply to 6."}
    assert rejected == () and counts["merged"] == 1


def test_without_a_next_answer_in_time_it_is_dropped():
    turns, rejected, counts = turns_of(dialogue(ask(0, answer(4.5, 6), answer(14, 21))))
    assert replies(turns) == {24.0: "Reply to 14."}
    assert [(r.item_id, r.code) for r in rejected] == [("v1#0/q0/a0", "span_width")]
    assert "Reply to 4.5." in rejected[0].detail and counts["dropped"] == 1


def test_joining_keeps_to_the_word_limit():
    turns, rejected, _ = turns_of(dialogue(ask(0, answer(4.5, 6), answer(6, 9))), words=5)
    assert replies(turns) == {12.0: "Reply to 6."} and [r.code for r in rejected] == ["span_width"]


def test_two_answers_due_on_one_turn_become_one_reply():
    talk = dialogue(ask(0, answer(3, 9), answer(7, 11)))
    assert replies(turns_of(talk)[0]) == {12.0: "Reply to 3. Reply to 7."}
    turns, rejected, _ = turns_of(talk, words=4)
    assert replies(turns) == {12.0: "Reply to 3."} and [r.code for r in rejected] == ["overlap"]


def test_a_question_is_over_when_the_next_is_asked():
    turns, rejected, _ = turns_of(dialogue(ask(0, answer(8, 14)), ask(15, answer(18, 24))))
    assert replies(turns) == {24.0: "Reply to 18."}
    assert [(t.time, t.user) for t in turns if t.user] == [(4.0, "Asked at 0?"), (16.0, "Asked at 15?")]
    assert [(r.item_id, r.code) for r in rejected] == [("v1#0/q0/a0", "overlap")]


def test_of_two_questions_on_one_turn_the_later_is_asked():
    turns, rejected, _ = turns_of(dialogue(ask(13, answer(20, 24)), ask(15, answer(20, 24, "Kept."))))
    assert [t.user for t in turns if t.user] == ["Asked at 15?"]
    assert replies(turns) == {24.0: "Kept."}
    assert [(r.item_id, r.code) for r in rejected] == [("v1#0/q0", "overlap"), ("v1#0/q0/a0", "overlap")]


def test_an_immediate_answer_comes_with_its_question_and_not_before_its_evidence():
    early = answer(14, 20, evidence_start=0, evidence_end=16, immediate=True)
    late = answer(14, 20, evidence_start=0, evidence_end=16.5, immediate=True)
    assert list(replies(turns_of(dialogue(ask(14, early)))[0])) == [16.0]
    assert [r.code for r in turns_of(dialogue(ask(14, late)))[1]] == ["asked_after"]


def test_at_the_end_of_the_video_the_last_turn_serves_what_has_been_shown():
    shown, unshown = answer(50, 61, evidence_end=59), answer(50, 61)
    turns, _, counts = turns_of(dialogue(ask(0, shown)))
    assert list(replies(turns)) == [60.0] and counts["on_last_turn"] == 1
    turns, rejected, counts = turns_of(dialogue(ask(0, unshown)))
    assert replies(turns) == {} and [r.code for r in rejected] == ["span_width"]


def test_a_video_without_frames_has_no_turns_and_a_row_for_all():
    turns, rejected, counts = turns_of(dialogue(ask(0, answer(0, 5))), frames=0)
    assert turns == () and len(rejected) == 2 and counts["dropped"] == 1


spans = st.tuples(st.floats(0, 70), st.floats(0, 15), st.floats(0, 1), st.booleans())


@st.composite
def dialogues(draw):
    asks = sorted(draw(st.lists(st.floats(0, 70), min_size=1, max_size=4)))
    questions = []
    for number, time in enumerate(asks):
        answers = []
        for start, length, share, immediate in draw(st.lists(spans, max_size=6)):
            text = draw(st.sampled_from(["Short.", "A reply of six words, truly.", "你好。"])) + f" {start}"
            shown = start + length * share
            values = {"evidence_start": start, "evidence_end": shown, "immediate": immediate}
            answers.append(answer(start, start + length, text, **values))
        questions.append(ask(time, *answers, text=f"Question {number}?"))
    return dialogue(*questions)


@settings(max_examples=300, deadline=None)
@given(
    dialogues(),
    st.integers(0, 70),
    st.sampled_from([0.04, 0.5, 1.0, 2.0, 3.3]),
    st.integers(1, 3),
    st.sampled_from(["end", "jitter", "first_evidence", "start"]),
)
def test_promises_hold_for_any_dialogue(talk, frames, interval, per_turn, placement):
    options = {"frames_per_turn": per_turn, "placement": placement}
    turns, rejected, counts = turns_of(talk, frames, interval, 12, **options)
    assert [t.last_frame for t in turns] == [*range(per_turn, frames, per_turn), frames][: len(turns)]
    assert len(turns) == -(-frames // per_turn)
    assert all(t.time == round(t.last_frame * interval, 6) for t in turns)
    assert all((t.label == "silent") == (t.text == NO_REPLY) for t in turns)
    dropped = [r for r in rejected if "/a" in r.item_id]
    assert counts["answers"] == sum(len(q.answers) for q in talk.questions)
    assert len(dropped) == counts["dropped"] == len({r.item_id for r in dropped})
    assert counts["replies"] + counts["merged"] + counts["dropped"] == counts["answers"]
    assert counts["replies"] == sum(t.label == "reply" for t in turns)
    asked = {t.user: t.time for t in turns if t.user}
    gone = {r.item_id for r in rejected}
    for q, question in enumerate(talk.questions):
        assert (question.text in asked) != (f"v1#0/q{q}" in gone)
        if question.text not in asked:
            continue
        assert asked[question.text] >= question.ask_time
        stop = min((t for t in asked.values() if t > asked[question.text]), default=float("inf"))
        for a, given_answer in enumerate(question.answers):
            if f"v1#0/q{q}/a{a}" in gone:
                continue
            found = [
                t.time for t in turns if asked[question.text] <= t.time < stop and given_answer.text in t.text
            ]
            assert found
            if placement in ("end", "first_evidence") or given_answer.immediate:
                assert max(found) >= given_answer.evidence_end
            assert max(found) >= given_answer.evidence_start or given_answer.immediate
    assert turns_of(talk, frames, interval, 12, **options) == (turns, rejected, counts)


@settings(max_examples=100, deadline=None)
@given(dialogues())
def test_between_intervals_answers_differ_only_with_a_reason(talk):
    everything = {f"v1#0/q{q}/a{a}" for q, x in enumerate(talk.questions) for a in range(len(x.answers))}
    for interval in (1.0, 2.0):
        turns, rejected, counts = turns_of(talk, int(70 / interval), interval)
        reasons = {r.item_id: r for r in rejected}
        given_ids = everything - set(reasons)
        assert len(given_ids) == counts["replies"] + counts["merged"]
        assert all(reasons[item].code and reasons[item].detail for item in everything - given_ids)
        said = " ".join(t.text for t in turns)
        for item in given_ids:
            q, a = (int(part[1:]) for part in item.split("/")[1:])
            assert talk.questions[q].answers[a].text in said
