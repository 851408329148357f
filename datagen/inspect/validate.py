"""`datagen validate OUT`: is a dataset whole, does it keep to its contracts, and would it train?"""

import argparse
import math
import sys
from pathlib import Path
from typing import Any

import msgspec

from datagen.export.pauc import SETTINGS
from datagen.inspect.check import Fault, Findings, check_dataset
from datagen.inspect.dataset import shards
from datagen.inspect.forecast import DEAD_GAIN, MARGIN, Forecast
from datagen.inspect.policies import OWN, POLICIES

_SHOWN = 100
"""Faults printed; --json has more."""
_IDS_SHOWN = 5


def parser() -> argparse.ArgumentParser:
    """The command's grammar and help."""
    p = argparse.ArgumentParser(
        prog="datagen validate",
        description="Check a dataset: schemas, hashes and rows; what trivial policies earn on its RL windows "
        "beside the truth; which windows teach nothing. Replies are judged by words in common, without a "
        "model.",
        epilog="Exit status: 0 all is right; 1 something is not; 2 wrong usage.",
    )
    p.add_argument("out", metavar="OUT", help="the folder of a dataset")
    p.add_argument(
        "--margin",
        type=float,
        default=MARGIN,
        help="reward by which the truth must be ahead of every trivial policy, on average "
        "(default: %(default)g, a tenth of mean PAUC)",
    )
    p.add_argument("--json", action="store_true", help="everything as one JSON object")
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    args = parser().parse_args(argv)
    if not 0 <= args.margin < math.inf:
        parser().error(f"--margin {args.margin:g}: must be 0 or more")
    out = Path(args.out)
    if not any(shards(out).values()):
        print(f"datagen: {args.out}: no dataset: no .parquet in videos/, sft/, rl/, ...", file=sys.stderr)
        return 2
    findings, forecast = check_dataset(out, args.margin)
    verdicts = forecast.verdicts()
    if args.json:
        print(msgspec.json.format(msgspec.json.encode(as_json(findings, forecast))).decode())
    else:
        print("\n".join(printable(line) for line in report_lines(findings, forecast)))
    return 1 if findings.fault_count or verdicts else 0


def report_lines(findings: Findings, forecast: Forecast) -> list[str]:
    """What a person reads."""
    lines = [_fault_line(fault) for fault in findings.faults[:_SHOWN]]
    if findings.fault_count > _SHOWN:
        lines.append(f"and {findings.fault_count - _SHOWN} more faults")
    rows = ", ".join(f"{count} {table} rows" for table, count in sorted(findings.rows.items())) or "no rows"
    lines.append(f"{rows} checked: {findings.fault_count or 'no'} faults")
    if not forecast.windows:
        return [*lines, "No RL windows: nothing to score."]
    lines += ["", *policy_table(forecast), ""]
    verdicts = forecast.verdicts()
    lines += [f"TRIVIAL: {line}" for line in verdicts] or [
        "No trivial policy comes near the truth on average."
    ]
    lines += _tie_lines(forecast)
    lines += _placement_lines(forecast)
    lines += _dead_lines(forecast)
    return lines


def policy_table(forecast: Forecast) -> list[str]:
    """Mean PAUC and reward of each policy under each setting."""
    heads = "".join(f"{name:>18}" for name in SETTINGS)
    lines = [f"{f'{forecast.windows} RL windows':<22}{heads}"]
    lines.append(f"{'policy':<22}" + "".join(f"{'PAUC':>10}{'reward':>8}" for _ in SETTINGS))
    for policy in POLICIES:
        earned = [forecast.earned[setting][policy] for setting in SETTINGS]
        if earned[0].windows:
            lines.append(f"{policy:<22}" + "".join(f"{e.pauc:>10.3f}{e.reward:>8.3f}" for e in earned))
    return lines


def _tie_lines(forecast: Forecast) -> list[str]:
    lines = []
    for setting in SETTINGS:
        ties = [tie for tie in forecast.ties if tie.setting == setting]
        ids = list(dict.fromkeys(tie.id for tie in ties))
        if ids:
            named = ", ".join(sorted({tie.policy for tie in ties}))
            lines.append(
                f"{setting}: in {_of(ids, forecast)} a trivial policy ({named}) is within "
                f"{forecast.margin:g} of the truth: {_some(ids)}"
            )
    return lines


def _placement_lines(forecast: Forecast) -> list[str]:
    lines = []
    for setting in SETTINGS:
        own, silent = forecast.earned[setting][OWN], forecast.earned[setting]["silent"]
        if own.windows and own.reward <= silent.reward:
            lines.append(
                f"{setting}: SFT's own replies earn {own.reward:.3f}, silence {silent.reward:.3f}: RL would "
                "first unlearn to reply; see export.placement"
            )
    return lines


def _dead_lines(forecast: Forecast) -> list[str]:
    lines = []
    for setting in SETTINGS:
        lines.append(
            f"{setting}: reward varies by {forecast.spread[setting]:.3f} (standard deviation over the "
            "policies, mean of the windows)"
        )
        for why in sorted({dead.why for dead in forecast.dead if dead.setting == setting}):
            ids = [dead.id for dead in forecast.dead if (dead.setting, dead.why) == (setting, why)]
            lines.append(
                f"{setting}: {_of(ids, forecast)} are dead, all that is right earns at most {DEAD_GAIN:g} "
                f"beyond silence, as {why}: {_some(ids)}"
            )
    if forecast.dead:
        lines.append(f"Dead windows can be left out: --set export.rl_min_gain={DEAD_GAIN:g}")
    return lines


def _of(ids: list[str], forecast: Forecast) -> str:
    return f"{len(ids)} of {forecast.windows} windows ({len(ids) / forecast.windows:.0%})"


def _some(ids: list[str]) -> str:
    more = f" and {len(ids) - _IDS_SHOWN} more" if len(ids) > _IDS_SHOWN else ""
    return ", ".join(ids[:_IDS_SHOWN]) + more


def _fault_line(fault: Fault) -> str:
    place = fault.file if fault.row is None else f"{fault.file} row {fault.row}"
    return f"{place} ({fault.id}): {fault.message}" if fault.id else f"{place}: {fault.message}"


def as_json(findings: Findings, forecast: Forecast) -> dict[str, Any]:
    """Everything a machine may want to know."""
    return {
        "right": not findings.fault_count and not forecast.verdicts(),
        "fault_count": findings.fault_count,
        "faults": findings.faults,
        "rows": findings.rows,
        "windows": forecast.windows,
        "margin": forecast.margin,
        "earned": {setting: dict(found) for setting, found in forecast.earned.items()},
        "verdicts": forecast.verdicts(),
        "ties": forecast.ties,
        "spread": forecast.spread,
        "dead": forecast.dead,
    }


def printable(text: str) -> str:
    """Text of unknown origin without what a terminal would obey."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


if __name__ == "__main__":
    sys.exit(main())
