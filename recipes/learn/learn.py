"""Does a model learn from the shards when to speak, and what to say?   python recipes/learn/learn.py FOLDER

Makes toy videos, builds a dataset from them by rule, trains a small model on its SFT shards alone, and scores
with PAUC what it says about videos held out (rl/val), beside policies that watch nothing. Needs torch; takes
some minutes on two cores. Its reply is one of those in the shards, or NO REPLY: whichever fits best what it
has seen. With `--control blank` all frames are black in training, with `--control shuffled` they are those
of another video: from such shards nothing should be learnt.
"""

import argparse
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from toy_videos import make_videos

from datagen.export.pauc import BENCHMARK
from datagen.inspect.benchmark import benchmark_folder
from datagen.inspect.grades import grades_by_words
from datagen.inspect.policies import TRIVIAL
from datagen.inspect.scoring import Replies, claims, policy_replies, score
from datagen.inspect.windows import Window
from datagen.records import NO_REPLY
from datagen.sources.proactive_videoqa import Item, read_gold
from datagen.training.dataset import Sample, TurnDataset

TURN_SECONDS = 1.0
BUILD = [
    "frames.interval=1", "export.frames_per_turn=1",
    # A reply at the end of its span earns as much PAUC as none.
    "export.placement=first_evidence", "export.weights=class_balanced",
    "export.rl_fraction=0.25", "export.val_fraction=1",
]  # fmt: skip
WORDS = 512
SIZE = 64
BATCH = 4


class Clip(NamedTuple):
    """What the model sees of a row or an item: a frame and the question asked at each turn."""

    frames: Tensor
    questions: list[str | None]


class Lesson(NamedTuple):
    """A row to learn from."""

    clip: Clip
    replies: Sequence[str]
    weights: Tensor


class Watcher(nn.Module):
    """Frames and the question that is active, turn by turn, against the words of every possible reply."""

    def __init__(self, replies: Sequence[str]) -> None:
        super().__init__()
        self.replies = [NO_REPLY, *replies]
        self.eye = nn.Sequential(
            nn.Conv2d(3, 16, 5, 2, 2), nn.GroupNorm(4, 16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, 2, 1), nn.GroupNorm(4, 32), nn.ReLU(),
            nn.Conv2d(32, SIZE, 3, 2, 1), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(),
        )  # fmt: skip
        self.words = nn.EmbeddingBag(WORDS, SIZE)
        self.both = nn.Linear(2 * SIZE, 2 * SIZE)
        self.memory = nn.GRU(2 * SIZE, 2 * SIZE, batch_first=True)
        self.say = nn.Linear(2 * SIZE, SIZE)

    def forward(self, clips: Sequence[Clip]) -> Tensor:
        """Logits [clips, turns, replies]; shorter clips are filled up at their ends."""
        seen = nn.utils.rnn.pad_sequence([self.eye(c.frames.float() / 255) for c in clips], batch_first=True)
        asked = nn.utils.rnn.pad_sequence([self.active(c.questions) for c in clips], batch_first=True)
        states, _ = self.memory(torch.relu(self.both(torch.cat([seen, asked], -1))))
        return self.say(states) @ self.embedded(self.replies).T

    def active(self, questions: Sequence[str | None]) -> Tensor:
        """The question last asked, at each turn."""
        texts = [""]
        for question in questions:
            texts.append(question or texts[-1])
        known = list(dict.fromkeys(texts))
        return self.embedded(known)[[known.index(text) for text in texts[1:]]]

    def embedded(self, texts: Sequence[str]) -> Tensor:
        """The mean of each text's words, a word being the number it hashes to."""
        words = [[zlib.crc32(word.encode()) % WORDS for word in text.lower().split()] for text in texts]
        offsets = np.cumsum([0, *map(len, words[:-1])])
        return self.words(torch.tensor(list(chain.from_iterable(words))), torch.from_numpy(offsets))

    @torch.no_grad()
    def answer(self, clip: Clip) -> list[str]:
        """What it says at each turn: NO REPLY where that is likelier than all replies together."""
        chances = self([clip])[0].softmax(-1)
        best = chances[:, 1:].argmax(-1) + 1
        silent = chances[:, 0] > 0.5
        return [NO_REPLY if quiet else self.replies[n] for quiet, n in zip(silent, best, strict=True)]


def build(folder: Path, videos: int, pipeline: str) -> Path:
    """The dataset of so many toy videos, and the benchmark of those held out."""
    out = folder / "out"
    make_videos(folder / "videos", videos)
    options = [part for value in BUILD for part in ("--set", value)]
    given = ["--pipeline", pipeline, "--videos", str(folder / "videos"), "--out", str(out)]
    datagen("build", *given, "--quiet", "--backend", "local", *options)
    datagen("benchmark", str(out))
    return out


def datagen(*arguments: str) -> None:
    """Run a command of datagen."""
    subprocess.run([sys.executable, "-m", "datagen", *arguments], check=True)


def lessons(out: Path, control: str) -> list[Lesson]:
    """The SFT rows, their frames shrunk."""
    loader = DataLoader(TurnDataset(out), batch_size=None, num_workers=2)
    samples: list[Sample] = list(loader)
    frames = [shrunk(sample.frames) for sample in samples]
    if control == "blank":
        frames = [torch.zeros_like(own) for own in frames]
    elif control == "shuffled":
        half = len(frames) // 2  # not the next one, which may be of the same video
        frames = frames[half:] + frames[:half]
    return [
        Lesson(Clip(own, list(sample.questions)), sample.replies, sample.weights)
        for own, sample in zip(frames, samples, strict=True)
    ]


def shrunk(frames: Tensor) -> Tensor:
    """uint8 frames at a third of their sides."""
    return functional.avg_pool2d(frames.float(), 3).to(torch.uint8)


def held_out(out: Path) -> tuple[tuple[Item, ...], dict[str, Clip]]:
    """The gold of the benchmark, and what a model is shown for each of its items."""
    folder = benchmark_folder(out)
    clips = {}
    for shown in msgspec.json.decode((folder / "input_1_sec_per_frame.json").read_bytes()):
        turns = shown["conversation"]
        blocks = [{block["type"]: block for block in turn["content"]} for turn in turns]
        pictures = [np.array(Image.open(out / found["image"]["image"])) for found in blocks]
        frames = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
        asked = [found["text"]["text"] if "text" in found else None for found in blocks]
        clips[shown["question_id"]] = Clip(shrunk(frames), asked)
    return read_gold(folder / "gold.json"), clips


def train(model: Watcher, rows: Sequence[Lesson], schedule: torch.optim.lr_scheduler.OneCycleLR) -> float:
    """One epoch; returns the mean loss."""
    number = {text: n for n, text in enumerate(model.replies)}
    losses = []
    for chosen in torch.randperm(len(rows)).split(BATCH):
        batch = [rows[n] for n in chosen.tolist()]
        targets = [torch.tensor([number[text] for text in row.replies]) for row in batch]
        target = nn.utils.rnn.pad_sequence(targets, batch_first=True)
        weight = nn.utils.rnn.pad_sequence([row.weights for row in batch], batch_first=True)
        each = functional.cross_entropy(
            model([row.clip for row in batch]).flatten(0, 1), target.flatten(), reduction="none"
        )
        loss = (each * weight.flatten()).sum() / weight.sum()
        schedule.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        schedule.optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return sum(losses) / len(losses)


def predictions(model: Watcher, clips: Mapping[str, Clip]) -> dict[str, Replies]:
    """What the model says about each item, with the seconds."""
    said = {}
    for question_id, clip in clips.items():
        texts = enumerate(model.answer(clip), 1)
        said[question_id] = [(n * TURN_SECONDS, text) for n, text in texts if text != NO_REPLY]
    return said


def scored(items: Sequence[Item], said: Mapping[str, Replies]) -> tuple[float, int]:
    """Mean PAUC over the answers, and how many replies are in no answer's span."""
    grades = grades_by_words(claims(items, said, BENCHMARK), BENCHMARK.top)
    scores = score(items, said, grades, BENCHMARK)
    areas = [answer.pauc[0] for item in scores for answer in item.answers]
    return sum(areas) / len(areas), sum(item.outside for item in scores)


def always(text: str, window: Window) -> Sequence[str]:
    """The same reply at every turn."""
    return [text] * len(window.times)


def write_predictions(path: Path, said: Mapping[str, Replies]) -> None:
    """The file that `datagen evaluate` reads."""
    with path.open("wb") as file:
        for question_id, replies in said.items():
            spoken = [{"role": "assistant", "content": text, "time": time} for time, text in replies]
            line = {"question_id": question_id, "model_response_list": spoken}
            file.write(msgspec.json.encode(line) + b"\n")


def experiment(out: Path, epochs: int, control: str = "none") -> dict[str, Any]:
    """Train, print PAUC after each epoch, write predictions.jsonl; returns the figures."""
    torch.manual_seed(0)
    rows = lessons(out, control)
    items, clips = held_out(out)
    common = Counter(text for row in rows for text in row.replies if text != NO_REPLY)
    policies = TRIVIAL | {"commonest reply": partial(always, common.most_common(1)[0][0])}
    trivial = {}
    for name, policy in policies.items():
        trivial[name], _ = scored(items, policy_replies(items, policy, TURN_SECONDS))
        print(f"{name:<20} PAUC {100 * trivial[name]:5.1f}")
    placed = {i.question_id: [(ceil(a.related_timespan[1]), a.content) for a in i.answer] for i in items}
    print(f"{'truth, as placed':<20} PAUC {100 * scored(items, placed)[0]:5.1f}")
    model = Watcher(list(common))
    optimiser = torch.optim.Adam(model.parameters())
    steps = epochs * -(-len(rows) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, steps)
    curve = []
    for epoch in range(1, epochs + 1):
        loss = train(model, rows, schedule)
        said = predictions(model, clips)
        area, outside = scored(items, said)
        curve.append(area)
        count = sum(map(len, said.values()))
        print(
            f"epoch {epoch:>2}: loss {loss:.3f}, held-out PAUC {100 * area:5.1f}, best trivial "
            f"{100 * max(trivial.values()):.1f}; {count} replies, {outside} of them in no span",
            flush=True,
        )
    write_predictions(out / "predictions.jsonl", said)
    return {"curve": curve, "trivial": trivial, "outside": outside, "replies": count}


def main() -> None:
    """Build, train, evaluate."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder", type=Path)
    p.add_argument("--videos", type=int, default=240)
    p.add_argument("--epochs", type=int, default=15)
    p.add_argument("--pipeline", choices=["1qna", "nqna"], default="1qna")
    p.add_argument("--control", choices=["none", "blank", "shuffled"], default="none")
    args = p.parse_args()
    out = build(args.folder, args.videos, args.pipeline)
    experiment(out, args.epochs, args.control)
    datagen("evaluate", str(out), str(out / "predictions.jsonl"))


if __name__ == "__main__":
    main()
