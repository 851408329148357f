"""Bytes that a second push sends when 1% of the dialogues have changed, or 1% more have come.

Pushes two versions of a synthetic dataset to a Hub on loopback: by LFS, where a changed file is sent whole,
and by Xet, where the Hub's own client finds the pieces of about 64 kB that are stored already. The
same tables are tried as the export writes them and with content-defined chunks of pages; then SFT rows with
frames inside.

    python -m benchmarks.reupload [--dialogues 4096]
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
from msgspec.structs import replace

from datagen.config import Config, FrameOptions
from datagen.export.export import export
from datagen.export.shards import describe_shard
from datagen.records import Built, Caption, Segment
from tests.export.samples import answer, built, dialogue, question

SEGMENTS = 19
FRAMES = 90
FRAME_BYTES = 15_000
EMBEDDED_SHARE = 40
"""With frames there are so many times fewer dialogues."""


def words(rng: random.Random, count: int) -> str:
    """Pseudo-words, the first ones far more often than the last."""
    return " ".join(f"w{int(3000 * rng.random() ** 3):x}" for _ in range(count))


def video(number: int, version: int) -> Built:
    """A video with as much text as a real one: 19 captions, one question, 6 answers."""
    rng = random.Random(f"{number} {version}")
    id = f"v{random.Random(number).getrandbits(64):016x}"
    length = 2.0 * FRAMES / SEGMENTS
    segments, captions = [], []
    for k in range(SEGMENTS):
        name = f"{id}:{round(1000 * k * length):07d}-{round(1000 * (k + 1) * length):07d}"
        segments.append(
            Segment(id=name, video_id=id, start=k * length, end=(k + 1) * length, method="uniform")
        )
        captions.append(Caption(segment_id=name, seen=words(rng, 25), heard=None, provenance="m:caption/v1"))
    answers = [answer(words(rng, 14), s, s + 20.0) for s in range(10, 160, 25)]
    made = built(
        dialogue(question(words(rng, 9), 0.0, *answers), id=f"{id}#{rng.getrandbits(32):08x}"),
        id=id,
        frames=FRAMES,
    )
    return replace(
        made,
        video=replace(made.video, licence="CC0", digest=id[1:] * 2),
        segments=tuple(segments),
        captions=tuple(captions),
    )


def write(out: Path, versions: dict[int, int], chunked: bool) -> None:
    """Export videos (number to version) to `out`."""
    config = Config(name="reupload", frames=FrameOptions(interval=2.0))
    videos = sorted(
        (video(number, version) for number, version in versions.items()), key=lambda b: b.video.id
    )
    report = export(lambda: iter(videos), [], out, config)
    if chunked:
        for name in report["shards"]:
            table = pq.read_table(out / name, partitioning=None)
            pq.write_table(
                table,
                out / name,
                compression="zstd",
                compression_level=3,
                row_group_size=config.export.row_group_size,
                use_content_defined_chunking=True,
                write_page_index=True,
            )
            report["shards"][name] = describe_shard(out / name)
    run = {"status": "done", "pipeline": msgspec.to_builtins(config), **report}
    (out / "run.json").write_text(json.dumps(run))


def write_frames(out: Path) -> None:
    """A file that cannot be compressed for each frame of each video."""
    for row in pq.read_table(out / "videos", columns=["id", "frame_count"]).to_pylist():
        folder = out / "frames" / row["id"]
        folder.mkdir(parents=True)
        rng = random.Random(row["id"])
        for frame in range(1, row["frame_count"] + 1):
            (folder / f"{frame:06d}.jpg").write_bytes(rng.randbytes(FRAME_BYTES))


def push_both(old: Path, new: Path) -> None:
    """In a process of its own: push two versions, print the bytes of each by Xet and by LFS."""
    os.environ["HF_HOME"] = tempfile.mkdtemp(dir=old.parent)
    os.environ["HF_TOKEN"] = "hf_loopback"
    from tests.publish.hub_server import serving

    sent = {}
    with serving() as hub:
        os.environ["HF_ENDPOINT"] = hub.url
        from huggingface_hub import constants

        from datagen.publish.push import main

        for xet in (True, False):
            constants.HF_HUB_DISABLE_XET = not xet
            hub.files, hub.large, before = {}, {}, []
            for out in (old, new):
                frames = "embedded" if (out / "frames").exists() else "none"
                assert main([str(out), "some/body", "--frames", frames]) == 0
                before.append(hub.xet_bytes if xet else sum(len(data) for data in hub.stored.values()))
            sent["xet" if xet else "lfs"] = [before[0], before[1] - before[0]]
    print(json.dumps(sent))


def run() -> None:
    """Print a line for each layout and change."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--dialogues", type=int, default=4096)
    parser.add_argument("--pair", nargs=2, type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.pair:
        push_both(*args.pair)
        return
    print("dialogues, layout, change, protocol               first push, MB   second push, MB (share)")
    for layout in ("as exported", "content-defined chunks", "frames embedded"):
        count = args.dialogues // EMBEDDED_SHARE if layout == "frames embedded" else args.dialogues
        with tempfile.TemporaryDirectory() as folder:
            try_layout(Path(folder), layout, count)


def try_layout(folder: Path, layout: str, count: int) -> None:
    """Print the bytes of both changes of a dataset of `count` dialogues."""
    few = max(1, count // 100)
    some = set(random.Random(1).sample(range(count), few))
    versions = {
        "old": dict.fromkeys(range(count), 0),
        "1% changed": {n: int(n in some) for n in range(count)},
        "1% more": dict.fromkeys(range(count + few), 0),
    }
    for name, videos in versions.items():
        write(folder / name, videos, layout == "content-defined chunks")
        if layout == "frames embedded":
            write_frames(folder / name)
    for name in list(versions)[1:]:
        command = [sys.executable, "-m", "benchmarks.reupload", "--pair"]
        done = subprocess.run([*command, folder / "old", folder / name], check=True, stdout=subprocess.PIPE)
        for protocol, (whole, again) in json.loads(done.stdout.splitlines()[-1]).items():
            head = f"{count}, {layout}, {name}, {protocol}"
            print(f"{head:<50}{whole / 1e6:>14.1f}{again / 1e6:>18.2f} ({again / whole:.1%})", flush=True)


if __name__ == "__main__":
    run()
