import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from datagen.dialogue.tighten import tighten
from datagen.errors import Provider, Refused
from datagen.llm.chat import Picture
from datagen.records import Answer, Dialogue, Question, Segment, Watched
from tests.llm.scripted import Scripted, text_of

INTERVAL = 2.0
SEGMENT = Segment(id="v1:20000-60000", video_id="v1", start=20.0, end=60.0, method="uniform")
ANSWER = Answer(
    text="The pot boils over.",
    evidence=(SEGMENT.id,),
    evidence_start=20.0,
    evidence_end=60.0,
    reply_start=20.0,
    reply_end=60.0,
)


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frames")
    (folder / "v1").mkdir()
    for number in range(1, 41):
        (folder / "v1" / f"{number:06d}.jpg").write_bytes(bytes([number]))
    return folder


def talk(*answers):
    question = Question(text="What does the pot do?", ask_time=0.0, kind="monitor", answers=answers)
    return Dialogue(id="v1#0", video_id="v1", type="1QnA", questions=(question,), provenance="m")


def numbers(request):
    return [
        int(part.name[3:9])
        for message in request.messages
        for part in message.parts
        if isinstance(part, Picture)
    ]


def shown_until(time):
    """A model that sees the truth: all of it has been shown by `time`."""
    return lambda request: {"sufficient": "yes" if numbers(request)[-1] * INTERVAL >= time else "no"}


def tightened(frames, reply, answer=ANSWER, segment=SEGMENT, count=40):
    model = Scripted(reply)
    watched = Watched(duration=80.0, frame_count=count)
    dialogue = asyncio.run(tighten(talk(answer), (segment,), watched, model, "vlm", frames, INTERVAL))
    return dialogue.questions[0].answers[0], model.requests


@settings(max_examples=80, deadline=None)
@given(st.floats(0, 79), st.floats(3, 60), st.floats(0, 80))
def test_the_reply_is_due_from_the_first_frame_that_suffices_in_a_handful_of_calls(
    frames, start, length, true
):
    segment = replace(SEGMENT, start=start, end=min(80.0, start + length))
    span = {"evidence_start": segment.start, "evidence_end": segment.end}
    answer = replace(ANSWER, **span, reply_start=segment.start, reply_end=segment.end)
    inside = [k * INTERVAL for k in range(1, 41) if segment.start < k * INTERVAL < segment.end]
    found, requests = tightened(frames, shown_until(true), answer, segment)
    # The last frame in time, the halvings, and all frames.
    assert len(requests) <= (2 + (len(inside) - 3).bit_length() if len(inside) > 2 else 0)
    sufficient = [time for time in inside if time >= true]
    if sufficient and len(inside) > 2 and sufficient[0] in inside[:-2]:
        expected = replace(answer, evidence_end=sufficient[0], reply_start=sufficient[0])
        assert replace(found, calls=()) == expected
        assert [(call.role, call.prompt) for call in found.calls] == [
            ("tightened", request.prompt) for request in requests
        ]
    else:
        assert found == answer
    for request in requests:
        shown = numbers(request)
        assert shown == sorted(set(shown)) and len(shown) <= 8
        assert all(segment.start <= number * INTERVAL < segment.end for number in shown)
        assert "The pot boils over." in text_of(request)


@pytest.mark.parametrize(("count", "most"), [(2, 0), (3, 2), (4, 3), (10, 5), (20, 7)])
def test_calls_grow_with_the_logarithm_of_the_frames(frames, count, most):
    end = count * INTERVAL - 1
    segment = replace(SEGMENT, start=0.0, end=end)
    answer = replace(ANSWER, evidence_start=0.0, evidence_end=end, reply_start=0.0, reply_end=end)
    for first in range(count + 1):
        _, requests = tightened(frames, shown_until(first * INTERVAL), answer, segment)
        assert len(requests) <= most


@pytest.mark.parametrize(
    "reply",
    [
        {"sufficient": "unsure"},
        {"sufficient": "no"},
        Refused("no"),
        "I think so.",
        lambda r: {"sufficient": "yes" if numbers(r)[-1] == 27 else "unsure"},
        # Enough early on, but not the whole: it guesses.
        lambda r: {"sufficient": "yes" if numbers(r)[-1] <= 27 else "no"},
    ],
)
def test_whoever_is_unsure_or_contradicts_himself_leaves_the_span_as_it_is(frames, reply):
    found, requests = tightened(frames, reply)
    assert found == ANSWER and requests


def test_what_needs_no_eyes_is_not_asked_about(frames):
    for change in ({"modality": "audio"}, {"immediate": True}, {"evidence": ("v1:0-1",)}, {"evidence": ()}):
        answer = replace(ANSWER, **change)
        found, requests = tightened(frames, shown_until(30.0), answer)
        assert found == answer and requests == []


def test_a_reply_that_waits_for_another_one_is_not_due_before_it(frames):
    answer = replace(ANSWER, reply_start=40.0)
    found, requests = tightened(frames, shown_until(44.0), answer)
    assert (found.evidence_end, found.reply_start, found.evidence_start) == (44.0, 44.0, 20.0)
    assert min(min(numbers(r)) for r in requests) == 20


def test_missing_frames_leave_the_span_and_a_dead_endpoint_is_no_answer(frames, tmp_path):
    assert tightened(tmp_path, shown_until(30.0)) == (ANSWER, [])
    with pytest.raises(Provider):
        tightened(frames, Provider("down"))


def test_the_last_moment_leaves_room_for_a_turn(frames):
    assert tightened(frames, shown_until(56.5))[0] == ANSWER
    assert tightened(frames, shown_until(53.5))[0].reply_start == 54.0
