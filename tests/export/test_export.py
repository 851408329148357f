import hashlib
import json
import random

import datasets
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datagen.config import Config, ExportOptions
from datagen.export import export as module
from datagen.export import part
from datagen.export.schema import TABLES, column, rows_table, table_schema
from datagen.export.shards import shard_count, shard_index
from datagen.records import NO_REPLY, Call, Rejection
from tests.export.samples import built, grid, monitoring

OUTSIDE = (
    Rejection("watch", "zz", "zz", "Corrupt", "no picture"),
    Rejection("probe", "aa\udcff.mp4", "aa", "Corrupt", "empty file"),
    Rejection("probe", "aa", "aa", "Corrupt", "empty file"),
    Rejection("probe", "aa", "aa", "Corrupt", "empty file"),
)
CONFIG = Config(
    name="t",
    export=ExportOptions(rl_fraction=0.3, val_fraction=0.4, dialogues_per_shard=10, row_group_size=4),
)


@pytest.fixture(autouse=True)
def plain_grid(monkeypatch):
    def make_turns(dialogue, frame_count, interval, options, max_reply_words, seed):
        turns = grid(dialogue, frame_count, interval, options.frames_per_turn)
        given = {turn.text for turn in turns}
        missed = [a for q in dialogue.questions for a in q.answers if a.text not in given]
        rejected = tuple(
            Rejection("export", dialogue.video_id, dialogue.id, "span_width", a.text) for a in missed
        )
        return turns, rejected, {"placed": sum(turn.text != NO_REPLY for turn in turns)}

    monkeypatch.setattr(part, "make_turns", make_turns)


def some(count=40):
    rng = random.Random(3)
    videos = []
    for k in sorted(range(count), key=lambda k: f"v{k}"):
        frames = rng.randrange(10, 120)
        dialogues = [
            monitoring(frames * 2, rng.choice([8.0, 10.0, 13.0]), id=f"v{k}#{n}") for n in range(k % 3)
        ]
        note = Rejection("verify", f"v{k}", f"v{k}#9", "repeat", "said before")
        videos.append(built(*dialogues, id=f"v{k}", frames=frames, rejected=[note]))
    return videos


def run(out, videos, config=CONFIG, rejected=OUTSIDE):
    return module.export(lambda: iter(videos), iter(rejected), out, config)


def files(out):
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def load(out, table, split, **more):
    names = sorted(str(p) for p in (out / table).glob(f"{split}-*.parquet"))
    assert names
    return datasets.load_dataset("parquet", data_files={split: names}, split=split, **more)


def test_all_tables_load_plainly_and_streaming_with_every_row(tmp_path):
    out = tmp_path / "out"
    report = run(out, some())
    wanted = [(table, "train") for table in TABLES] + [("rl", "val")]
    assert set(report["rows"]) == {f"{table}/{split}" for table, split in wanted}
    for table, split in wanted:
        plain = load(out, table, split, cache_dir=str(tmp_path / "cache"))
        streamed = list(load(out, table, split, streaming=True))
        assert len(plain) == len(streamed) == report["rows"][f"{table}/{split}"] > 0
        assert plain.column_names == table_schema(table).names
        assert plain[0] == streamed[0]
    for row in load(out, "sft", "train", streaming=True):
        assert sum(m["content"].count("<image>") for m in row["messages"]) == len(row["images"]) <= 90


def test_a_table_folder_loads_by_its_file_names_alone(tmp_path):
    run(tmp_path / "out", some())
    folder = str(tmp_path / "out" / "videos")
    loaded = datasets.load_dataset(folder, cache_dir=str(tmp_path / "cache"))
    assert list(loaded) == ["train"]
    assert len(loaded["train"]) == 40


def test_splits_share_no_video_and_videos_say_where_they_went(tmp_path):
    run(tmp_path, some())
    where = {}
    for table, split in (("sft", "train"), ("rl", "train"), ("rl", "val")):
        for path in (tmp_path / table).glob(f"{split}-*.parquet"):
            for row in pq.read_table(path).to_pylist():
                video = row["video_id"] if table == "sft" else row["extra_info"]["video_id"]
                assert where.setdefault(video, f"{table}/{split}") == f"{table}/{split}"
    told = {
        r["id"]: r["split"] for p in (tmp_path / "videos").iterdir() for r in pq.read_table(p).to_pylist()
    }
    assert len(told) == 40
    assert all(told[video] == split for video, split in where.items())
    assert all((split == "none") == (int(video[1:]) % 3 == 0) for video, split in told.items())


def test_user_turns_belong_to_the_rows_and_rows_are_shuffled_and_numbered(tmp_path):
    run(tmp_path, some())
    for split in ("train", "val"):
        turns = json.loads((tmp_path / f"rl/user_turns/{split}.json").read_text())
        paths = sorted((tmp_path / "rl").glob(f"{split}-*.parquet"))
        rows = [row for path in paths for row in pq.read_table(path).to_pylist()]
        names = [row["extra_info"]["question_id"] for row in rows]
        assert sorted(names) == sorted(turns)
        assert [row["extra_info"]["index"] for row in rows] == list(range(len(rows)))
        assert {row["extra_info"]["split"] for row in rows} == {split}
        for row in rows:
            truth = row["reward_model"]["ground_truth"]
            in_prompt = sum(m["role"] == "user" for m in row["prompt"])
            fetched = turns[truth["question_id"]]
            assert len(truth["model_pred_timestamps"]) == len(fetched) - in_prompt + 1
    shard = [row["extra_info"]["question_id"] for row in pq.read_table(paths[0]).to_pylist()]
    assert shard != sorted(shard)


def test_same_input_same_bytes_and_a_second_export_replaces_the_first(tmp_path):
    first = run(tmp_path / "a", some())
    run(
        tmp_path / "b", some(20), msgspec.structs.replace(CONFIG, export=ExportOptions(dialogues_per_shard=2))
    )
    assert (tmp_path / "b/sft/train-00000-of-00016.parquet").exists()
    (tmp_path / "b/.work/export/new/sft").mkdir(parents=True)
    (tmp_path / "b/.work/export/new/sft/half").write_text("left by a crash")
    (tmp_path / "b/keep.txt").write_text("not ours")
    second = run(tmp_path / "b", some())
    assert first == second
    ours = files(tmp_path / "b")
    assert ours.pop("keep.txt")
    assert files(tmp_path / "a") == ours


def test_another_seed_changes_only_split_and_order(tmp_path):
    run(tmp_path / "a", some(), rejected=())
    run(tmp_path / "b", some(), msgspec.structs.replace(CONFIG, seed=1), rejected=())
    a, b = files(tmp_path / "a"), files(tmp_path / "b")
    assert {p: v for p, v in a.items() if p.startswith("dialogues/")} == {
        p: v for p, v in b.items() if p.startswith("dialogues/")
    }
    assert a != b


def test_the_report_agrees_with_the_files(tmp_path):
    report = run(tmp_path, some())
    on_disk = {p: v for p, v in files(tmp_path).items() if p.endswith(".parquet")}
    assert set(report["shards"]) == set(on_disk)
    for path, entry in report["shards"].items():
        assert entry["sha256"] == hashlib.sha256(on_disk[path]).hexdigest()
        assert entry["bytes"] == len(on_disk[path])
        assert entry["rows"] == pq.read_metadata(tmp_path / path).num_rows
    rejected = [r for p in (tmp_path / "rejected").iterdir() for r in pq.read_table(p).to_pylist()]
    assert report["rows"]["rejected/train"] == len(rejected) == sum(report["drops"].values())
    assert report["drops"]["repeat"] == 40
    assert report["drops"]["Corrupt"] == 3
    assert {"probe", "watch", "verify", "export"} == {r["stage"] for r in rejected}
    sft = [r for p in (tmp_path / "sft").iterdir() for r in pq.read_table(p).to_pylist()]
    replies = [m["content"] for r in sft for m in r["messages"] if m["role"] == "assistant"]
    assert report["sft_turns"] == len(replies)
    assert report["sft_reply_turns"] == sum(text != "NO REPLY" for text in replies)
    assert report["grid"]["placed"] == report["reply_turns"]
    assert report["turns"] >= report["sft_turns"]
    json.dumps(report)


def test_shards_hold_their_id_range_sorted_in_small_row_groups(tmp_path):
    run(tmp_path, some())
    for table, key in {"videos": "id", "dialogues": "id", "sft": "video_id", "segments": "video_id"}.items():
        paths = sorted((tmp_path / table).iterdir())
        assert [p.name for p in paths] == [f"train-{k:05d}-of-00004.parquet" for k in range(4)]
        for number, path in enumerate(paths):
            rows = pq.read_table(path).to_pylist()
            ids = [row[key] for row in rows]
            assert ids == sorted(ids)
            videos = [row.get("video_id", row["id"] if table == "videos" else None) for row in rows]
            assert all(shard_index(video, 4) == number for video in videos)
            meta = pq.read_metadata(path)
            assert all(meta.row_group(k).num_rows <= 4 for k in range(meta.num_row_groups))
            assert pq.read_schema(path).equals(table_schema(table))
            assert meta.num_rows == 0 or meta.row_group(0).column(0).compression == "ZSTD"
    for path in (tmp_path / "rejected").iterdir():
        rows = [
            tuple(v for v in row.values() if isinstance(v, str)) for row in pq.read_table(path).to_pylist()
        ]
        assert rows == sorted(set(rows))


def test_adding_a_video_touches_one_shard_of_a_table(tmp_path):
    videos = some(39)
    run(tmp_path / "a", videos)
    run(tmp_path / "b", sorted([*videos, built(id="v999")], key=lambda b: b.video.id))
    a, b = files(tmp_path / "a"), files(tmp_path / "b")
    assert [p for p in a if p.startswith("videos/") and a[p] != b[p]] == [
        f"videos/train-{shard_index('v999', 4):05d}-of-00004.parquet"
    ]
    assert all(a[p] == b[p] for p in a if p.startswith(("sft/", "rl/", "dialogues/")))


def test_an_empty_build_still_gives_tables_that_can_be_read(tmp_path):
    report = run(tmp_path / "out", [], rejected=())
    assert set(report["rows"].values()) == {0}
    for table in TABLES:
        if table == "rl":
            assert not [path for path in (tmp_path / "out/rl").rglob("*") if path.is_file()]
            continue
        assert list(load(tmp_path / "out", table, "train", streaming=True)) == []
        [path] = (tmp_path / "out" / table).glob("train-*.parquet")
        assert pq.read_table(path).schema.equals(table_schema(table))


def test_empty_shards_and_an_empty_split_do_not_hinder_loading_the_rest(tmp_path):
    config = msgspec.structs.replace(CONFIG, export=ExportOptions(rl_fraction=0.1, dialogues_per_shard=1))
    videos = [
        built(monitoring(60, id="v1#0"), id="v1"),
        built(monitoring(60, id="v2#0"), id="v2"),
        built(id="v3"),
    ]
    report = run(tmp_path / "out", videos, config)
    assert report["rows"]["rl/val"] == 0 < report["rows"]["rl/train"]
    sft = {path: entry["rows"] for path, entry in report["shards"].items() if path.startswith("sft/")}
    assert 0 not in sft.values()
    assert not any(path.endswith(f"-of-{len(sft):05d}.parquet") for path in sft), "no shard was left out"
    cache = str(tmp_path / "cache")
    for table in TABLES:
        assert (
            len(load(tmp_path / "out", table, "train", cache_dir=cache)) == report["rows"][f"{table}/train"]
        )
    folder = str(tmp_path / "out" / "rl")
    found = datasets.load_dataset(folder, cache_dir=cache)
    assert {split: len(rows) for split, rows in found.items()} == {"train": report["rows"]["rl/train"]}


def test_disorder_and_duplicates_are_refused_before_anything_is_replaced(tmp_path):
    videos = some()
    run(tmp_path, videos)
    before = files(tmp_path)
    for wrong in (videos[::-1], [*videos, videos[-1]]):
        with pytest.raises(ValueError, match="ids must ascend"):
            run(tmp_path, wrong)
    assert {p: v for p, v in files(tmp_path).items() if not p.startswith(".work")} == before


def test_video_rows_are_plain(tmp_path):
    run(tmp_path, [built(id="v1", frames=3)], rejected=())
    [row] = pq.read_table(tmp_path / "videos").to_pylist()
    assert row["duration"] == 7.0
    assert row["frame_times"] == [2.0, 4.0, 6.0]
    assert row["cuts"] == [4.0, 8.0]
    assert row["boundaries"][1] == {"start": 8.0, "end": 8.5, "kind": "dissolve", "score": 0.4}
    assert (row["path"], row["licence"], row["partial"], row["split"]) == ("clips/v1.mp4", "", "", "none")
    seen, unseen = pq.read_table(tmp_path / "segments").to_pylist()
    assert (seen["seen"], seen["heard"], seen["traits"]) == (
        "A red box.",
        "",
        [{"name": "colour", "value": "red"}],
    )
    assert (unseen["boundary"], unseen["seen"], unseen["keys"], unseen["traits"]) == ("cut", "", [], [])


def test_shard_counts_are_powers_of_two():
    assert [shard_count(n, 10) for n in (0, 1, 10, 11, 20, 21, 40, 41, 81)] == [1, 1, 1, 2, 2, 4, 4, 8, 16]
    spread = [shard_index(f"v{k}", 8) for k in range(8000)]
    assert all(800 < spread.count(k) < 1200 for k in range(8))
    assert all(shard_index(f"v{k}", 16) // 2 == shard_index(f"v{k}", 8) for k in range(100))


def test_rows_with_a_missing_column_or_none_for_a_list_do_not_pass():
    good = {"stage": "a", "video_id": "b", "item_id": "c", "code": "d", "detail": "e", "calls": []}
    assert rows_table("rejected", [good]).to_pylist() == [good]
    with pytest.raises(KeyError):
        rows_table("rejected", [{"stage": "a"}])
    with pytest.raises(TypeError):
        rows_table("rl", [dict.fromkeys(table_schema("rl").names)])


def test_records_dicts_and_tuples_make_the_same_column():
    call = Call(id="1", role="wrote", prompt="p/v1", model="m", served="m-2")
    fields = msgspec.structs.asdict(call)
    kind = table_schema("segments").field("calls").type
    for one in (call, fields, tuple(fields.values())):
        assert column([[one, one], []], kind).to_pylist() == [[fields, fields], []]


@pytest.mark.parametrize("table", TABLES)
def test_every_column_of_every_schema_is_described(table):
    def leaves(kind):
        if pa.types.is_list(kind):
            return leaves(kind.value_type)
        if pa.types.is_struct(kind):
            assert kind.num_fields
            return [leaf for field in kind for leaf in leaves(field.type)]
        return [kind]

    for field in table_schema(table):
        assert set(leaves(field.type)) <= {pa.string(), pa.float64(), pa.int64(), pa.bool_()}
