"""`datagen validate OUT`: is a dataset whole, does it keep to its contracts, and would it train?"""

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

from datagen.errors import UsageError
from datagen.export.pauc import SETTINGS
from datagen.inspect.check import Fault, Findings, check_dataset
from datagen.inspect.dataset import shards
from datagen.inspect.forecast import DEAD_GAIN, MARGIN, Forecast
from datagen.inspect.policies import OWN, POLICIES
from datagen.inspect.terminal import command, plain

_SHOWN = 100
"""Faults printed; --json has more."""
_IDS_SHOWN = 5


@command
def main(argv: list[str] | None = None) -> int:
    """Run `datagen validate`; returns the exit status."""
    p = argparse.ArgumentParser(
        prog="datagen validate",
        description="Check a dataset: schemas, hashes and rows; what trivial policies earn on its RL windows "
        "beside the truth; which windows teach nothing. Replies are judged by words in common, without a "
        "model.",
        epilog="Exit status: 0 all is right; 1 something is not; 2 wrong usage.",
    )
    p.add_argument("out", metavar="OUT", type=Path, help="the folder of a dataset")
    p.add_argument(
        "--margin",
        type=float,
        default=MARGIN,
        help="reward by which the truth must be ahead of every trivial policy, on average "
        "(default: %(default)g, a tenth of mean PAUC)",
    )
    p.add_argument("--json", action="store_true", help="everything as one JSON object")
    args = p.parse_args(argv)
    if not 0 <= args.margin < math.inf:
        p.error(f"--margin {args.margin:g}: must be 0 or more")
    if not any(shards(args.out).values()):
        raise UsageError(f"{args.out}: no dataset: no .parquet in videos/, sft/, rl/, ...")
    findings, forecast = check_dataset(args.out, args.margin)
    if args.json:
        print(msgspec.json.format(msgspec.json.encode(_as_json(findings, forecast))).decode())
    else:
        print("\n".join(map(plain, _report_lines(findings, forecast))))
    return 1 if findings.fault_count or forecast.verdicts() else 0


def _report_lines(findings: Findings, forecast: Forecast) -> Iterator[str]:
    """What a person reads."""
    yield from map(_fault_line, findings.faults[:_SHOWN])
    if findings.fault_count > _SHOWN:
        yield f"and {findings.fault_count - _SHOWN} more faults"
    rows = ", ".join(f"{count} {table} rows" for table, count in sorted(findings.rows.items())) or "no rows"
    yield f"{rows} checked: {findings.fault_count or 'no'} faults"
    if not forecast.windows:
        yield "No RL windows: nothing to score."
        return
    yield ""
    yield from _policy_table(forecast)
    yield ""
    trivial = [f"TRIVIAL: {line}" for line in forecast.verdicts()]
    yield from trivial or ["No trivial policy comes near the truth on average."]
    for setting in SETTINGS:
        ties = [tie for tie in forecast.ties if tie.setting == setting]
        if ids := list(dict.fromkeys(tie.id for tie in ties)):
            named = ", ".join(sorted({tie.policy for tie in ties}))
            yield (
                f"{setting}: in {_of(ids, forecast)} a trivial policy ({named}) is within "
                f"{forecast.margin:g} of the truth: {_some(ids)}"
            )
    for setting in SETTINGS:
        own, silent = forecast.earned[setting][OWN], forecast.earned[setting]["silent"]
        if own.windows and own.reward <= silent.reward:
            yield (
                f"{setting}: SFT's own replies earn {own.reward:.3f}, silence {silent.reward:.3f}: RL would "
                "first unlearn to reply; see export.placement"
            )
    yield from _dead_lines(forecast)


def _policy_table(forecast: Forecast) -> Iterator[str]:
    """Mean PAUC and reward of each policy under each setting."""
    yield f"{f'{forecast.windows} RL windows':<22}" + "".join(f"{name:>18}" for name in SETTINGS)
    yield f"{'policy':<22}" + "".join(f"{'PAUC':>10}{'reward':>8}" for _ in SETTINGS)
    for policy in POLICIES:
        earned = [forecast.earned[setting][policy] for setting in SETTINGS]
        if earned[0].windows:
            yield f"{policy:<22}" + "".join(f"{e.pauc:>10.3f}{e.reward:>8.3f}" for e in earned)


def _dead_lines(forecast: Forecast) -> Iterator[str]:
    for setting in SETTINGS:
        yield (
            f"{setting}: reward varies by {forecast.spread[setting]:.3f} (standard deviation over the "
            "policies, mean of the windows)"
        )
        for why in sorted({dead.why for dead in forecast.dead if dead.setting == setting}):
            ids = [dead.id for dead in forecast.dead if (dead.setting, dead.why) == (setting, why)]
            yield (
                f"{setting}: {_of(ids, forecast)} are dead, all that is right earns at most {DEAD_GAIN:g} "
                f"beyond silence, as {why}: {_some(ids)}"
            )
    if forecast.dead:
        yield f"Dead windows can be left out: --set export.rl_min_gain={DEAD_GAIN:g}"


def _of(ids: list[str], forecast: Forecast) -> str:
    return f"{len(ids)} of {forecast.windows} windows ({len(ids) / forecast.windows:.0%})"


def _some(ids: list[str]) -> str:
    more = f" and {len(ids) - _IDS_SHOWN} more" if len(ids) > _IDS_SHOWN else ""
    return ", ".join(ids[:_IDS_SHOWN]) + more


def _fault_line(fault: Fault) -> str:
    place = fault.file if fault.row is None else f"{fault.file} row {fault.row}"
    return f"{place} ({fault.id}): {fault.message}" if fault.id else f"{place}: {fault.message}"


def _as_json(findings: Findings, forecast: Forecast) -> dict[str, Any]:
    """Everything a machine may want to know."""
    return {
        "right": not findings.fault_count and not forecast.verdicts(),
        **structs.asdict(findings),
        "windows": forecast.windows,
        "margin": forecast.margin,
        "earned": {setting: dict(found) for setting, found in forecast.earned.items()},
        "verdicts": forecast.verdicts(),
        "ties": forecast.ties,
        "spread": forecast.spread,
        "dead": forecast.dead,
    }
