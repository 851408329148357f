import math
import random

import msgspec
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from datagen.config import Config, DatasetOptions
from datagen.dialogue.grid import make_turns
from datagen.export.export import export
from datagen.export.reference import expected_rate
from datagen.export.selection import select
from datagen.export.statistics import Statistics
from datagen.export.statistics_table import statistics_lines
from datagen.export.summary import summarise
from tests.export.samples import answer, built, dialogue, monitoring, question

CONFIG = Config(name="t")


def summary(videos, config=CONFIG):
    selection = select(videos, config)
    statistics = Statistics(config, selection.often)
    for video in videos:
        statistics.add_video(video)
        for one in video.dialogues:
            count, interval = video.watched.frame_count, config.frames.interval
            turns, _, _ = make_turns(
                one, count, interval, config.export, config.dialogue.max_reply_words, config.seed
            )
            statistics.add_dialogue(video, one, turns)
    statistics.count_grids()
    return summarise(statistics, selection.questions, config.dataset)


def two_questions():
    return dialogue(
        question(
            "What is done?", 0.0, answer("A door opens.", 4.0, 8.0), answer("He sits down.", 20.0, 28.0)
        ),
        question("Is it raining?", 40.0, kind="never"),
    )


def test_every_figure_of_a_dialogue_counted_by_hand():
    found = summary([built(two_questions(), frames=30)])
    # Turns of 4 s: replies at 8 and 28 s of 60; silent before, between, and for the 8 turns after.
    total = found["all"]
    assert total | {"position_chi_square": 0, "position_effect": 0} == {
        "videos": 1,
        "hours": round(61 / 3600, 3),
        "mean_seconds": 61.0,
        "dialogues": 1,
        "questions": 2,
        "questions_per_video": 2.0,
        "answers_per_question": 1.0,
        "answers_per_dialogue": 2.0,
        "words_per_reply": 3.0,
        "turns": 15,
        "replies": 2,
        "reply_rate": 0.1333,
        "without_reply": 0.0,
        "longest_silence_seconds": 32.0,
        "silent_runs": {"1": 1, "2": 0, "3-4": 1, "5-8": 1, "9-16": 0, "17-32": 0, "33-64": 0, "65+": 0},
        "lateness": 1.0,
        "gap_seconds": 20.0,
        "position_deciles": [0, 1, 0, 0, 1, 0, 0, 0, 0, 0],
        "position_chi_square": 0,
        "position_effect": 0,
    }
    assert total["position_chi_square"] == pytest.approx((2 * 0.8**2 + 8 * 0.2**2) / 0.2)
    assert total["position_effect"] == pytest.approx(2.0)
    assert found["by_source"] == {"live_whisperx": total}
    narrate, never = found["by_shape"]["narrate"], found["by_shape"]["never"]
    assert (narrate["turns"], narrate["replies"], narrate["answers_per_question"]) == (9, 2, 2.0)
    assert (never["turns"], never["replies"], never["without_reply"], never["lateness"]) == (6, 0, 1.0, None)
    assert (never["longest_silence_seconds"], narrate["longest_silence_seconds"]) == (24.0, 16.0)


def test_sources_add_up_to_the_whole():
    videos = [
        built(monitoring(60 + 10 * k, 8.0 + k, id=f"v{k}#0"), id=f"v{k}", frames=40, source=f"s{k % 3}")
        for k in range(9)
    ]
    found = summary(videos)
    assert set(found["by_source"]) == {"s0", "s1", "s2"}
    for name in ("videos", "dialogues", "questions", "turns", "replies"):
        assert sum(source[name] for source in found["by_source"].values()) == found["all"][name] > 0
    longest = [source["longest_silence_seconds"] for source in found["by_source"].values()]
    assert max(longest) == found["all"]["longest_silence_seconds"]
    for place, (grid, *parts) in enumerate(
        zip(found["grids"], *found["grids_by_source"].values(), strict=True)
    ):
        assert grid["turns"] == sum(part["turns"] for part in parts), place


def test_a_source_for_each_video_and_text_that_is_no_unicode_stay_within_bounds():
    def odd(k):
        d = dialogue(question("Ist es\udcff da?", 0.0, answer("Ja\udcff.", 4.0, 8.0)), id=f"v{k:03d}#0")
        return built(d, id=f"v{k:03d}", source=f"s{k}\udcff")

    found = summary([odd(k) for k in range(120)])
    assert len(found["by_source"]) == 101
    assert found["by_source"]["(others)"]["dialogues"] == 20
    assert found["all"]["dialogues"] == 120
    assert len(found["guessable"]) == 1
    assert msgspec.json.encode(found)
    assert all(line.isprintable() for line in statistics_lines(found))


def test_one_frame_a_second_is_seen_to_be_too_silent_and_two_to_cure_it():
    videos = [built(monitoring(92, 14.0, id=f"v{k}#0"), id=f"v{k}", frames=46) for k in range(5)]
    fine, middle, coarse = summary(videos)["grids"]
    assert (fine["reply_rate"], fine["too_silent"]) == (pytest.approx(6 / 93, abs=1e-4), True)
    assert fine["silent_per_reply"] == 14.5
    assert (middle["reply_rate"], middle["too_silent"]) == (pytest.approx(6 / 46, abs=1e-4), False)
    assert (coarse["reply_rate"], coarse["silent_per_reply"]) == (pytest.approx(6 / 23, abs=1e-4), 2.8)
    assert coarse["published"]["MMDuet2 web"] == pytest.approx(6.7 * 4 / 92.7, abs=1e-3)
    assert expected_rate("MMDuet2 ego", 1.0) == pytest.approx(5.6 / 164.4)


def test_the_grids_are_the_same_whatever_interval_the_dataset_has():
    videos = [built(monitoring(100, 9.0, id=f"v{k}#0"), id=f"v{k}", frames=50) for k in range(3)]
    fast = [replace(v, watched=replace(v.watched, frame_count=int(v.watched.duration))) for v in videos]
    config = replace(CONFIG, frames=replace(CONFIG.frames, interval=1.0))
    for mine, other in zip(summary(videos)["grids"], summary(fast, config)["grids"], strict=True):
        assert (mine["replies"], mine["spans_without_turn"]) == (
            other["replies"],
            other["spans_without_turn"],
        )
        assert abs(mine["turns"] - other["turns"]) <= 3


def test_spans_that_no_turn_falls_into_are_counted():
    d = dialogue(
        question(
            "What?", 0.0, answer("One.", 4.5, 5.5), answer("Two.", 8.2, 8.9), answer("Three.", 11.0, 15.0)
        )
    )
    shares = [grid["spans_without_turn"] for grid in summary([built(d)])["grids"]]
    assert shares == [0.3333, 0.6667, 0.6667]


def flags(videos, **options):
    config = replace(CONFIG, dataset=DatasetOptions(**options))
    return {(flag["code"], flag["where"]) for flag in summary(videos, config)["flags"]}


def test_a_source_out_of_bounds_is_flagged_by_name():
    quiet = [built(two_questions(), id="v1", frames=200, source="quiet")]
    lively = [built(monitoring(400, id="v2#0"), id="v2", frames=200, source="lively")]
    silent = [built(dialogue(question("Rain?", 0.0, kind="never"), id="v3#0"), id="v3", source="none")]
    found = flags(quiet + lively + silent)
    assert ("silence_balance", "quiet") in found
    assert ("silence_balance", "none") in found
    assert ("silence_balance", "lively") not in found
    assert ("silence_balance", "lively") in flags(lively, max_reply_rate=0.3)
    assert not flags(quiet + silent, min_reply_rate=0, max_silent_seconds=999, max_no_reply_share=1)


def replies_at(places, k):
    """A dialogue of 400 s with a reply at the turn nearest to each share of the video."""
    answers = [answer(f"Reply {n} of {k}.", 400 * p - 3.9, 400 * p) for n, p in enumerate(sorted(places))]
    return built(dialogue(question("What?", 0.0, *answers), id=f"v{k:03d}#0"), id=f"v{k:03d}", frames=200)


def test_replies_that_crowd_at_one_place_are_flagged_and_spread_ones_are_not():
    rng = random.Random(2)
    even = [
        replies_at([rng.uniform(n / 8 + 0.02, (n + 1) / 8 - 0.02) for n in range(8)], k) for k in range(60)
    ]
    late = [
        replies_at([rng.uniform(0.8 + 0.02 * n, 0.81 + 0.02 * n) for n in range(8)], k) for k in range(60)
    ]
    assert ("position_bias", "all") not in flags(even)
    assert ("position_bias", "all") in flags(late)
    assert ("position_bias", "all") not in flags(late[:1])


def test_a_question_that_one_answer_fits_is_guessable():
    def asked(k, text):
        d = dialogue(question("Does a mistake happen?", 0.0, answer(text, 4.0, 12.0)), id=f"v{k:03d}#0")
        return built(d, id=f"v{k:03d}")

    mostly = [asked(k, "No, all is well." if k % 4 else f"Yes, number {k} fell.") for k in range(40)]
    [row] = summary(mostly)["guessable"]
    assert (row["question"], row["commonest"]) == ("does a mistake happen", "no all is well")
    assert (row["answers"], row["share"]) == (40, 0.75)
    assert row["entropy_bits"] == pytest.approx(0.75 * math.log2(1 / 0.75) + 0.25 * math.log2(40), abs=1e-3)
    assert ("guessable", "all") in flags(mostly)
    varied = [asked(k, f"Yes, number {k} fell.") for k in range(300)]
    assert not summary(varied)["guessable"]
    assert not summary(mostly[:9])["guessable"]


def test_silence_can_be_what_is_guessed():
    never = [
        built(dialogue(question("Rain?", 0.0, kind="never"), id=f"v{k}#0"), id=f"v{k}") for k in range(10)
    ]
    [row] = summary(never)["guessable"]
    assert (row["commonest"], row["share"], row["entropy_bits"]) == ("NO REPLY", 1.0, 0.0)


def test_the_table_names_what_is_out_of_proportion_its_cure_and_the_published_values(tmp_path):
    videos = [built(two_questions(), frames=200, source="a\x1b[31mb"), built(id="v2", source="other")]
    report = export(lambda: iter(videos), iter(()), tmp_path, CONFIG)
    lines = statistics_lines(report["statistics"])
    text = "\n".join(lines)
    assert all(line.isprintable() for line in lines)
    cure = "export.weights=class_balanced"
    for words in ("MMDuet2 web", "92.7", "1 s a frame, 1 a turn", "too silent", cure,
                  "silence_balance (a?[31mb)", "narrate", "never", "2 different"):  # fmt: skip
        assert words in text, words
    assert statistics_lines(summary([])) == []


@given(
    st.lists(st.integers(1, 60_000), max_size=60),
    st.lists(st.integers(1, 60_000), max_size=60),
    st.sampled_from([None, 16384]),
)
def test_tokens_of_rows_are_told_by_table_over_the_same_steps(sft, rl, bound):
    statistics = Statistics(replace(CONFIG, export=replace(CONFIG.export, max_tokens=bound)), frozenset())
    statistics.tokens["sft"].update(sft)
    statistics.tokens["rl"].update(rl)
    questions = select([], CONFIG).questions
    tokens = summarise(statistics, questions, CONFIG.dataset)["tokens"]
    assert (tokens["counted_by"], tokens["bound"]) == ("rule", bound)
    assert tokens["step"] % 1024 == 0
    for table, rows in (("sft", sft), ("rl", rl)):
        found = tokens[table]
        assert found["rows"] == len(rows)
        assert found["most"] == max(rows, default=0)
        assert found["median"] == (sorted(rows)[(len(rows) - 1) // 2] if rows else 0)
        assert sum(n <= found["most_of_95"] for n in rows) >= 0.95 * len(rows)
        assert len(found["histogram"]) == len(tokens["sft"]["histogram"]) <= 16
        for n, count in enumerate(found["histogram"]):
            assert count == sum(tokens["step"] * n < one <= tokens["step"] * (n + 1) for one in rows)


def test_a_build_tells_how_long_its_rows_are(tmp_path):
    videos = [built(monitoring(170, id=f"v{k}#0"), id=f"v{k}", frames=85) for k in range(6)]
    config = replace(CONFIG, export=replace(CONFIG.export, rl_fraction=0.5, max_tokens=8192))
    report = export(lambda: iter(videos), [], tmp_path, config)
    tokens = report["statistics"]["tokens"]
    assert tokens["sft"]["rows"] == report["rows"]["sft/train"] > 0
    assert tokens["rl"]["rows"] == report["rows"]["rl/train"] + report["rows"]["rl/val"] > 0
    assert 0 < tokens["rl"]["most"] <= 8192
    held = [n for path in (tmp_path / "sft").iterdir() for n in pq.read_table(path)["num_tokens"].to_pylist()]
    assert max(held) == tokens["sft"]["most"] <= 8192
    lines = statistics_lines(report["statistics"])
    assert "Tokens of a row, counted by rule; export.max_tokens is 8192" in lines
    assert any(f"SFT: median {tokens['sft']['median']}" in line for line in lines)
