import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.export.overlap import overlap_judge, says_nothing_new
from datagen.export.pauc import BENCHMARK, PAPER, RELEASED, Settings, Span, pauc, reward
from datagen.records import NO_REPLY

FAULTY = Settings(4, 0.5, released_faults=True)


def exact(top):
    return lambda question, reply, truth: float(top if reply == truth else 0)


def never(earlier, reply):
    return False


def span(start, end, text="Right.", question="What?"):
    return Span(start, end, question, text)


def earn(spans, turns, settings=RELEASED, earlier=(), judge=None, repeats=never):
    times, replies = list(turns), list(turns.values())
    return reward(spans, times, replies, earlier, judge or exact(settings.top), repeats, settings)


def test_the_published_vector():
    points = [(312, 0), (328, 1), (344, 2), (352, 2)]
    assert pauc(311, 360, points, BENCHMARK) == 48.5 / 98


@pytest.mark.parametrize(
    ("settings", "row"),
    [
        (PAPER, (0.125, 1, 0.781, 0.562, 0.453, 0.344, 0.125)),
        (BENCHMARK, (0.25, 1, 0.812, 0.625, 0.531, 0.438, 0.25)),
    ],
)
def test_the_table_of_placements(settings, row):
    top = settings.top
    found = [pauc(20, 60, [], settings)]
    found += [pauc(20, 60, [(20 + 40 * share, top)], settings) for share in (0, 0.25, 0.5, 0.625, 0.75, 1)]
    assert found == pytest.approx(row, abs=0.00051)


def test_the_constants_of_the_five_levels():
    assert pauc(0, 8, [], RELEASED) == 0.125
    assert pauc(0, 8, [(0, 4)], RELEASED) == pauc(0, 8, [(0, 4)], PAPER) == 1
    assert pauc(0, 8, [(8, 4)], RELEASED) == 0.5625
    assert pauc(0, 8, [(8, 4)], PAPER) == 0.125
    assert pauc(0, 8, [(0, 0)], RELEASED) == pauc(0, 8, [(0, 0)], PAPER) == 0


def test_a_whole_reward_by_hand():
    long = "The same fifty characters begin both of these replies: "
    turns = {4.0: long + "one.", 8.0: NO_REPLY, 12.0: long + "two.", 16.0: "Right.", 20.0: NO_REPLY}
    found = earn([span(8, 16)], turns, repeats=lambda earlier, reply: reply.endswith("two."))
    # In [8, 16]: wrong at 12, right at 16; x = 2 and 4 of 8: (.5 * 2 + 0 * 2 + 4 * 4) / 32.
    assert found.pauc == found.spans[0] == 17 / 32
    assert found.repetition == pytest.approx(1 / 3)
    assert found.out_of_span == pytest.approx(1 / 2)
    assert found.common_prefix == pytest.approx(1 / 5)
    assert found.total == pytest.approx(3 * 17 / 32 - 2 / 3 - 0.5 / 2 - 2 / 5)


def test_a_reply_given_again_is_one_reply_and_a_repetition():
    found = earn([span(0, 16)], {0.0: "Wrong.", 4.0: "Wrong.", 8.0: "Right."}, PAPER)
    assert found.pauc == (0 * 8 + 4 * 8) / 64
    assert found.repetition == pytest.approx(1 / 3)
    assert earn([span(0, 16)], {4.0: "Right."}, PAPER, earlier=("Right.",)).repetition == 1


def test_the_benchmark_judges_what_has_been_said_in_the_span_together():
    heard = []

    def judge(question, reply, truth):
        heard.append((question, reply, truth))
        return 2.0

    turns = {0.0: "Not in it.", 4.0: "A.", 8.0: "B.", 12.0: "A."}
    earn([span(4, 16, "A. B.")], turns, BENCHMARK, judge=judge)
    assert heard == [("What?", "A.", "A. B."), ("What?", "A. B.", "A. B.")]


def test_a_judge_that_fails_leaves_the_reply_out_of_its_span():
    found = earn([span(0, 8)], {0.0: "Right.", 4.0: NO_REPLY}, judge=lambda *_: None)
    assert (found.pauc, found.out_of_span) == (0.125, 0)


def test_touching_spans_share_no_turn_unless_as_released():
    spans, turns = [span(0, 8, "A"), span(8, 16, "B")], {4.0: NO_REPLY, 8.0: "A", 12.0: "B"}
    assert earn(spans, turns).spans == (0.5625, 0.78125)
    # As released the turn at 8 counts in both, with the score it has against B.
    assert earn(spans, turns, FAULTY).spans == (0.0625, 0.75)


def test_a_span_without_length_divides_by_zero_only_as_released():
    assert earn([span(4, 4)], {4.0: "Right."}).pauc == 1
    assert earn([span(4, 4)], {4.0: NO_REPLY}).pauc == 0.125
    with pytest.raises(ZeroDivisionError):
        earn([span(4, 4)], {4.0: "Right."}, FAULTY)


def test_spans_without_a_turn_do_not_count_but_for_early_ones_as_released():
    spans, turns = [span(0, 3), span(4, 8), span(9, 11), span(20, 30)], {4.0: "Right.", 8.0: NO_REPLY}
    assert earn(spans, turns).spans == (None, 1, None, None)
    assert earn(spans, turns).pauc == 1
    assert earn(spans, turns, FAULTY).spans == (0.125, 1, None, None)


def test_more_turns_than_replies_are_told_but_as_released_ignored():
    args = ([span(0, 8)], [4.0, 8.0], ["Right."], (), exact(4), never)
    with pytest.raises(ValueError, match="1 replies for 2 turns"):
        reward(*args, RELEASED)
    assert reward(*args, FAULTY).pauc == earn([span(0, 8)], {4.0: "Right."}).pauc


def test_repetitions_within_a_span_count_twice_as_released():
    turns = {4.0: "A.", 8.0: "B."}
    assert earn([span(0, 8)], turns, repeats=lambda e, r: r == "B.").repetition == 1 / 2
    assert earn([span(0, 8)], turns, FAULTY, repeats=lambda e, r: r == "B.").repetition == 2 / 3


def test_no_turn_earns_nothing():
    assert earn([span(0, 8)], {}).total == 0
    with pytest.raises(IndexError):
        earn([span(0, 8)], {}, FAULTY)


def test_without_spans_silence_is_right():
    assert earn([], {4.0: NO_REPLY}).total == 0
    assert earn([], {4.0: "Hello."}).total == -0.5


shares = st.floats(0, 1)


@given(
    st.floats(0, 100),
    st.floats(0.01, 100),
    st.lists(st.tuples(shares, st.integers(0, 4)), max_size=6),
    shares,
)
def test_pauc_is_a_share_and_never_falls_for_a_better_reply(start, length, replies, floor):
    settings = Settings(4, floor)
    points = sorted((start + share * length, score) for share, score in replies)
    found = pauc(start, start + length, points, settings)
    assert -1e-9 <= found <= 1 + 1e-9
    for number, (time, score) in enumerate(points):
        better = [*points[:number], (time, min(4, score + 1)), *points[number + 1 :]]
        assert pauc(start, start + length, better, settings) >= found - 1e-9


@given(st.floats(0, 50), st.floats(1, 60), shares, shares)
def test_the_right_reply_earns_no_less_when_it_comes_earlier(start, length, one, other):
    early, late = sorted((one, other))
    for settings in (PAPER, RELEASED, BENCHMARK):
        earned = [
            pauc(start, start + length, [(start + length * at, settings.top)], settings)
            for at in (early, late)
        ]
        assert earned[0] >= earned[1] - 1e-9


def test_the_judge_without_a_model():
    judge = overlap_judge(4)
    truth = "She pours two cups of flour into the bowl."
    assert (
        judge("What?", truth, truth)
        == judge("What?", "she POURS two cups of flour into the bowl", truth)
        == 4
    )
    assert judge("What?", "She pours flour.", truth) in (2, 3)
    assert judge("What?", "A dog runs across the street.", truth) == 0
    assert overlap_judge(2)("What?", truth, truth) == 2
    assert judge("何ですか", "彼女は卵を割ります。", "彼女は卵を割ります。") == 4


def test_what_says_nothing_new():
    earlier = ["She cracks two eggs.", "The bowl is blue."]
    assert says_nothing_new(earlier, "She cracks two eggs into the blue bowl.")
    assert not says_nothing_new(earlier, "Now she whisks them with a fork.")
    assert says_nothing_new(earlier, "!")
