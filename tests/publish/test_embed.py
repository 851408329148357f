"""Frames in tables: row groups and shards within bounds, no row lost, none out of its shard."""

import pyarrow.parquet as pq
import pytest
from datasets import Features, Image, List

from datagen.errors import UsageError
from datagen.export import embed as embedding
from datagen.export.embed import frame_file
from datagen.export.shards import shard_index
from datagen.inspect.dataset import read_rows
from datagen.publish import embed
from datagen.publish.embed import write_embedded, write_preview
from tests.inspect.samples import config
from tests.publish.samples import dataset

OPTIONS = config(rl_fraction=0.0, dialogues_per_shard=3)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return dataset(tmp_path_factory.mktemp("embed") / "out", ["mit"] * 24, OPTIONS)


def test_shards_split_those_of_the_build(out, tmp_path, monkeypatch):
    sft = sorted((out / "sft").glob("*.parquet"))
    assert len(sft) == 8
    size = sum(path.stat().st_size for path in (out / "frames").rglob("*.jpg"))
    monkeypatch.setattr(embed, "SHARD_BYTES", -(-size // 16))
    paths = write_embedded(out, sft, tmp_path)
    assert len(paths) == 16
    found = []
    for number, path in enumerate(paths):
        file = pq.ParquetFile(path)
        assert Features.from_arrow_schema(file.schema_arrow)["images"] == List(Image())
        for _, row in read_rows(path):
            assert shard_index(row["video_id"], 16) == number
            assert [image["path"] for image in row["images"]]
            assert all(image["bytes"] == (out / image["path"]).read_bytes() for image in row["images"])
            found.append({**row, "images": [image["path"] for image in row["images"]]})
    wanted = [row for path in sft for _, row in read_rows(path)]
    assert sorted(found, key=lambda row: row["question_id"]) == sorted(
        wanted, key=lambda row: row["question_id"]
    )


def test_row_groups_are_bounded(out, tmp_path, monkeypatch):
    sft = sorted((out / "sft").glob("*.parquet"))
    groups = group_sizes(write_embedded(out, sft, tmp_path))
    assert max(groups) <= 16
    monkeypatch.setattr(embedding, "GROUP_BYTES", 1)
    assert max(group_sizes(write_embedded(out, sft, tmp_path))) == 1


def group_sizes(paths):
    files = [pq.ParquetFile(path).metadata for path in paths]
    return [file.row_group(k).num_rows for file in files for k in range(file.num_row_groups)]


def test_features_are_written_as_datasets_writes_them(out, tmp_path):
    path = write_embedded(out, sorted((out / "sft").glob("*.parquet")), tmp_path)[0]
    schema = pq.read_schema(path)
    plain = Features.from_arrow_schema(schema.remove_metadata())
    plain["images"] = List(Image())
    assert Features.from_arrow_schema(schema) == plain
    assert plain.arrow_schema.equals(schema)


def test_the_preview_keeps_to_its_size_and_to_what_may_be_shown(out, tmp_path, monkeypatch):
    whole = {f"v{number:02d}": "mit" for number in range(20)}
    assert write_preview(out, tmp_path / "a.parquet", whole, OPTIONS)
    rows = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert len(rows) == embed.PREVIEW_DIALOGUES
    assert {row["video_id"] for row in rows} <= set(whole)
    frames = sum(len(image["bytes"]) for image in rows[0]["images"])
    monkeypatch.setattr(embed, "PREVIEW_BYTES", int(2.5 * frames))
    assert write_preview(out, tmp_path / "b.parquet", whole, OPTIONS)
    small = pq.read_table(tmp_path / "b.parquet").to_pylist()
    assert len(small) == 2
    assert sum(len(image["bytes"]) for row in small for image in row["images"]) <= embed.PREVIEW_BYTES
    assert not write_preview(out, tmp_path / "c.parquet", {}, OPTIONS)
    assert not (tmp_path / "c.parquet").exists()


def test_no_path_leads_out_of_the_dataset(out, tmp_path):
    (out / "frames" / "secret.jpg").touch()
    for path in ("frames/../../etc/000001.jpg", "/etc/passwd", "frames/../000001.jpg", "frames/secret.jpg"):
        with pytest.raises(UsageError, match="no such frame"):
            frame_file(out, path)
