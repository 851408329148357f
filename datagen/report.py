"""run.json and the lines a person reads: what will be done, what has been done."""

import platform
import re
import time
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from datagen.config import Config
from datagen.export.statistics_table import statistics_lines
from datagen.ledger import Ledger, item_of
from datagen.llm.preflight import PREFLIGHT
from datagen.money import spent, spent_lines
from datagen.plan import Plan
from datagen.progress import Progress

PACKAGES = ("datagen", "av", "scenedetect-headless", "pyarrow", "ray", "datasets", "pillow", "numpy")


def write_run_json(out: Path, result: dict[str, Any]) -> None:
    """Write run.json, whole or not at all. It alone holds the time and the versions of the machine."""
    versions = {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES}
    written = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    text = msgspec.json.format(msgspec.json.encode({**result, "versions": versions, "written": written}))
    partial = out / ".work" / "run.json"
    partial.write_bytes(text + b"\n")
    partial.replace(out / "run.json")


def calls_made(ledger: Ledger) -> dict[str, int]:
    """All model calls ever made for this output: calls, tries, tokens as the endpoints counted them."""
    made: Counter[str] = Counter()
    for cost in ledger.costs():
        if cost.prompt != PREFLIGHT:
            made["calls"] += cost.calls
            made["failed_calls"] += cost.failed
            made["tries"] += cost.tries
            made["prompt_tokens"] += cost.prompt_tokens
            made["completion_tokens"] += cost.completion_tokens
    return {name: count for name, count in sorted(made.items()) if count or name != "failed_calls"}


def finished_before(out: Path, key: str) -> dict[str, Any] | None:
    """The run.json of a build that already has these shards, all of them in place; else None."""
    try:
        result: dict[str, Any] = msgspec.json.decode((out / "run.json").read_bytes())
    except (OSError, msgspec.MsgspecError):
        return None
    if not isinstance(result, dict) or result.get("status") != "done" or result.get("export_key") != key:
        return None
    for path, facts in result["shards"].items():
        file = out / path
        if not file.is_file() or file.stat().st_size != facts["bytes"]:
            return None
    return result


def summary_lines(result: dict[str, Any], out: Path, fresh: bool, seconds: float) -> list[str]:
    """What there is now."""
    rows = result["rows"]
    if not fresh:
        return [f"Nothing to do: {out} is up to date ({rows['videos/train']} videos). {seconds:.1f} s."]
    lines = [
        f"{result['videos_listed']} videos listed, {rows['videos/train']} built in {seconds:.1f} s: "
        f"{rows['segments/train']} segments, {rows['dialogues/train']} dialogues; "
        f"{result['turns']} turns, {result['reply_turns']} of them replies ({result['reply_rate']:.1%})."
    ]
    ran = ", ".join(f"{count} {step}" for step, count in result["steps_run"].items())
    lines.append(f"  steps run: {ran or 'none'}; the others were in the ledger")
    if result["model_calls"]:
        calls = ", ".join(
            f"{count} {what.replace('_', ' ')}" for what, count in result["model_calls"].items()
        )
        lines.append(f"  model calls so far: {calls}")
    lines += spent_lines(result["spent"])
    lines += [f"  {name:<16}{count:>8} rows" for name, count in rows.items()]
    if result["drops"]:
        by_code = ", ".join(f"{count} {code}" for code, count in result["drops"].items())
        lines.append(f"  rejected: {by_code}; every one has a row with its reason in {out / 'rejected'}")
    lines += statistics_lines(result["statistics"])
    lines.append(f"Written to {out}; counts, hashes and versions are in run.json.")
    return lines


def slowest_of(progress: Progress, plan: Plan) -> list[dict[str, Any]]:
    """The steps of this run that took longest, with the names of their videos."""
    slowest = progress.slowest()
    items = {item for _, _, item in slowest}
    names = {item: entry.name for entry in plan.entries if slowest and (item := item_of(entry)) in items}
    return [
        {"video": names.get(item, item), "step": step, "seconds": round(seconds, 1)}
        for seconds, step, item in slowest
    ]


def slowest_lines(slowest: list[dict[str, Any]]) -> list[str]:
    """The same for people."""
    return [f"  slowest: {one['step']} of {one['video']}, {one['seconds']:.1f} s" for one in slowest]


def log_line(event: str, **values: Any) -> str:
    """One line for machines."""
    return msgspec.json.encode({"event": event, **values}).decode()


def budget_message(
    plan: Plan, config: Config, ledger: Ledger, budget_usd: float, why: str, again: str
) -> str:
    """Why a run with a budget stopped, and how to go on."""
    table = spent(ledger.costs(), config.prices)
    left = sum(not ledger.is_done(plan.keys[n]) for n in plan.owed)
    return (
        f"datagen: --budget-usd {budget_usd:g}: would be passed: {why}; ${table['usd']:.4f} was spent on "
        f"this output in all runs; {left} of {len(plan.entries)} videos are left to do.\n"
        f"What was done is kept. Go on with: {with_budget(again, 2 * budget_usd)}"
    )


def with_budget(command: str, budget_usd: float) -> str:
    """A command with another budget."""
    return re.sub(r"(--budget-usd[ =])\S+", rf"\g<1>{budget_usd:g}", command)
