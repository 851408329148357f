import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from datagen.config import ExportOptions
from datagen.errors import UsageError
from datagen.export.balance import turn_weights
from datagen.export.embed import embed_shard
from datagen.export.sft import sft_rows, sft_table
from datagen.records import SYSTEM_PROMPT
from datagen.training.dataset import TurnDataset
from tests.export.samples import COUNTER, INTERVAL, answer, built, dialogue, grid, question

SIZE = (56, 28)
OPTIONS = ExportOptions(weights="class_balanced", max_frames=20)
VIDEOS = [f"v{n}" for n in range(5)]


def shade(video, frame):
    return 40 * int(video[1:]) + 8 * frame


def turns_of(video):
    """12 frames, the last of them alone on its turn where the number is odd."""
    d = dialogue(
        question("What now?", 0.0, answer(f"It begins in {video}.", 2, 7)),
        question("And then?", 12.0, answer(f"It ends in {video}.", 13, 18)),
        id=f"{video}#0",
    )
    return d, grid(d, 11 + int(video[1:]) % 2)


@pytest.fixture
def out(tmp_path):
    """Two shards, of three and two videos, in row groups of two."""
    return write(tmp_path / "paths", "paths")


def write(out, layout):
    (out / "sft").mkdir(parents=True)
    for number, videos in enumerate([VIDEOS[:3], VIDEOS[3:]]):
        rows = []
        for video in videos:
            d, turns = turns_of(video)
            rows += sft_rows(built(d, id=video, frames=12), d, turns, OPTIONS, INTERVAL, COUNTER)[0]
            for frame in range(1, 13):
                path = out / "frames" / video / f"{frame:06d}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", SIZE, (shade(video, frame), 0, 90)).save(path, quality=95)
        shard = out / "sft" / f"train-{number:05d}-of-00002.parquet"
        table = sft_table(rows, "none" if layout == "none" else "paths")
        if layout == "embedded":
            pq.write_table(table, out / "plain.parquet")
            embed_shard(out / "plain.parquet", shard, out)
        else:
            pq.write_table(table, shard, row_group_size=2)
    return out


def change_row(out, **columns):
    """Other values in row 1 of the first shard."""
    [path] = (out / "sft").glob("train-00000-*")
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[1] |= columns
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path, row_group_size=2)


@pytest.mark.torch
@pytest.mark.parametrize("layout", ["paths", "embedded", "none"])
def test_turns_are_those_exported_with_the_pictures_shown_in_them(tmp_path, layout):
    samples = list(TurnDataset(write(tmp_path, layout)))
    assert [sample.video_id for sample in samples] == VIDEOS
    for sample in samples:
        _, turns = turns_of(sample.video_id)
        assert (sample.question_id, sample.system) == (f"{sample.video_id}#0", SYSTEM_PROMPT)
        found = list(sample.turns())
        assert [(t.time, t.question, t.reply) for t in found] == [(t.time, t.user, t.text) for t in turns]
        assert [t.label for t in found] == [t.label == "reply" for t in turns]
        assert [t.weight for t in found] == pytest.approx(turn_weights(turns, "class_balanced"))
        frames = [list(range(t.first_frame, t.last_frame + 1)) for t in turns]
        if layout == "none":
            assert all(t.frames is None for t in found)
            assert [list(times) for times in sample.frame_times] == [
                [n * INTERVAL for n in own] for own in frames
            ]
            continue
        for turn, own in zip(found, frames, strict=True):
            assert turn.frames.shape == (len(own), 3, *SIZE[::-1]) and turn.frames.dtype.itemsize == 1
            means = turn.frames.double().mean((2, 3))
            for mean, n in zip(means.tolist(), own, strict=True):
                assert mean == pytest.approx([shade(sample.video_id, n), 0, 90], abs=3)


def same(one, other):
    return (
        one.question_id == other.question_id
        and one.replies == other.replies
        and bool((one.frames == other.frames).all() and (one.weights == other.weights).all())
    )


@pytest.mark.torch
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_give_the_same_samples_in_any_order(out, start):
    from torch.utils.data import DataLoader

    dataset = TurnDataset(out)
    order = [4, 0, 2, 1, 3]
    direct = [dataset[n] for n in order]
    loader = DataLoader(
        dataset, batch_size=2, sampler=order, collate_fn=list, num_workers=2, multiprocessing_context=start
    )
    loaded = [sample for batch in loader for sample in batch]
    assert all(map(same, loaded, direct)) and len(loaded) == 5


@pytest.mark.torch
def test_ranks_share_the_rows(out):
    from torch.utils.data import DataLoader, DistributedSampler

    dataset = TurnDataset(out)
    seen = []
    for rank in range(2):
        sampler = DistributedSampler(dataset, num_replicas=2, rank=rank, drop_last=False)
        seen.append([s.video_id for s in DataLoader(dataset, batch_size=None, sampler=sampler)])
    assert set(seen[0] + seen[1]) == set(VIDEOS) and len(seen[0]) == len(seen[1]) == 3


@pytest.mark.torch
def test_what_is_missing_or_broken_is_named_by_shard_row_and_frame(out):
    from torch.utils.data import DataLoader

    missing, broken, other = (out / "frames" / f"v{n}" / "000003.jpg" for n in (1, 2, 3))
    missing.unlink()
    broken.write_bytes(broken.read_bytes()[:300])
    Image.new("RGB", (84, 28)).save(other)
    dataset = TurnDataset(out)
    assert dataset[0].video_id == "v0"
    with pytest.raises(UsageError, match=r"train-00000-\S+ row 1 \(v1#0\): 'frames/v1/000003.jpg': no such"):
        dataset[1]
    with pytest.raises(UsageError, match=r"train-00000-\S+ row 2 \(v2#0\): frames/v2/000003.jpg: is no pict"):
        dataset[2]
    with pytest.raises(UsageError, match=r"train-00001-\S+ row 0 \(v3#0\): frames/v3/000003.jpg: is of anot"):
        dataset[3]
    loader = DataLoader(dataset, batch_size=None, sampler=[1], num_workers=1)
    with pytest.raises(UsageError, match="row 1"):
        list(loader)


@pytest.mark.torch
def test_rows_of_others_are_not_trusted(out):
    change_row(out, images=["../../../etc/hostname"] * 12)
    with pytest.raises(UsageError, match=r"row 1 .*no such frame"):
        TurnDataset(out)[1]
    change_row(out, turn_weights=[1.0])
    with pytest.raises(UsageError, match=r"row 1 .*do not fit together"):
        TurnDataset(out)[1]
    change_row(out, messages=[], turn_weights=[], turn_times=[], images=[])
    with pytest.raises(UsageError, match=r"row 1 .*is no SFT row"):
        TurnDataset(out)[1]
    change_row(out, turn_times=None)
    with pytest.raises(UsageError, match=r"row 1 .*is no SFT row"):
        TurnDataset(out)[1]


def test_folders_without_shards_and_files_that_are_none_are_refused(out):
    with pytest.raises(UsageError, match=r"holds no sft/\*\.parquet"):
        TurnDataset(out / "frames")
    next(iter((out / "sft").iterdir())).write_bytes(b"PAR1")
    with pytest.raises(UsageError, match="cannot be read as Parquet"):
        TurnDataset(out)


def test_a_shuffle_takes_every_row_once_and_one_row_group_after_the_other(out):
    dataset = TurnDataset(out)
    groups = [{0, 1}, {2}, {3, 4}]
    orders = {tuple(dataset.shuffled(seed)) for seed in range(400)}
    assert dataset.shuffled(7) == dataset.shuffled(7)
    assert len(orders) == 3 * 2 * 1 * 2 * 2
    for order in orders:
        assert sorted(order) == list(range(5))
        assert all(abs(order.index(min(g)) - order.index(max(g))) < len(g) for g in groups)


def test_it_is_counted_and_handed_to_workers_without_torch_and_without_rows(out):
    code = (
        "import sys, pickle; sys.modules['torch'] = None\n"
        "from datagen.training.dataset import TurnDataset\n"
        "print(len(pickle.loads(pickle.dumps(TurnDataset(sys.argv[1])))))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(out)], capture_output=True, text=True)
    assert done.stdout == "5\n", done.stderr
