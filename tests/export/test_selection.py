import json

import msgspec
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace

from datagen.config import Config, DatasetOptions, ExportOptions
from datagen.errors import UsageError
from datagen.export.export import export
from datagen.export.selection import OFTEN, select
from datagen.records import Rejection
from tests.export.samples import answer, built, dialogue, question

CONFIG = Config(name="t", export=ExportOptions(rl_fraction=0.0))


def video(id, *texts, provenance="model@v1", answers=True, **more):
    """A video with one dialogue for each text."""
    made = [
        replace(
            dialogue(
                question(text, 0.0, *([answer("The door opens now.", 10.0, 18.0)] if answers else [])),
                id=f"{id}#{n}",
            ),
            provenance=provenance,
        )
        for n, text in enumerate(texts)
    ]
    return built(*made, id=id, **more)


def with_dataset(**options):
    return replace(CONFIG, dataset=DatasetOptions(**options))


def rows(out, table):
    return [
        row for path in sorted((out / table).glob("*.parquet")) for row in pq.read_table(path).to_pylist()
    ]


def test_a_listed_video_leaves_no_row_but_the_rejected_ones(tmp_path):
    (tmp_path / "list").write_text("clips/v2.mp4\n")
    noted = Rejection("verify", "v2", "v2#9", "repeat", "said before")
    videos = [video("v1", "What is it?"), video("v2", "What is it?", rejected=[noted]), video("v3", "Why?")]
    config = with_dataset(exclude_videos=str(tmp_path / "list"))
    report = export(lambda: iter(videos), iter(()), tmp_path / "out", config)
    assert report["rows"]["videos/train"] == report["rows"]["dialogues/train"] == 2
    for table, key in {
        "videos": "id",
        "segments": "video_id",
        "dialogues": "video_id",
        "sft": "video_id",
    }.items():
        assert {row[key] for row in rows(tmp_path / "out", table)} == {"v1", "v3"}
    rejected = {(row["item_id"], row["code"]) for row in rows(tmp_path / "out", "rejected")}
    assert rejected == {("v2", "contaminated"), ("v2#9", "repeat")}
    assert report["statistics"]["all"]["videos"] == 2


def test_a_listed_question_takes_its_whole_dialogue_along(tmp_path):
    (tmp_path / "list").write_text("Tell me when the water in the kettle boils.\n")
    two = dialogue(
        question("What is on the table?", 0.0, answer("A kettle.", 4.0, 12.0)),
        question("Tell me when the water in that kettle boils.", 20.0, answer("It boils.", 24.0, 32.0)),
        id="v2#0",
    )
    videos = [video("v1", "Who comes in?"), built(two, id="v2")]
    config = with_dataset(exclude_questions=str(tmp_path / "list"), duplicate_similarity=0.75)
    report = export(lambda: iter(videos), iter(()), tmp_path / "out", config)
    assert [row["id"] for row in rows(tmp_path / "out", "dialogues")] == ["v1#0"]
    [rejected] = rows(tmp_path / "out", "rejected")
    assert (rejected["code"], rejected["item_id"]) == ("contaminated", "v2#0")
    assert "that kettle" in rejected["detail"] and "the kettle" in rejected["detail"]
    assert {row["id"]: row["split"] for row in rows(tmp_path / "out", "videos")} == {
        "v1": "sft/train",
        "v2": "none",
    }
    assert report["statistics"]["questions"]["asked"] == 1


def test_a_file_that_is_not_there_stops_the_export_before_anything_is_replaced(tmp_path):
    export(lambda: iter([video("v1", "What?")]), iter(()), tmp_path, CONFIG)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*.parquet")}
    with pytest.raises(UsageError, match=r"dataset\.exclude_videos"):
        export(lambda: iter([]), iter(()), tmp_path, with_dataset(exclude_videos=str(tmp_path / "no")))
    assert {p: p.read_bytes() for p in tmp_path.rglob("*.parquet")} == before


def test_languages_are_judged_by_the_video_and_by_the_text():
    german = "Was macht der Mann gerade? Sag mir bitte Bescheid, wenn er mit der Arbeit fertig ist."
    english = "What is the man doing right now? Please let me know when he has finished his work."
    videos = [
        video("v1", english),
        video("v2", german),
        with_language(video("v3", english), "de"),
        with_language(video("v4", english), "en-US"),
        video("v5", "42?"),
        with_language(video("v6", english), "English"),
    ]
    kept = select(videos, with_dataset(languages=("en",)))
    assert kept.dropped["v2#0"] == ("language", "is in de, not in en")
    assert set(kept.dialogues) == {"v1", "v4", "v5", "v6"}
    assert kept.videos == 6
    assert set(select(videos, with_dataset(languages=("de", "en"))).dialogues) == {
        "v1",
        "v2",
        "v3",
        "v4",
        "v5",
        "v6",
    }


def with_language(built, language):
    return replace(built, video=replace(built.video, language=language))


def test_silent_dialogues_are_thinned_out_by_a_seeded_hash_and_no_others():
    videos = [video(f"v{k:03d}", "Does it rain?", answers=k % 2 == 0) for k in range(200)]
    config = replace(CONFIG, export=replace(CONFIG.export, keep_silent=0.3))
    selection = select(videos, config)
    assert {code for code, _ in selection.dropped.values()} == {"silence_balance"}
    assert all(int(item[1:4]) % 2 for item in selection.dropped)
    assert 55 <= len(selection.dropped) <= 85
    assert select(videos, config).dropped == selection.dropped
    assert select(videos, replace(config, seed=1)).dropped != selection.dropped
    more = select(videos, replace(config, export=replace(config.export, keep_silent=0.6))).dropped
    assert set(more) < set(selection.dropped)


COMMON = "What is the person in the video doing right now?"


def questions_of_a_model():
    """1,000 questions, 300 of them nearly the same; 500 more of a template of ours."""
    made = []
    for k in range(1000):
        text = (
            COMMON
            if k % 10 == 0
            else "What is the person in that video doing right now?"
            if k % 10 < 3
            else None
        )
        made.append(
            video(f"m{k:04d}", text or " ".join(f"{word}{k * 7919 % 99991}" for word in ("is", "box", "on")))
        )
    return made + [
        video(f"r{k:04d}", "Describe each step as it happens.", provenance="rule") for k in range(500)
    ]


def test_a_question_too_common_is_flagged_and_capped_only_when_asked_to():
    videos = questions_of_a_model()
    told = select(videos, CONFIG)
    assert not told.dropped
    assert told.questions["asked"] == 1500
    assert told.questions["commonest"] == {
        "question": "describe each step as it happens", "times": 500, "share": 0.3333
    }  # fmt: skip
    assert told.questions["commonest_by_model"]["times"] == 300
    assert told.questions["groups"] < told.questions["different"]

    capped = select(videos, with_dataset(cap_questions=True, max_question_share=0.05))
    assert {code for code, _ in capped.dropped.values()} == {"near_duplicate_question"}
    assert len(capped.dropped) == 250
    assert not any(item.startswith("r") for item in capped.dropped)
    assert len(capped.dialogues) == 1250
    early = sum(item < "m0500" for item in capped.dropped)
    assert 90 < early < 160, "which ones go must not depend on the order of the videos"


def test_in_a_small_dataset_nothing_is_too_common():
    videos = [video(f"v{k}", COMMON) for k in range(OFTEN)]
    assert not select(videos, with_dataset(cap_questions=True)).dropped
    assert len(select([*videos, video("w", COMMON)], with_dataset(cap_questions=True)).dropped) == 1


def test_what_is_dropped_moves_nothing_else_and_the_export_is_the_same_again(tmp_path):
    (tmp_path / "list").write_text(json.dumps([{"video": "v3"}]))
    config = with_dataset(exclude_videos=str(tmp_path / "list"), cap_questions=True)
    videos = [video(f"v{k}", f"What is number {k} about?", "Who is there?") for k in range(9)]
    reports = [export(lambda: iter(videos), iter(()), tmp_path / name, config) for name in "ab"]
    assert reports[0] == reports[1]
    assert msgspec.json.encode(reports[0])
    plain = export(lambda: iter(videos), iter(()), tmp_path / "c", CONFIG)
    assert plain["rows"]["sft/train"] == reports[0]["rows"]["sft/train"] + 2
    assert [r for r in rows(tmp_path / "c", "sft") if r["video_id"] != "v3"] == rows(tmp_path / "a", "sft")
