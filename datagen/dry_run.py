"""What a run would do, told before it does it. Nothing is run, asked or written."""

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pyarrow.parquet as pq

from datagen.config import Config
from datagen.errors import Failure
from datagen.estimate import Nobody
from datagen.flow import VERSIONS, flow, frames_key
from datagen.ledger import Ledger
from datagen.llm.chat import Asks, ChatRequest
from datagen.llm.models import Models
from datagen.money import prompt_name, stage_of
from datagen.plan import Plan, export_key, make_task, outcome
from datagen.report import finished_before
from datagen.runner import Step, result_of
from datagen.sandbox import Children
from datagen.scratch import Scratch

SAMPLE = 500
"""Videos looked into, if more are to do; the others are taken to be like them."""

_NAMED = 10


class _Missing(Exception):
    """Carries the name of the first thing that would have to be done."""


class _OnlyRecalled:
    """In place of a Step: what the ledger does not have is not run, it ends the flow."""

    def __init__(self, step: Step) -> None:
        self._step = step

    async def __call__(
        self, function: Callable[..., Any], *args: Any, of: tuple[str, ...] = (), seconds: float
    ) -> Any:
        return self._recall(function, (*args, *of), function.__name__)

    async def call(self, function: Callable[..., Any], request: ChatRequest) -> Any:
        return self._recall(function, (request,), f"calls to {stage_of(prompt_name(request))}")

    def _recall(self, function: Callable[..., Any], of: tuple[Any, ...], name: str) -> Any:
        known = self._step.recall(function, *of)
        if known is None:
            raise _Missing(name)
        return result_of(known, function)


def dry_run_lines(
    plan: Plan, config: Config, models: Models, ledger: Ledger, out: Path, retry_failed: str | None
) -> list[str]:
    """What running `plan` would do: where videos go on, what becomes of the tables."""
    done = len(plan.entries) - len(plan.owed)
    lines = [f"{len(plan.entries)} videos: {done} are done, {len(plan.owed)} to do."]
    lines += _retry_lines(plan, ledger, retry_failed)
    if done == 0 and ledger.note("frames") not in (None, frames_key(config)):
        lines.append(
            f"  The values of `frames` have changed: everything below {out / 'frames'} is replaced. To keep "
            "what is there, build into another folder."
        )
    lines += _begin_lines(plan, config, models, ledger, out / "frames")
    lines += [f"  to do: {plan.entries[n].name}" for n in plan.owed[:_NAMED]]
    if len(plan.owed) > _NAMED:
        lines.append(f"  and {len(plan.owed) - _NAMED} more")
    lines += [f"  rejected: {r.item_id}: {r.detail}" for r in plan.listing_rejected[:_NAMED]]
    return [*lines, *_table_lines(plan, config, ledger, out)]


def _retry_lines(plan: Plan, ledger: Ledger, retry_failed: str | None) -> list[str]:
    flows = ledger.flows()
    codes = Counter(flows[key][1] for key in plan.keys if key in flows)
    again = {code: count for code, count in codes.items() if code and retry_failed in ("all", code)}
    return [f"  of those done, {count} failed ({code}) and are tried again" for code, count in again.items()]


def _begin_lines(plan: Plan, config: Config, models: Models, ledger: Ledger, frames: Path) -> list[str]:
    """The first step that each video lacks; all before it is in the ledger."""
    chosen = plan.owed[:: -(-len(plan.owed) // SAMPLE) or 1]
    begins = Counter(asyncio.run(_begins(plan, chosen, config, models, ledger, frames)))
    about = "about " if len(chosen) < len(plan.owed) else ""
    return [
        f"  {about}{round(count * len(plan.owed) / len(chosen))} of them {how}"
        for how, count in begins.most_common()
    ]


async def _begins(
    plan: Plan, chosen: list[int], config: Config, models: Models, ledger: Ledger, frames: Path
) -> list[str]:
    clients: dict[str, Asks] = {"llm": Nobody(), "vlm": Nobody()}
    none_started, scratch = Children(1, config.limits.memory_mb), Scratch(1)
    found = []
    for n in chosen:
        task = make_task(plan, n, ledger, frames)
        recalled = _OnlyRecalled(Step(task, VERSIONS, none_started, lambda event: None))
        try:
            await flow(cast(Step, recalled), task.entry, config, frames, models, clients, scratch)
            found.append("need no step and no call: all they rest on is in the ledger")
        except _Missing as step:
            found.append(f"begin with {step}; what comes before it is in the ledger")
        except Failure as failure:
            found.append(f"will be rejected again, as {type(failure).__name__}")
    await scratch.close()
    return found


def _table_lines(plan: Plan, config: Config, ledger: Ledger, out: Path) -> list[str]:
    """What becomes of the tables: only what the last build had and this one has not can be told before."""
    flows = ledger.flows()
    now = {flows[key][0] for key in plan.keys if key in flows}
    gone = sorted(_built_before(out) - now) if not plan.owed else []
    lines = [f"  no longer listed, so its rows go: {video_id}" for video_id in gone[:_NAMED]]
    if len(gone) > _NAMED:
        lines.append(f"  and {len(gone) - _NAMED} more")
    if plan.owed:
        return [*lines, "Then all tables are written again, from the ledger."]
    if finished_before(out, export_key(outcome(plan, ledger), config)):
        return ["Nothing to do: the tables are up to date."]
    return [*lines, "All tables are written again, from the ledger: no video is opened, no model asked."]


def _built_before(out: Path) -> set[str]:
    paths = sorted((out / "videos").glob("*.parquet"))
    return {video_id for path in paths for video_id in pq.read_table(path, columns=["id"])["id"].to_pylist()}
