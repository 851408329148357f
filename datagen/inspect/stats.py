"""`datagen stats OUT [OTHER]`: what a dataset is like, or it and another or a benchmark side by side."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datagen.errors import Invalid, UsageError
from datagen.export.benchmark import gold_statistics
from datagen.export.statistics_table import statistics_lines
from datagen.inspect.dataset import read_config, read_run
from datagen.inspect.terminal import command, plain
from datagen.sources.proactive_videoqa import read_gold

_WIDTH = 16
_NAME = 34


@command
def main(argv: list[str] | None = None) -> int:
    """Run `datagen stats`; returns the exit status."""
    p = argparse.ArgumentParser(
        prog="datagen stats",
        description="Print the statistics of a dataset beside published values, or of two side by side.",
        epilog="Exit status: 0 printed; 2 there are none.",
    )
    p.add_argument("out", metavar="OUT", type=Path, help="the folder of a dataset")
    p.add_argument("other", metavar="OTHER", type=Path, nargs="?", help="another one, or a gold file")
    args = p.parse_args(argv)
    lines = list(_compared(args.out, args.other) if args.other else _alone(args.out))
    print("\n".join(lines))
    return 0


def _alone(out: Path) -> Iterator[str]:
    run = _read(out)
    try:
        lines = statistics_lines(run["statistics"])
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        raise UsageError(f"{out}/run.json: statistics: not as a build writes them; build again") from None
    yield from lines or [f"{out} has no dialogues: {run['statistics']['all']['videos']} videos."]


def _compared(out: Path, other: Path) -> Iterator[str]:
    """A line for each figure that one of the two has, with the difference where both are numbers."""
    run = _read(out)
    left = _figures(run, out)
    right = _figures(_read(other) if other.is_dir() else _read_gold(other, run), other)
    heads = "".join(f"{_short(str(each)):>{_WIDTH}}" for each in (out, other))
    yield f"{'':<{_NAME}}{heads}{'difference':>{_WIDTH}}"
    for name in [*left, *(name for name in right if name not in left)]:
        a, b = left.get(name), right.get(name)
        difference = "" if a is None or b is None or a == b else f"{b - a:+.6g}"
        cells = "".join(f"{'-' if v is None else format(v, '.6g'):>{_WIDTH}}" for v in (a, b))
        yield f"{plain(name)[: _NAME - 1]:<{_NAME}}{cells}{difference:>{_WIDTH}}".rstrip()


def _figures(run: dict[str, Any], out: Path) -> dict[str, float]:
    """The figures of a run by name, in the order in which they are shown."""
    try:
        statistics = run["statistics"]
        groups = [
            (run.get("rows") or {}, "rows "),
            (statistics["all"], ""),
            (statistics["all"]["silent_runs"], "silent runs of "),
            *(
                (
                    _some(grid, "reply_rate", "spans_without_turn"),
                    f"at {grid['seconds_per_frame']:g} s x {grid['frames_per_turn']}: ",
                )
                for grid in statistics["grids"]
            ),
            (statistics["questions"], "questions "),
            *(
                (statistics.get("tokens", {}).get(table, {}), f"tokens of {table} ")
                for table in ("sft", "rl")
            ),
            ({"dropped": sum(run.get("drops", {}).values()), "flags": len(statistics["flags"])}, ""),
            ((run.get("spent") or {}), "spent "),
            *(
                (_some(shape, "questions", "answers_per_question", "reply_rate"), f"{kind}: ")
                for kind, shape in sorted(statistics["by_shape"].items())
            ),
        ]
        found = {
            prefix + name.replace("_", " "): value
            for group, prefix in groups
            for name, value in group.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UsageError(f"{out}/run.json: statistics: not as a build writes them; build again") from None
    return found


def _some(figures: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: figures[name] for name in names}


def _read(out: Path) -> dict[str, Any]:
    try:
        run = read_run(out)
    except Invalid as error:
        raise UsageError(f"{out}/{error}") from None
    if "statistics" not in run:
        raise UsageError(f"{out}/run.json: has no statistics; run the build again")
    return run


def _read_gold(gold: Path, run: dict[str, Any]) -> dict[str, Any]:
    """A ProactiveVideoQA file as if it had been exported as the dataset in `out` was."""
    try:
        return {"statistics": gold_statistics(read_gold(gold), read_config(run))}
    except Invalid as error:
        raise UsageError(f"{gold.parent / str(error)}; OTHER is a dataset or a gold file") from None


def _short(text: str) -> str:
    shown = plain(text)
    return shown if len(shown) < _WIDTH else "..." + shown[4 - _WIDTH :]
