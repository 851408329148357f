import pytest
from msgspec.structs import replace

from datagen.config import ExportOptions
from datagen.dialogue.grid import make_turns
from datagen.export.gain import window_gain
from datagen.export.pauc import RELEASED
from datagen.export.rl import rl_rows
from datagen.records import Answer, Built, Dialogue, Question, Segment, Video, Watched
from tests.export.samples import COUNTER

TEXTS = ("A cook washes three carrots in the sink.", "She cuts the onion into thin rings.")


def truth(texts=TEXTS, earlier=()) -> dict:
    return {
        "question_id": "d#seg0",
        "answer": [
            {
                "role": "assistant",
                "content": text,
                "question": "What is done?",
                "reply_timespan": [a, a + 8.0],
            }
            for text, a in zip(texts, (0.0, 12.0), strict=True)
        ],
        "model_pred_timestamps": [4.0, 8.0, 12.0, 16.0, 20.0],
        "prev_assistant_replies": list(earlier),
    }


def test_the_gain_is_that_of_the_reward():
    # spans of 8 s; replies at 4 s into the first and at once in the second, each worth 4 of 4:
    # (0.5*4 + 4*4)/(8*4) = .5625 and 1; silence has .125; three times the mean of the differences
    assert window_gain(truth()) == pytest.approx(3 * ((0.5625 - 0.125) + (1 - 0.125)) / 2)
    assert window_gain(truth(), RELEASED) > window_gain(truth())


def test_a_truth_that_was_said_before_gains_nothing():
    assert window_gain(truth(earlier=TEXTS)) < 0


def rows_of(texts, least) -> tuple[list, list]:
    answers = tuple(
        Answer(
            text=text,
            evidence=(f"s{n}",),
            evidence_start=8.0 * n,
            evidence_end=8.0 * n + 8,
            reply_start=8.0 * n,
            reply_end=8.0 * n + 8,
        )
        for n, text in enumerate(texts)
    )
    built = Built(
        video=Video(id="v", digest="d", name="n", duration=24, fps=25, width=64, height=64, codec="x"),
        watched=Watched(duration=24, frame_count=12),
        segments=tuple(
            Segment(id=f"s{n}", video_id="v", start=8.0 * n, end=8.0 * n + 8, method="uniform")
            for n in range(3)
        ),
        captions=(),
        dialogues=(),
        rejected=(),
    )
    dialogue = Dialogue(
        id="d",
        video_id="v",
        type="1QnA",
        questions=(Question(text="What is done?", ask_time=0, kind="narrate", answers=answers),),
        provenance="rule",
    )
    options = replace(ExportOptions(), rl_min_gain=least)
    turns, _, _ = make_turns(dialogue, 12, 2.0, options, 60, 0)
    return rl_rows(built, dialogue, turns, options, 2.0, COUNTER)


def test_windows_without_gain_are_left_out_where_asked_and_told():
    same = ("The dog sleeps on a red sofa.",) * 3
    rows, rejected = rows_of(same, None)
    assert len(rows) == 1 and not rejected
    gain = window_gain(rows[0].ground_truth)
    rows, rejected = rows_of(same, gain)
    assert not rows
    assert [(row.item_id, row.code) for row in rejected] == [("d#seg0", "no_gain")]
    rows, _ = rows_of(same, gain - 0.01)
    assert len(rows) == 1
