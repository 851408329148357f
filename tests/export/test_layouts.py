"""Frames by path, embedded or absent: what stands in the rows, that they load, that they validate."""

import json
import shutil

import datasets
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace

from datagen.errors import UsageError
from datagen.export import embed
from datagen.export import export as module
from datagen.export.embed import embed_shard
from datagen.export.schema import PICTURES, table_schema
from datagen.inspect.validate import main as validate
from datagen.publish.embed import write_preview
from datagen.publish.licences import read_grants
from datagen.publish.staging import stage
from tests.export.samples import built
from tests.inspect.samples import config, cooking, rehash
from tests.publish.samples import PICTURES as JPEGS

VIDEOS = [built(cooking(f"v{k}", shift=k), id=f"v{k}", frames=60) for k in range(6)]
SPLITS = (("sft", "train"), ("rl", "train"), ("rl", "val"))


def build(out, layout, videos=VIDEOS, **more):
    """A dataset as a build leaves it, its frames watched before it is exported."""
    options = config(frames=layout, **more)
    for each in videos if layout != "none" else ():
        folder = out / "frames" / each.video.id
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(1, each.watched.frame_count + 1):
            (folder / f"{number:06d}.jpg").write_bytes(JPEGS[number % len(JPEGS)])
    report = module.export(lambda: iter(videos), [], out, options)
    run = {"status": "done", "pipeline": msgspec.to_builtins(options), **report}
    (out / "run.json").write_text(json.dumps(run))
    return report


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("layouts")
    return {
        layout: (folder / layout, build(folder / layout, layout)) for layout in ("paths", "embedded", "none")
    }


def rows(out, table, split):
    return [r for p in sorted((out / table).glob(f"{split}-*")) for r in pq.read_table(p).to_pylist()]


@pytest.mark.parametrize("layout", ["paths", "embedded", "none"])
def test_each_layout_is_right_and_loads_with_every_row(made, layout, tmp_path, capsys):
    out, report = made[layout]
    validate([str(out), "--json"])
    assert json.loads(capsys.readouterr().out)["faults"] == []
    for table, split in SPLITS:
        files = [str(path) for path in sorted((out / table).glob(f"{split}-*"))]
        loaded = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path))
        streamed = datasets.load_dataset("parquet", data_files=files, split="train", streaming=True)
        assert len(loaded) == len(list(streamed)) == report["rows"][f"{table}/{split}"] > 0
        assert loaded[0] == next(iter(streamed))
        assert loaded.column_names == table_schema(table, layout).names


def test_embedded_rows_hold_the_pictures_of_their_paths_and_are_else_the_same(made):
    plain, whole = made["paths"][0], made["embedded"][0]
    for table, split in SPLITS:
        for path, full in zip(rows(plain, table, split), rows(whole, table, split), strict=True):
            names = [image if table == "sft" else image["image"] for image in path.pop("images")]
            images = full.pop("images")
            assert [image["path"] for image in images] == names
            assert all(image["bytes"] == (whole / image["path"]).read_bytes() for image in images)
            assert full == path
    assert (plain / "rl/user_turns/train.json").read_bytes() == (
        whole / "rl/user_turns/train.json"
    ).read_bytes()
    for path in [*whole.glob("sft/*"), *whole.glob("rl/*.parquet")]:
        meta = pq.read_metadata(path)
        assert all(meta.row_group(k).num_rows <= 16 for k in range(meta.num_row_groups))


def test_rows_without_frames_tell_the_time_of_each_frame_of_each_turn(made):
    plain, bare = made["paths"][0], made["none"][0]
    for row, path in zip(rows(bare, "sft", "train"), rows(plain, "sft", "train"), strict=True):
        assert "<image>" not in json.dumps(row)
        assert "images" not in row
        assert [len(times) for times in row["frame_times"]] == [
            message["content"].count("<image>") for message in path["messages"] if message["role"] == "user"
        ]
        assert [times[-1] for times in row["frame_times"]] == row["turn_times"]
        spoken = [message["content"].replace("<image>", "") for message in path["messages"]]
        assert [message["content"] for message in row["messages"]] == spoken
        assert row["num_tokens"] == path["num_tokens"]
    turns = json.loads((bare / "rl/user_turns/train.json").read_text())
    for row in rows(bare, "rl", "train"):
        fetched = turns[row["extra_info"]["question_id"]]
        assert row["extra_info"]["num_images"] == 0
        assert row["frame_times"] == [turn["frame_times"] for turn in fetched[: len(row["frame_times"])]]
        assert all(turn["frame_times"][-1] == turn["time"] for turn in fetched)
        assert all(block["type"] == "text" for turn in fetched for block in turn["content"])
    assert not write_preview(bare, bare / "preview.parquet", {"v0": "mit"}, config(frames="none"))


def test_the_same_again_and_shards_by_their_size(made, tmp_path, monkeypatch):
    size = sum(path.stat().st_size for path in (made["embedded"][0] / "frames").rglob("*.jpg"))
    monkeypatch.setattr(module, "SHARD_BYTES", size // 8)
    first = build(tmp_path / "a", "embedded", VIDEOS[:4])
    second = build(tmp_path / "b", "embedded", VIDEOS[:4])
    assert first == second
    assert len(list((tmp_path / "a/sft").iterdir())) > 1
    monkeypatch.setattr(embed, "GROUP_BYTES", 1)
    build(tmp_path / "c", "embedded", VIDEOS[:3])
    meta = pq.read_metadata(next((tmp_path / "c/rl").glob("train-*")))
    assert [meta.row_group(k).num_rows for k in range(meta.num_row_groups)] == [1] * meta.num_rows


def test_a_missing_frame_stops_the_export_and_leaves_the_last_one(made, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(made["embedded"][0], out)
    before = {path: path.read_bytes() for path in out.rglob("*.parquet") if ".work" not in path.parts}
    (out / "frames/v3/000002.jpg").unlink()
    with pytest.raises(UsageError, match=r"frames/v3/000002.jpg': no such frame"):
        module.export(lambda: iter(VIDEOS), [], out, config(frames="embedded"))
    after = {path: path.read_bytes() for path in out.rglob("*.parquet") if ".work" not in path.parts}
    assert before == after


def edited(out, shard, column, change):
    [path] = out.glob(shard)
    table = pq.read_table(path)
    values = table[column].to_pylist()
    change(values[0])
    place = table.schema.get_field_index(column)
    pq.write_table(table.set_column(place, column, pa.array(values, table.schema.field(place).type)), path)
    rehash(out)


@pytest.mark.parametrize(
    ("layout", "shard", "column", "change", "message"),
    [
        ("embedded", "sft/*", "images", lambda v: v[1].update(bytes=b"<html>"), "holds no JPEG picture"),
        ("embedded", "rl/val*", "images", lambda v: v[0].update(bytes=None), "holds no JPEG picture"),
        ("embedded", "sft/*", "images", lambda v: v.pop(), "<image> in messages for"),
        ("embedded", "sft/*", "images", lambda v: v[0].update(path="../x.jpg"), "is not frames/"),
        ("none", "sft/*", "frame_times", lambda v: v[2].pop(), "frame_times are not the times"),
        ("none", "sft/*", "frame_times", lambda v: v[2].reverse(), "frame_times are not the times"),
        ("none", "rl/val*", "frame_times", lambda v: v.pop(), "are not those of the user"),
        ("none", "rl/val*", "frame_times", lambda v: v[0].reverse(), "frame_times are not those of the user"),
    ],
)
def test_what_does_not_fit_is_named(made, tmp_path, capsys, layout, shard, column, change, message):
    out = tmp_path / "out"
    shutil.copytree(made[layout][0], out)
    edited(out, shard, column, change)
    assert validate([str(out), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)["faults"]
    assert any(message in fault["message"] for fault in found)
    assert {fault["file"] for fault in found} == {next(out.glob(shard)).relative_to(out).as_posix()}


def test_embedding_twice_changes_nothing(made, tmp_path):
    [source] = made["embedded"][0].glob("sft/*")
    assert embed_shard(source, tmp_path / "again", tmp_path) == pq.read_metadata(source).num_rows
    assert pq.read_schema(source).field("images").type == PICTURES
    assert pq.read_table(source).equals(pq.read_table(tmp_path / "again"))


@pytest.mark.parametrize("withheld", [False, True])
def test_what_is_embedded_is_published_so_and_no_other_way(tmp_path, withheld):
    licences = ["mit"] * 5 + ["" if withheld else "mit"]
    videos = [
        replace(each, video=replace(each.video, licence=licence))
        for each, licence in zip(VIDEOS, licences, strict=True)
    ]
    out = tmp_path / "out"
    report = build(out, "embedded", videos)
    grants = read_grants(out, [], [])
    with pytest.raises(UsageError, match=r"export.frames=embedded; push with --frames embedded"):
        stage(out, "none", grants)
    files = stage(out, "embedded", grants)
    assert not [name for name in files if name.startswith(("sft/", "frames/"))]
    shards = [path for name, path in files.items() if name.startswith(("sft_embedded/", "rl/"))]
    tables = [pq.read_table(path) for path in shards if path.suffix == ".parquet"]
    found = [row for table in tables for row in table.to_pylist()]
    assert all(image["bytes"].startswith(b"\xff\xd8") for row in found for image in row["images"])
    wanted = sum(report["rows"][f"{table}/{split}"] for table, split in SPLITS)
    assert (len(found) < wanted) if withheld else (len(found) == wanted)
    told = {row["video_id"] if "video_id" in row else row["extra_info"]["video_id"] for row in found}
    assert ("v5" in told) is not withheld


def test_without_frames_none_are_published(made):
    out = made["none"][0]
    for frames in ("embedded", "preview"):
        with pytest.raises(UsageError, match=r"export.frames=none; push with --frames none"):
            stage(out, frames, read_grants(out, ["none"], []))
