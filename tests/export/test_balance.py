import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.export.balance import turn_weights, without_tail
from datagen.records import NO_REPLY, Turn


def turns(pattern, asked=(0,)):
    """`.` for a silent turn of 4 s, `R` for a reply."""
    return [
        Turn(
            time=4.0 * (k + 1),
            first_frame=2 * k + 1,
            last_frame=2 * k + 2,
            user="What is it?" if k in asked else None,
            label="reply" if c == "R" else "silent",
            text="A box." if c == "R" else NO_REPLY,
        )
        for k, c in enumerate(pattern)
    ]


def test_inverse_length_makes_a_run_of_silence_count_as_one_reply():
    weights = turn_weights(turns("R....R.R"), "inverse_length")
    assert sum(weights[1:5]) == pytest.approx(weights[0], abs=1e-5)
    assert weights[0] == weights[5] == weights[6] == weights[7]
    assert weights[0] == pytest.approx(8 / 5, abs=1e-5)


def test_class_balanced_gives_replies_first_and_repeated_silences_a_third_each():
    weights = turn_weights(turns(".....R..R...."), "class_balanced")
    shares = {
        "first": weights[0] + weights[6] + weights[9],
        "repeated": sum(weights[1:5]) + weights[7] + sum(weights[10:13]),
        "reply": weights[5] + weights[8],
    }
    assert list(shares.values()) == pytest.approx([13 / 3] * 3, abs=1e-4)


@pytest.mark.parametrize("pattern", ["", "R", ".", "RRR", "...."])
def test_rows_of_one_kind_and_empty_rows_count_as_they_are(pattern):
    for how in ("none", "inverse_length", "class_balanced"):
        weights = turn_weights(turns(pattern), how)
        assert len(weights) == len(pattern)
        assert sum(weights) == pytest.approx(len(pattern))
        if len(set(pattern)) == 1 and how != "class_balanced":
            assert set(weights) == {1.0}


@given(st.text(alphabet=".R", min_size=1, max_size=60))
def test_weights_are_positive_and_average_one_and_no_silence_counts_more_than_a_reply(pattern):
    for how in ("inverse_length", "class_balanced"):
        weights = turn_weights(turns(pattern), how)
        assert min(weights) > 0
        assert sum(weights) / len(weights) == pytest.approx(1, abs=1e-4)
    if "R" in pattern:
        assert max(turn_weights(turns(pattern), "inverse_length")) == weights_of_replies(pattern)


def weights_of_replies(pattern):
    [weight] = {
        w for w, c in zip(turn_weights(turns(pattern), "inverse_length"), pattern, strict=True) if c == "R"
    }
    return weight


def test_only_the_silence_at_the_end_is_cut_and_what_is_waited_for_is_kept():
    dialogue = turns("....R.......", asked=(0,))
    assert without_tail(dialogue, None) == dialogue
    assert len(without_tail(dialogue, 8.0)) == 7
    assert len(without_tail(dialogue, 7.0)) == 7
    assert len(without_tail(dialogue, 0.0)) == 5
    assert len(without_tail(dialogue, 100.0)) == 12
    asked_late = turns("R...........", asked=(0, 8))
    assert len(without_tail(asked_late, 8.0)) == 11
    assert without_tail([], 8.0) == []
