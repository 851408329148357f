"""Several workers write the bytes that one does, also where they fail."""

import msgspec
import pytest

from datagen.config import Config, ExportOptions
from datagen.export import export as module
from datagen.export import workers
from datagen.export.part import make_part, pack, unpack
from datagen.export.workers import make_parts
from datagen.records import Built, Rejection
from tests.export.samples import built, monitoring

CONFIG = Config(
    name="t",
    export=ExportOptions(rl_fraction=0.3, val_fraction=0.4, dialogues_per_shard=20, row_group_size=4),
)
NONE_MADE = Rejection("probe", "clips/a.mp4", "clips/a.mp4", "Corrupt", "empty file")


def some(count=40):
    def video(k):
        dialogues = [monitoring(20.0 + 3 * k, 8.0 + k % 5, id=f"v{k:03d}#{n}") for n in range(k % 3)]
        return built(*dialogues, id=f"v{k:03d}", frames=12 + 3 * k, source=f"source {k % 2}")

    return [video(k) for k in range(count)]


def exported(out, config=CONFIG, processes=1, count=40):
    items = [pack(video) for video in some(count)]
    report = module.export(lambda: iter(items), [NONE_MADE], out, config, processes)
    return report, {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}


@pytest.fixture
def short_stretches(monkeypatch):
    monkeypatch.setattr(module, "WORTH_CHILDREN", 10)
    monkeypatch.setattr(module, "STRETCH", 5)


@pytest.mark.usefixtures("short_stretches")
def test_the_same_bytes_and_figures_from_one_worker_and_from_two(tmp_path):
    alone = exported(tmp_path / "a")
    together = exported(tmp_path / "b", processes=2)
    assert len([name for name in alone[1] if name.startswith("sft/")]) == 2
    assert {"rl/user_turns/train.json", "rl/user_turns/val.json"} <= set(alone[1])
    assert alone == together


@pytest.mark.slow
@pytest.mark.usefixtures("short_stretches")
def test_what_children_cannot_do_is_done_without_them(tmp_path, monkeypatch):
    done_here = []

    def noted(items, shared):
        done_here.extend(items)
        return make_part(items, shared)

    monkeypatch.setattr(workers, "make_part", noted)
    too_little = msgspec.structs.replace(CONFIG, limits=msgspec.structs.replace(CONFIG.limits, memory_mb=32))
    assert exported(tmp_path / "a", too_little, 2, 10) == exported(tmp_path / "b", count=10)
    assert len(done_here) == 10 + 10


@pytest.mark.slow
@pytest.mark.usefixtures("short_stretches")
def test_a_failure_to_write_ends_children_and_leaves_the_earlier_export(tmp_path, monkeypatch):
    _, before = exported(tmp_path)

    def failing(stretches, shared, work, workers, take):
        def no_space(*found):
            raise OSError(28, "No space left on device")

        make_parts(stretches, shared, work, workers, no_space)

    monkeypatch.setattr(module, "make_parts", failing)
    with pytest.raises(OSError, match="No space"):
        exported(tmp_path, processes=2)
    after = {p.relative_to(tmp_path).as_posix(): p.read_bytes() for p in tmp_path.rglob("*.parquet")}
    assert {name: after[name] for name in before if name.endswith(".parquet")} == {
        name: held for name, held in before.items() if name.endswith(".parquet")
    }


def test_stretches_hold_videos_of_one_shard_in_order_and_lose_none(monkeypatch):
    monkeypatch.setattr(module, "STRETCH", 3)
    ids = [f"v{k:03d}" for k in range(50)]
    found = list(module._stretches(ids, [name.encode() for name in ids], 4))
    for shard in range(4):
        held = [name.decode() for number, items in found if number == shard for name in items]
        assert held == [name for name in ids if module.shard_index(name, 4) == shard]
    assert all(1 <= len(items) <= 3 for _, items in found)


def test_how_videos_lie_in_stretches_changes_no_table(tmp_path, monkeypatch):
    whole, files = exported(tmp_path / "a")
    monkeypatch.setattr(module, "STRETCH", 1)
    single, others = exported(tmp_path / "b")
    tables = {name for name in files if name.endswith(".parquet")}
    assert {name: files[name] for name in tables} == {name: others[name] for name in tables}
    assert whole == single


def test_a_packed_video_is_the_same_video():
    for video in some(5):
        assert unpack(pack(video), Built) == video
