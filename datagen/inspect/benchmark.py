"""`datagen benchmark OUT`: held-out dialogues of a dataset as a benchmark in ProactiveVideoQA's format."""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import msgspec
from jsonschema_rs import Draft202012Validator

from datagen.config import Config
from datagen.errors import Invalid, UsageError
from datagen.export.benchmark import Input, benchmark_items
from datagen.inspect.dataset import Frames, read_config, read_rows, read_run, shards, turns_again
from datagen.inspect.terminal import command
from datagen.records import Dialogue
from datagen.resources import resource
from datagen.sources.proactive_videoqa import FORMAT, Item, read_gold

SPLITS = ("rl/val", "rl/train", "sft/train")
_INTERVALS = (0.5, 1, 2)
"""Seconds a frame that the released inference finds in the name of its input."""


@command
def main(argv: list[str] | None = None) -> int:
    """Run `datagen benchmark`; returns the exit status."""
    p = argparse.ArgumentParser(
        prog="datagen benchmark",
        description=f"Write the dialogues of one split to OUT/benchmark/{FORMAT}: gold.json, to score "
        "predictions by, and input_<n>_sec_per_frame.json, to make them from (run in OUT: frames lie there).",
        epilog="Score predictions with `datagen evaluate OUT PREDICTIONS`. Exit status: 0 written; 1 written "
        "with a fault; 2 nothing could be written.",
    )
    p.add_argument("out", metavar="OUT", type=Path, help="the folder of a dataset")
    p.add_argument(
        "--split", choices=SPLITS, default=SPLITS[0], help="which videos: rl/val, held out of all training"
    )
    args = p.parse_args(argv)
    lines, faults = _write(args.out, args.split)
    print("\n".join(lines))
    for fault in faults:
        print(f"datagen: {fault}", file=sys.stderr)
    return 1 if faults else 0


def benchmark_folder(out: Path) -> Path:
    """Where the benchmark of a dataset lies."""
    return out / "benchmark" / FORMAT


def _write(out: Path, split: str) -> tuple[list[str], list[str]]:
    """Write both files in place of older ones; what to print, and the faults found on reading them back."""
    try:
        config = read_config(read_run(out))
        counts: Counter[str] = Counter()
        made = list(_items(out, split, config, counts))
    except Invalid as error:
        raise UsageError(f"{out}: {error}; `datagen validate {out}` tells more") from None
    if not made:
        found = f"{counts['dialogues']} dialogues in {split}, none of them with an answer due"
        raise UsageError(f"{out}: {found}; build from more videos, or choose another --split")
    folder, interval = benchmark_folder(out), config.frames.interval
    gold, inputs = folder / "gold.json", folder / f"input_{interval:g}_sec_per_frame.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("input_*_sec_per_frame.json"):
            old.unlink()
        _write_list(gold, [item for item, _ in made])
        _write_list(inputs, [shown for _, shown in made])
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written: {error.strerror}") from None
    answers = sum(len(item.answer) for item, _ in made)
    lines = [
        f"{gold}: {len(made)} questions of {counts['dialogues']} dialogues in {split}, {answers} answers",
        f"{inputs.name}: {sum(len(shown['conversation']) for _, shown in made)} turns",
        f"left out: {counts['questions'] - len(made)} questions to be met with silence or without a turn, "
        f"{counts['answers'] - answers} answers that no turn can earn",
    ]
    if interval not in _INTERVALS:
        lines.append(f"the released inference knows .5, 1 and 2 seconds a frame, not {interval:g}")
    return lines, list(_faults(gold, inputs, Frames(out)))


def _items(out: Path, split: str, config: Config, counts: Counter[str]) -> Iterator[tuple[Item, Input]]:
    """All items, in the order of the dialogues table. Raises Invalid where a table cannot be read."""
    tables = shards(out)
    videos = {row["id"]: row for row in _videos(tables["videos"]) if row["split"] == split}
    interval = config.frames.interval
    for dialogue in _dialogues(tables["dialogues"], videos):
        video = videos[dialogue.video_id]
        turns = turns_again(dialogue, video["frame_count"], interval, config)
        counts["dialogues"] += 1
        counts["questions"] += len(dialogue.questions)
        counts["answers"] += sum(len(question.answers) for question in dialogue.questions)
        yield from benchmark_items(dialogue, video["path"], video["duration"], turns, interval)


def _videos(paths: list[Path]) -> Iterator[dict[str, Any]]:
    columns = ["id", "path", "duration", "frame_count", "split"]
    for path in paths:
        for _, row in read_rows(path, columns):
            if missing := [name for name in columns if row.get(name) is None]:
                raise Invalid(f"videos/{path.name}: column {missing[0]} is missing")
            yield row


def _dialogues(paths: list[Path], videos: dict[str, Any]) -> Iterator[Dialogue]:
    for path in paths:
        for number, row in read_rows(path, [*Dialogue.__struct_fields__]):
            try:
                if row.get("video_id") in videos:
                    yield msgspec.convert(row, Dialogue)
            except msgspec.ValidationError as error:
                raise Invalid(f"dialogues/{path.name}: row {number}: {str(error)[:200]}") from None


def _write_list(path: Path, values: list[Any]) -> None:
    """A JSON list, a value a line."""
    lines = b",\n".join(map(msgspec.json.encode, values))
    unfinished = path.with_suffix(".tmp")
    unfinished.write_bytes(b"[\n" + lines + b"\n]\n")
    unfinished.rename(path)


def _faults(gold: Path, inputs: Path, frames: Frames) -> Iterator[str]:
    """What is wrong with the two files as they lie there."""
    for path, name in ((gold, "gold"), (inputs, "input")):
        schema = msgspec.json.decode((resource("schemas") / "benchmark" / f"{name}.json").read_bytes())
        for error in Draft202012Validator(schema).iter_errors(msgspec.json.decode(path.read_bytes())):
            yield f"{path.name}: {'/'.join(map(str, error.instance_path))}: {error.message[:200]}"
            return
    try:
        items = read_gold(gold)
    except Invalid as error:
        yield str(error)
        return
    for item, shown in zip_longest(items, msgspec.json.decode(inputs.read_bytes())):
        if not item or not shown or item.question_id != shown["question_id"]:
            yield f"{inputs.name}: does not have the questions of {gold.name}"
            return
        yield from (f"{inputs.name}: {item.question_id}: {fault}" for fault in _input_faults(shown, frames))


def _input_faults(shown: Input, frames: Frames) -> Iterator[str]:
    turns = shown["conversation"]
    if turns[-1].get("skip_inference"):
        yield "its last turn has skip_inference, on which the released inference fails"
    if any(turn.get("skip_inference") and turn.get("must_reply") for turn in turns):
        yield "a turn both skips inference and must be replied to"
    images = [block["image"] for turn in turns for block in turn["content"] if block["type"] == "image"]
    yield from frames.faults(images, images[0].split("/")[1])
