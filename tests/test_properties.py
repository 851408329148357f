"""What holds of any video, any segments and any dialogue, through the real grid and the real export."""

import json
from itertools import pairwise

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datagen.config import Config, ExportOptions, FrameOptions
from datagen.dialogue.grid import make_turns
from datagen.export.export import export
from datagen.export.pauc import RELEASED, Span, reward
from datagen.export.rl import rl_rows
from datagen.export.spans import due_answers
from datagen.records import NO_REPLY, Answer, Dialogue, Question
from tests.export.samples import COUNTER, built

PLACEMENTS = st.sampled_from(["end", "jitter", "first_evidence", "start"])
INTERVALS = st.sampled_from([0.5, 1.0, 2.0, 3.3])


@st.composite
def dialogues(draw, questions=4):
    """A dialogue over a video of 10 to 300 s whose segments have gaps; every text occurs once."""
    cuts = sorted(draw(st.sets(st.integers(0, 3000), min_size=4, max_size=24)))
    segments = [(a / 10, b / 10) for a, b in pairwise(cuts) if draw(st.integers(0, 4))]
    asks = sorted(draw(st.sets(st.integers(0, 3000), min_size=1, max_size=questions)))
    made = []
    for q, (ask, until) in enumerate(pairwise([*(a / 10 for a in asks), 1e9])):
        answers = []
        told = [s for s in segments if s[1] <= ask]
        if told and draw(st.booleans()):
            answers.append(_answer(f"Before question {q}.", told, ask, told[-1][1] + 4, immediate=True))
        later = [s for s in segments if ask <= s[0] < until]
        for a, span in enumerate(draw(st.lists(st.sampled_from(later), unique=True)) if later else ()):
            answers.append(_answer(f"Answer {a} to question {q}.", [span], *span))
        answers.sort(key=lambda a: a.reply_start)
        made.append(Question(text=f"Question {q}?", ask_time=ask, kind="narrate", answers=tuple(answers)))
    return Dialogue(id="v1#0", video_id="v1", type="nQnA", questions=tuple(made), provenance="rule")


def _answer(text, evidence, start, end, immediate=False):
    return Answer(
        text=text,
        evidence=tuple(f"v1:{round(a * 1000):07d}-{round(b * 1000):07d}" for a, b in evidence),
        evidence_start=evidence[0][0],
        evidence_end=evidence[-1][1],
        reply_start=start,
        reply_end=end,
        immediate=immediate,
    )


def answers_of(d):
    return {
        f"{d.id}/q{q}/a{a}": x
        for q, question in enumerate(d.questions)
        for a, x in enumerate(question.answers)
    }


def turns_of(d, frames, interval, **options):
    return make_turns(d, frames, interval, ExportOptions(**options), 60, 0)


def replies_of(turns):
    return [(turn.time, turn.text) for turn in turns if turn.label == "reply"]


def reply_time(turns, answer):
    return next((time for time, text in replies_of(turns) if answer.text in text), None)


@settings(max_examples=120, deadline=None)
@given(dialogues(), st.integers(1, 150), INTERVALS, st.integers(1, 3), PLACEMENTS)
def test_spans_never_touch_and_hold_the_reply_that_sft_teaches(d, frames, interval, per_turn, placement):
    turns, _, _ = turns_of(d, frames, interval, frames_per_turn=per_turn, placement=placement)
    due, _ = due_answers(d, turns, interval)
    for one, next_one in pairwise(due):
        assert one.end < next_one.start
    said = [turns[one.placed].text for one in due]
    for one, text in zip(due, said, strict=True):
        assert one.start < one.end
        assert [turn.time for turn in turns[one.first : one.last + 1]] == [
            turn.time for turn in turns if one.start <= turn.time <= one.end
        ]
        assert one.text in text
        if said.count(text) == 1:
            assert one.start <= turns[one.placed].time <= one.end


@settings(max_examples=60, deadline=None)
@given(dialogues(), st.integers(20, 150), st.sampled_from([1.0, 2.0]), PLACEMENTS)
def test_what_sft_teaches_earns_its_share_of_the_released_reward(d, frames, interval, placement):
    turns, _, _ = turns_of(d, frames, interval, placement=placement)
    due, _ = due_answers(d, turns, interval)
    spans = [Span(one.start, one.end, one.question, one.text) for one in due]
    found = reward(
        spans,
        [turn.time for turn in turns],
        [turn.text for turn in turns],
        (),
        lambda question, reply, truth: 4.0 * (truth in reply),
        lambda earlier, reply: False,
        RELEASED,
    )
    said = [turns[one.placed].text for one in due]
    for one, earned in zip(due, found.spans, strict=True):
        # At worst at the very end of the span; a reply that joins two answers stands in one span only.
        if said.count(turns[one.placed].text) == 1:
            assert earned >= 0.5625 - 1e-9


@settings(max_examples=80, deadline=None)
@given(dialogues(), st.integers(1, 150), INTERVALS, st.integers(1, 3), PLACEMENTS)
def test_windows_rebuild_the_dialogue(d, frames, interval, per_turn, placement):
    options = ExportOptions(frames_per_turn=per_turn, placement=placement)
    turns, _, _ = make_turns(d, frames, interval, options, 60, 0)
    rows, rejected = rl_rows(built(d), d, turns, options, interval, COUNTER)
    due, _ = due_answers(d, turns, interval)
    usable = [turn for turn in turns if turn.last_frame <= options.max_frames]
    decided = []
    for row in rows:
        first = len(row.frames) - 1
        times = row.ground_truth["model_pred_timestamps"]
        decided += times
        # The prompt is the dialogue up to the window, the user turns are the dialogue up to its end.
        said = [NO_REPLY if turn.label == "silent" else turn.text for turn in turns[:first]]
        assert row.texts[2::2] == said
        assert row.texts[1::2] == [turn.user or "" for turn in turns[: first + 1]]
        assert times == [turn.time for turn in turns[first : first + len(times)]]
        until = turns[: first + len(times)]
        assert [turn["time"] for turn in row.user_turns] == [turn.time for turn in until]
        images = [b["image"] for turn in row.user_turns for b in turn["content"] if b["type"] == "image"]
        assert len(images) == until[-1].last_frame
        answers = [(a["content"], a["reply_timespan"]) for a in row.ground_truth["answer"]]
        held = [x for x in due if x.placed >= first and x.last >= first and x.first < first + len(times)]
        assert answers == [(x.text, [x.start, x.end]) for x in held]
    # Windows share no turn, stand in order, and what no window holds has a reason.
    assert decided == sorted(set(decided))
    reasons = {r.code for r in rejected}
    assert len(decided) == len(usable) or reasons & {"empty_window", "short_window"}
    shown = {a["content"] for row in rows for a in row.ground_truth["answer"]}
    for one in due:
        if one.text not in shown:
            assert one.first >= len(usable) or "short_window" in reasons or one.placed >= len(usable)


@settings(max_examples=80, deadline=None)
@given(dialogues(questions=1), st.integers(30, 300))
def test_1s_and_2s_agree_which_answers_are_reachable_or_say_why(d, seconds):
    fine, fine_rejected, _ = turns_of(d, seconds, 1.0)
    coarse, coarse_rejected, _ = turns_of(d, seconds // 2, 2.0)
    why = [{r.item_id: r for r in rejected} for rejected in (fine_rejected, coarse_rejected)]
    joined = {time for turns in (fine, coarse) for time, text in replies_of(turns) if text.count(".") > 1}
    last = min(fine[-1].time, coarse[-1].time)
    for item, answer in answers_of(d).items():
        times = [reply_time(turns, answer) for turns in (fine, coarse)]
        for time, reasons in zip(times, why, strict=True):
            assert (time is None) == (item in reasons)
            if time is None:
                assert reasons[item].code in {"span_width", "overlap", "asked_after"} and reasons[item].detail
        # Turns of 4 s are every second turn of 2 s: the coarser reply comes with the finer or one turn later.
        if None not in times and not joined & set(times) and max(times) < last:
            assert times[0] <= times[1] < times[0] + 4


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(dialogues(), st.integers(5, 120), PLACEMENTS, st.integers(10, 200))
def test_shards_label_every_turn_once_and_no_reply_before_its_evidence(
    tmp_path_factory, d, frames, placement, max_frames
):
    rows = {}
    for name, most in (("whole", 1000), ("split", max_frames)):
        options = ExportOptions(placement=placement, max_frames=most, rl_fraction=0.0)
        out = tmp_path_factory.mktemp(name)
        export(lambda: iter([built(d, frames=frames)]), [], out, _config(options))
        rows[name] = pq.read_table(out / "sft", partitioning=None).to_pylist()
    labels = {}
    for row in rows["whole"]:
        texts = [message["content"] for message in row["messages"][2::2]]
        assert len(texts) == len(row["turn_times"]) == -(-frames // 2) and all(texts)
        labels |= dict(zip(row["turn_times"], texts, strict=True))
    said = {time: text for time, text in labels.items() if text != NO_REPLY}
    for answer in answers_of(d).values():
        times = [time for time, text in said.items() if answer.text in text]
        assert len(times) <= 1
        if times and (answer.immediate or placement in ("end", "first_evidence")):
            assert times[0] >= answer.evidence_end
        elif times:
            assert times[0] >= answer.evidence_start
    # A row that is split at a turn has the same labels.
    for row in rows["split"]:
        texts = [message["content"] for message in row["messages"][2::2]]
        assert dict(zip(row["turn_times"], texts, strict=True)).items() <= labels.items()


@pytest.mark.parametrize("split", ["sft", "rl"])
def test_exporting_again_after_another_interval_gives_the_same_bytes(tmp_path, split):
    """Frame interval and placement are the export's alone: going there and back changes nothing."""
    videos = [built(d, id=d.video_id, frames=60) for d in _fixed_dialogues()]
    fraction = 0.0 if split == "sft" else 0.9
    seen = []
    for interval, placement in ((2.0, "end"), (1.0, "start"), (2.0, "end")):
        options = ExportOptions(placement=placement, rl_fraction=fraction)
        config = Config(name="t", export=options, frames=FrameOptions(interval=interval))
        report = export(lambda: iter(videos), [], tmp_path / "out", config)
        seen.append(json.dumps(report, sort_keys=True))
    assert seen[0] == seen[2] != seen[1]


def _config(options):
    return Config(name="t", export=options, frames=FrameOptions(interval=2.0))


def _fixed_dialogues():
    made = []
    for v in range(4):
        spans = [(k * 9.0, k * 9.0 + 7.5) for k in range(12)]
        answers = tuple(_answer(f"Step {k} of {v}.", [span], *span) for k, span in enumerate(spans))
        question = Question(text="What now?", ask_time=0.0, kind="narrate", answers=answers)
        made.append(
            Dialogue(id=f"v{v}#0", video_id=f"v{v}", type="1QnA", questions=(question,), provenance="rule")
        )
    return made
