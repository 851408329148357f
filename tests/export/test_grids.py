"""Replies counted for many dialogues at once are those that placing each of them gives."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from datagen.config import ExportOptions
from datagen.dialogue.grid import make_turns
from datagen.export.grids import Spans, count_replies, missed_spans
from tests.export.samples import answer, dialogue, question
from tests.export.test_rl import random_dialogues

PLACEMENTS = ["end", "jitter", "first_evidence", "start"]
GRIDS = [(1.0, 1), (2.0, 1), (2.0, 2), (0.3, 7)]


def one_by_one(dialogues, frames, interval, options):
    made = [make_turns(d, n, interval, options, 60, 3)[0] for d, n in zip(dialogues, frames, strict=True)]
    return [(len(turns), sum(turn.label == "reply" for turn in turns)) for turns in made]


def counted(dialogues, frames, interval, options):
    spans = Spans(dialogues, options, 3)
    turns, replies = count_replies(spans, frames, interval, options.frames_per_turn)
    return list(zip(turns.tolist(), replies.tolist(), strict=True))


@st.composite
def crowded_dialogues(draw):
    """Spans that overlap, are shorter than a turn, and whose evidence ends before or after them."""
    second = st.integers(0, 240).map(lambda n: n / 4)
    questions = []
    for n, ask in enumerate(sorted(draw(st.lists(second, min_size=1, max_size=3)))):
        answers = []
        for k in range(draw(st.integers(0, 5))):
            start = draw(second)
            end = start + draw(st.sampled_from([0.25, 0.5, 2.0, 9.0]))
            one = answer(f"Q{n} A{k}.", start, end, immediate=draw(st.booleans()))
            shown = end + draw(st.sampled_from([-0.25, 0.0, 0.0, 5.0]))
            answers.append(replace(one, evidence_end=shown))
        questions.append(question(f"Question {n}?", ask, *answers))
    return dialogue(*questions)


@settings(deadline=None)
@given(
    st.lists(st.tuples(random_dialogues() | crowded_dialogues(), st.integers(0, 130)), max_size=4),
    st.sampled_from(GRIDS),
    st.sampled_from(PLACEMENTS),
)
def test_what_is_told_is_what_placing_gives(made, grid, placement):
    dialogues, frames = [d for d, _ in made], [n for _, n in made]
    options = ExportOptions(frames_per_turn=grid[1], placement=placement)
    told, placed = (how(dialogues, frames, grid[0], options) for how in (counted, one_by_one))
    assert [turns for turns, _ in told] == [turns for turns, _ in placed]
    for (_, replies), (_, wanted) in zip(told, placed, strict=True):
        assert replies in (-1, wanted)


@pytest.mark.parametrize("grid", GRIDS[:3])
def test_an_ordinary_dialogue_needs_no_placing(grid):
    answers = [answer(f"Step {k}.", 5.0 * k, 5.0 * k + 4.0) for k in range(10)]
    now = answer("So far, nothing.", 30.0, 31.0, immediate=True)
    d = dialogue(question("What is done?", 0.0, *answers[:6]), question("And now?", 30.0, now, *answers[6:]))
    options = ExportOptions(frames_per_turn=grid[1])
    [(_, replies)] = told = counted([d], [int(60 / grid[0])], grid[0], options)
    assert told == one_by_one([d], [int(60 / grid[0])], grid[0], options)
    assert replies >= 9


def test_no_dialogues_and_dialogues_without_questions_have_no_replies():
    turns, replies = count_replies(Spans([], ExportOptions(), 0), [], 1.0, 1)
    assert turns.tolist() == replies.tolist() == []
    turns, replies = count_replies(Spans([dialogue()], ExportOptions(), 0), [5], 1.0, 2)
    assert (turns.tolist(), replies.tolist()) == ([3], [0])


def test_spans_between_two_turns_are_missed():
    d = dialogue(question("What?", 0.0, answer("One.", 4.5, 5.5), answer("Two.", 8.2, 8.9)))
    held, missed = missed_spans(Spans([dialogue(), d], ExportOptions(), 0), 2, 2.0)
    assert (held.tolist(), missed.tolist()) == ([0, 2], [0, 2])
    held, missed = missed_spans(Spans([d], ExportOptions(), 0), 1, 1.0)
    assert (held.tolist(), missed.tolist()) == ([2], [1])
