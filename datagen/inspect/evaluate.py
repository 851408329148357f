"""`datagen evaluate GOLD PREDICTIONS`: what a model said about a benchmark's videos, scored with PAUC."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

from datagen.errors import Invalid, UsageError
from datagen.export.pauc import SETTINGS, Settings
from datagen.inspect.benchmark import benchmark_folder
from datagen.inspect.dataset import read_config, read_run
from datagen.inspect.grades import Judged, grades_by_judge, grades_by_words
from datagen.inspect.policies import POLICIES
from datagen.inspect.scoring import FLOORS, ItemScore, claims, policy_replies, read_predictions, score
from datagen.inspect.terminal import command, plain
from datagen.llm.prompts import load_prompt
from datagen.sources.proactive_videoqa import Item, read_gold

_BESIDE = {"silence": "silent", "always talking": "always talking", "truth at once": "truth at start"}
"""The policies shown beside the predictions, by the names they have there."""
_TURN_SECONDS = 2.0
"""Of the policies' turns, where the gold is no dataset's own."""
_WORDS = "words in common with the truth, NOT a judge"


@command
def main(argv: list[str] | None = None) -> int:
    """Run `datagen evaluate`; returns the exit status."""
    p = argparse.ArgumentParser(
        prog="datagen evaluate",
        description="Score predictions with PAUC, beside what trivial policies would earn. Predictions are a "
        "JSONL file: {question_id, model_response_list: [{role, content, time}]} a line, as ProactiveVideoQA "
        "has them. Scores are written beside them, the judge's replies to .judged there: none is paid twice.",
        epilog="The judge's key is read from OPENAI_API_KEY. Exit status: 0 scored; 1 scored, but not all: "
        "lines that cannot be used, or replies without a grade; 2 not scored; 130 interrupted.",
    )
    p.add_argument("gold", metavar="OUT|GOLD", type=Path, help="a dataset with a benchmark, or a gold file")
    p.add_argument("predictions", metavar="PREDICTIONS", type=Path)
    p.add_argument("--judge-url", metavar="URL", help="an OpenAI-compatible endpoint; without, words count")
    p.add_argument("--judge-model", metavar="NAME")
    p.add_argument(
        "--settings", choices=SETTINGS, default="benchmark", help="grades 0-2 of all said so far in the span "
        "(benchmark), or 0-4 of each reply, its time counting in full (paper) or by half (released)",
    )  # fmt: skip
    args = p.parse_args(argv)
    if bool(args.judge_url) != bool(args.judge_model):
        p.error("--judge-url and --judge-model go together")
    try:
        faults = _evaluate(args)
    except KeyboardInterrupt:
        print("datagen: interrupted; the same command goes on with the replies left", file=sys.stderr)
        return 130
    for fault in faults:
        print(f"datagen: {plain(fault)}", file=sys.stderr)
    return 1 if faults else 0


def _evaluate(args: argparse.Namespace) -> list[str]:
    """Score, print and write; returns what could not be scored."""
    settings = SETTINGS[args.settings]
    items, turn_seconds = _gold(args.gold)
    replies, unusable = read_predictions(args.predictions)
    faults = [f"{args.predictions.name}: {fault}" for fault in unusable]
    if not replies:
        raise UsageError(f"{args.predictions}: holds no predictions{''.join(f'; {f}' for f in unusable[:1])}")
    unknown = replies.keys() - {item.question_id for item in items}
    if len(unknown) == len(replies):
        raise UsageError(f"{args.predictions}: none of its question_ids is in {args.gold}")
    if unknown:
        faults.append(f"{len(unknown)} lines are about questions that the gold lacks: {min(unknown)[:100]!r}")
    asked = claims(items, replies, settings)
    judged = Judged(grades_by_words(asked, settings.top), 0, 0, "")
    if args.judge_url:
        kept = args.predictions.parent / ".judged"
        judged = grades_by_judge(asked, args.judge_url, args.judge_model, settings.top, kept)
    ungraded = sum(grade is None for grade in judged.grades.values())
    if ungraded:
        faults.append(f"{ungraded} of {len(asked)} replies have no grade and count as none: {judged.failure}")
    scores = score(items, replies, judged.grades, settings)
    groups = _groups(scores, _policies(items, turn_seconds, settings))
    judge = f"{args.judge_model}, {load_prompt('score').id}" if args.judge_url else _WORDS
    report = _report(args.settings, judge, turn_seconds, groups, scores)
    target = args.predictions.with_suffix(".scores.json")
    try:
        target.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    except OSError as error:
        raise UsageError(f"{target}: cannot be written: {error.strerror}") from None
    print("\n".join(map(plain, _lines(report, settings))))
    if judged.calls:
        print(f"{judged.calls} calls of the judge, {judged.tokens:,} tokens")
    print(target)
    return faults


def _gold(path: Path) -> tuple[tuple[Item, ...], float]:
    """The items of a gold file or of a dataset's benchmark, and the seconds of a turn. Raises UsageError."""
    turn_seconds = _TURN_SECONDS
    try:
        if path.is_dir():
            config = read_config(read_run(path))
            turn_seconds = config.frames.interval * config.export.frames_per_turn
            path = benchmark_folder(path) / "gold.json"
            if not path.exists():
                raise UsageError(f"{path}: is not there; make it with `datagen benchmark`")
        items = read_gold(path)
    except Invalid as error:
        raise UsageError(str((path if path.is_dir() else path.parent) / str(error))) from None
    if not any(item.answer for item in items):
        raise UsageError(f"{path}: holds no answer")
    return items, turn_seconds


def _policies(items: Sequence[Item], turn_seconds: float, settings: Settings) -> dict[str, list[ItemScore]]:
    found = {}
    for name, policy in _BESIDE.items():
        said = policy_replies(items, POLICIES[policy], turn_seconds)
        found[name] = score(
            items, said, grades_by_words(claims(items, said, settings), settings.top), settings
        )
    return found


def _groups(
    scores: Sequence[ItemScore], policies: Mapping[str, Sequence[ItemScore]]
) -> dict[str, dict[str, Any]]:
    """By type of answer, and `all`: their number, the share of them with a graded reply within its span, mean
    PAUC (0 to 1), and that of each policy, graded by words in common.
    """
    own = [answer for item in scores for answer in item.answers]
    others = {name: [a for item in items for a in item.answers] for name, items in policies.items()}
    groups = {}
    types = sorted({answer.type for answer in own} - {""})
    for type in (*types, "all"):
        places = [n for n, answer in enumerate(own) if type in ("all", answer.type)]
        groups[type] = {
            "answers": len(places),
            "given": _mean([bool(own[n].grades) for n in places]),
            "pauc": _mean([own[n].pauc[0] for n in places]),
            "policies": {name: _mean([them[n].pauc[0] for n in places]) for name, them in others.items()},
        }
    return groups


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 6)


def _report(
    name: str, judge: str, turn_seconds: float, groups: dict[str, dict[str, Any]], scores: Sequence[ItemScore]
) -> dict[str, Any]:
    answers = [answer for item in scores for answer in item.answers]
    return {
        "settings": {"name": name, **structs.asdict(SETTINGS[name])},
        "judge": judge,
        "policy_turn_seconds": turn_seconds,
        "questions": len(scores),
        "without_prediction": [item.question_id for item in scores if not item.predicted],
        "replies": sum(item.replies for item in scores),
        "replies_outside_spans": sum(item.outside for item in scores),
        "pauc_by_w": {f"{w:g}": _mean([a.pauc[1 + n] for a in answers]) for n, w in enumerate(FLOORS)},
        "groups": groups,
        "items": scores,
    }


def _lines(report: dict[str, Any], settings: Settings) -> list[str]:
    heads = ["answers", "given", "PAUC", *_BESIDE]
    lines = [
        f"PAUC in percent; settings {report['settings']['name']}: S={settings.top}, w={settings.floor:g}",
        f"graded by {report['judge']}",
        f"{'type of answer':<24}" + "".join(f"{head:>16}" for head in heads),
    ]
    for type, group in report["groups"].items():
        shares = [group["given"], group["pauc"], *group["policies"].values()]
        cells = [f"{group['answers']}", *(f"{100 * share:.1f}" for share in shares)]
        lines.append(f"{type[:23]:<24}" + "".join(f"{cell:>16}" for cell in cells))
    by_w = ", ".join(f"w={w}: {100 * value:.1f}" for w, value in report["pauc_by_w"].items())
    missing = report["without_prediction"]
    turn, outside = f"{report['policy_turn_seconds']:g} s", report["replies_outside_spans"]
    lines += [
        f"at {by_w}",
        f"the last {len(_BESIDE)} columns: policies at turns of {turn}, graded by words in common",
        f"{report['replies']} replies, of them {outside} outside all spans, which PAUC leaves out",
    ]
    if missing:
        lines.append(
            f"{len(missing)} of {report['questions']} questions have no line and count as silence: "
            f"{', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}"
        )
    return lines
