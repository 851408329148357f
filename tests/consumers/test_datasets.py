"""`datasets` reads every table, all shards at once: as many rows as were written, the same values."""

import pytest

from tests.consumers.reading import read_rows
from tests.consumers.shards import PARTS

pytestmark = pytest.mark.consumers
TABLES = ("sft", "rl", "dialogues", "videos", "segments", "rejected")


@pytest.mark.parametrize("part", PARTS, indirect=True)
@pytest.mark.parametrize("streaming", [False, True], ids=["plain", "streaming"])
@pytest.mark.parametrize("table", TABLES)
def test_rows_in_are_rows_out(part, table, streaming, tmp_path):
    from datasets import load_dataset

    rows = read_rows(part, table)
    files = f"{table}/*.parquet"
    loaded = load_dataset(
        "parquet", data_files=files, split="train", streaming=streaming, cache_dir=str(tmp_path)
    )
    assert list(loaded) == rows
    assert rows or table == "rejected"


def test_the_shards_hold_what_consumers_stumble_over(shards):
    names = [path.name for path in shards.glob("two*/sft/*.parquet")]
    assert len(names) > 2
    assert not any(name.endswith(f"-of-{len(names):05d}.parquet") for name in names), "no shard was left out"
    rows = [row for name in shards.glob("*/sft") for row in read_rows(name.parent)]
    assert any("@" in row["question_id"] for row in rows), "no row was split"
    replies = [[m["content"] for m in row["messages"] if m["role"] == "assistant"] for row in rows]
    assert any(set(row) == {"NO REPLY"} for row in replies), "no dialogue is without a reply"
    assert any("🍄" in reply for row in replies for reply in row)


def test_a_folder_of_the_dataset_is_a_split_of_its_own(part, tmp_path):
    from datasets import load_dataset

    loaded = load_dataset(str(part / "rl"), cache_dir=str(tmp_path))
    assert {name: rows.num_rows for name, rows in loaded.items()} == {
        "train": sum(row["extra_info"]["split"] == "train" for row in read_rows(part, "rl")),
        "validation": sum(row["extra_info"]["split"] == "val" for row in read_rows(part, "rl")),
    }


@pytest.mark.parametrize("part", PARTS, indirect=True)
def test_images_are_decoded_when_they_are_cast(part, tmp_path):
    from datasets import Image, List, load_dataset

    loaded = load_dataset("parquet", data_files="sft/*.parquet", split="train", cache_dir=str(tmp_path))
    pictures = loaded.cast_column("images", List(Image()))
    for row, before in zip(pictures, loaded, strict=True):
        assert len(row["images"]) == len(before["images"])
        assert all(side % 28 == 0 for picture in row["images"] for side in picture.size)
