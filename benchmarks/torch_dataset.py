"""What samples of `TurnDataset` cost, against decoding their JPEG pictures alone.

    python benchmarks/torch_dataset.py [--rows 96] [--rounds 5]

Made-up rows of 90 frames of 392 x 224 pixels (the size of a 16:9 video's), by path and embedded. `decoding`
opens and decodes the same pictures with Pillow and keeps none. One round takes all rows once in each way, one
after the other, in this process; what counts is processor time, of which the ratio's median is told. In order
and `shuffled` read each row group once; `random` jumps between them, as a plain RandomSampler does.
"""

import argparse
import io
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image

from datagen.export.embed import embed_shard
from datagen.export.sft import SftRow, sft_table
from datagen.records import NO_REPLY, SYSTEM_PROMPT
from datagen.training.dataset import TurnDataset

FRAMES, PER_TURN, SIZE = 90, 2, (392, 224)


def make(folder: Path, count: int) -> None:
    """Shards by path and embedded. Pictures are a ramp with noise, some 20 kB each, alike in all videos."""
    chance = np.random.default_rng(0)
    pictures = []
    for _ in range(FRAMES):
        ramp = np.add.outer(np.linspace(0, 90, SIZE[1]), np.linspace(0, 90, SIZE[0]))
        pixels = ramp[..., None] + chance.normal(40, 6, (*SIZE[::-1], 3))
        buffer = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
        pictures.append(buffer.getvalue())
    rows = []
    for number in range(count):
        video = f"v{number:04d}"
        frames = folder / "paths" / "frames" / video
        frames.mkdir(parents=True)
        for k, picture in enumerate(pictures, 1):
            (frames / f"{k:06d}.jpg").write_bytes(picture)
        turns = FRAMES // PER_TURN
        texts = [SYSTEM_PROMPT, "What is going on?", *[NO_REPLY, ""] * (turns - 1), f"It ends in {video}."]
        rows.append(
            SftRow(
                question_id=f"{video}#0", video_id=video, data_source="made up", dialogue_type="1QnA",
                start=0.0, first_frame=1, texts=texts, frames=[PER_TURN] * turns, weights=[1.0] * turns,
                interval=2.0, tokens=FRAMES * 128,
            )
        )  # fmt: skip
    name = Path("sft") / "train-00000-of-00001.parquet"
    (folder / "paths" / "sft").mkdir()
    pq.write_table(sft_table(rows), folder / "paths" / name, row_group_size=256, compression="zstd")
    embed_shard(folder / "paths" / name, folder / "embedded" / name, folder / "paths")
    print(f"{count} rows of {FRAMES} frames of {len(pictures[0]) / 1000:.0f} kB")


def decode(paths: Iterable[Path]) -> None:
    for path in paths:
        with Image.open(path) as picture:
            picture.load()


def take(dataset: TurnDataset, order: Iterable[int]) -> None:
    for index in order:
        assert dataset[index].frames.shape[0] == FRAMES


def cost(work: Callable[[], None]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rows", type=int, default=96)
    p.add_argument("--rounds", type=int, default=5)
    args = p.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, args.rows)
        pictures = sorted((folder / "paths" / "frames").rglob("*.jpg"))
        jumps = random.Random(0).sample(range(args.rows), args.rows)
        jobs: dict[str, Callable[[], None]] = {"decoding": lambda: decode(pictures)}
        for layout in ("paths", "embedded"):
            dataset = TurnDataset(folder / layout)
            orders = {"in order": range(args.rows), "shuffled": dataset.shuffled(0), "random": jumps}
            for how, order in orders.items():
                jobs[f"{layout}, {how}"] = lambda dataset=dataset, order=order: take(dataset, order)
        spent: dict[str, list[float]] = {job: [] for job in jobs}
        for _ in range(args.rounds):
            for job, work in jobs.items():
                spent[job].append(cost(work))
    print(f"{'':<22}{'samples/CPU s':>14}{'frames/CPU s':>14}{'of decoding':>13}")
    for job, seconds in spent.items():
        ratio = statistics.median(s / d for s, d in zip(seconds, spent["decoding"], strict=True))
        speed = args.rows / statistics.median(seconds)
        print(f"{job:<22}{speed:>14.1f}{speed * FRAMES:>14.0f}{ratio:>12.2f}x")


if __name__ == "__main__":
    main()
