"""What a build will ask of models, foretold from a few of its videos. No model is asked.

The videos are watched, as they would be anyway, and go through the flow itself; requests that would be made
are counted. Captions that nobody has written yet are stood in for by one of typical length. What depends on
replies that nobody has given yet is in `assumptions`.
"""

import asyncio
import math
import random
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec

from datagen.assumptions import Key, Load, assumption_lines, video_loads
from datagen.config import Config
from datagen.errors import Failure, Refused
from datagen.flow import VERSIONS, flow
from datagen.ledger import Ledger
from datagen.llm.chat import Asks, ChatReply, ChatRequest
from datagen.llm.models import Models
from datagen.llm.prices import NANO, nanodollars
from datagen.money import stage_of
from datagen.plan import Plan, make_task
from datagen.runner import Step, result_of
from datagen.sandbox import Children
from datagen.scratch import Scratch

SAMPLE = 8
"""Videos looked at, if there are more."""
_T90 = (6.31, 2.92, 2.35, 2.13, 2.02, 1.94, 1.89)
"""Student's t, two-sided 90%, of 1 to SAMPLE - 1 degrees of freedom."""

_CAPTION: dict[str, Any] = {
    "seen": "A person in a dark apron stands at a wooden kitchen counter and slowly cuts a large green "
    "pepper into thin strips with a long steel knife, then moves the strips with both hands into a "
    "round white bowl that stands beside two red tomatoes.",
    "heard": None,
    "actions": ["cuts a green pepper", "moves the strips into a bowl"],
    "objects": ["green pepper", "long steel knife", "white bowl", "two red tomatoes"],
    "state_changes": [{"object": "pepper", "from": "whole", "to": "in strips"}],
    "on_screen_text": [],
    "uncertain": [],
}
_VERDICT: dict[str, Any] = {
    "answerable": "yes",
    "earliest_sufficient": None,
    "uses_future": False,
    "contradicts": False,
    "adds_new": True,
    "referent_clear": True,
    "hint": None,
}
_GOOD = {"caption": _CAPTION, "judge": _VERDICT}
"""Stand-ins by schema, where what is asked next does not hang on what the reply says; else it is refused."""


class Range(NamedTuple):
    """A total over all videos, and where it lies with 90% probability as far as the sample can tell."""

    mean: float
    low: float
    high: float


class Row(NamedTuple):
    """What one stage will ask of one model."""

    stage: str
    model: str
    calls: Range
    prompt_tokens: Range
    completion_tokens: Range
    usd: Range | None
    """None where the model has no price."""


class Estimate(NamedTuple):
    """What is to be expected of the videos that are to do."""

    videos: int
    sampled: int
    unusable: int
    """Videos of the sample that nothing can be made of."""
    rows: tuple[Row, ...]
    usd: Range | None
    """Of the models with a price."""
    assumed: tuple[str, ...]
    """Prompts of which this output has seen no call yet: their numbers rest on assumptions."""


class _Asked(NamedTuple):
    """The requests that one video would make, and its segments; 0 of a video that cannot be used."""

    requests: tuple[ChatRequest, ...]
    segments: int


def estimate(
    plan: Plan, config: Config, models: Models, ledger: Ledger, frames: Path, workers: int
) -> Estimate:
    """Foretell the calls of the videos that are to do. Watches a sample of them; what that yields is kept."""
    count, total = min(SAMPLE, len(plan.owed)), len(plan.owed)
    chosen = sorted(random.Random(config.seed).sample(plan.owed, count))
    asked = asyncio.run(_sample(plan, chosen, config, models, ledger, frames, workers))
    seen = {(cost.prompt, cost.model): cost for cost in ledger.costs()}
    videos = [video_loads(one.requests, one.segments, config, models, seen) for one in asked]
    keys = sorted({key for loads in videos for key in loads}, key=lambda key: (stage_of(key[0]), key))
    stages: dict[tuple[str, str], list[Key]] = {}
    for prompt, model in keys:
        stages.setdefault((stage_of(prompt), model), []).append((prompt, model))

    def whole(keys: list[Key], value: Callable[[Key, Load], float]) -> Range:
        each = [sum(value(key, loads[key]) for key in keys if key in loads) for loads in videos]
        return _range(each, total)

    def usd(key: Key, load: Load) -> float:
        price = config.prices.get(key[1])
        tokens = round(load.prompt_tokens), round(load.completion_tokens)
        return nanodollars(price, *tokens, batch=models.batch) / NANO if price else 0.0

    rows = tuple(
        Row(
            stage,
            model,
            whole(own, lambda _, load: load.calls),
            whole(own, lambda _, load: load.prompt_tokens),
            whole(own, lambda _, load: load.completion_tokens),
            whole(own, usd) if model in config.prices else None,
        )
        for (stage, model), own in stages.items()
    )
    priced = any(model in config.prices for _, model in keys)
    assumed = tuple(sorted({key[0] for key in keys if key not in seen}))
    unusable = sum(not one.segments for one in asked)
    return Estimate(total, count, unusable, rows, whole(keys, usd) if priced else None, assumed)


def _range(values: list[float], total: int) -> Range:
    """The total over `total` videos from the values of some; the sample is drawn without putting back."""
    count = len(values)
    if not count:
        return Range(0.0, 0.0, 0.0)
    mean = total * statistics.fmean(values)
    if count in (1, total):
        return Range(mean, mean, mean)
    error = total * statistics.stdev(values) / math.sqrt(count) * math.sqrt(1 - count / total)
    half = _T90[count - 2] * error
    return Range(mean, max(sum(values), mean - half), mean + half)


class _Counting:
    """A Step whose model calls are counted instead of made, but for those the ledger has."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self.requests: dict[ChatRequest, None] = {}

    async def __call__(self, *args: Any, **more: Any) -> Any:
        return await self._step(*args, **more)

    async def call(self, function: Callable[..., Any], request: ChatRequest) -> ChatReply:
        known = self._step.recall(function, request)
        if known is not None:
            return cast(ChatReply, result_of(known, function))
        self.requests[request] = None
        stand_in = _GOOD.get(request.schema or "")
        if stand_in is None:
            raise Refused("nobody was asked")
        text = msgspec.json.encode(stand_in).decode()
        return ChatReply(
            text=text, finish_reason="stop", model="", prompt_tokens=0, completion_tokens=0, attempts=()
        )


class Nobody:
    """In place of a client: its calls are counted and not made."""

    async def ask(self, request: ChatRequest) -> ChatReply:
        """See Asks."""
        raise AssertionError(request.prompt)

    async def close(self) -> None:
        """See Asks."""


async def _sample(
    plan: Plan,
    chosen: list[int],
    config: Config,
    models: Models,
    ledger: Ledger,
    frames: Path,
    workers: int,
) -> list[_Asked]:
    children, scratch = Children(workers, config.limits.memory_mb), Scratch(workers + 1)
    clients: dict[str, Asks] = {"llm": Nobody(), "vlm": Nobody()}

    async def one(n: int) -> _Asked:
        task = make_task(plan, n, ledger, frames)
        counting = _Counting(Step(task, VERSIONS, children, lambda event: ledger.add([event])))
        try:
            built = await flow(cast(Step, counting), task.entry, config, frames, models, clients, scratch)
        except Failure:
            return _Asked((), 0)
        return _Asked(tuple(counting.requests), len(built.segments))

    try:
        return await asyncio.gather(*map(one, chosen))
    finally:
        await children.close()
        await scratch.close()


def estimate_lines(found: Estimate, seed: int) -> list[str]:
    """An estimate for people."""
    lines = [
        f"Estimate for videos to do: {found.videos}, from {found.sampled} of them (seed {seed}), "
        f"{found.unusable} of which cannot be used. No model was asked.",
        f"  {'stage':<12}{'model':<22}{'calls (90% range)':>28}{'prompt tokens':>16}{'reply tokens':>15}"
        f"{'USD (90% range)':>26}",
    ]
    for row in found.rows:
        lines.append(
            f"  {row.stage:<12}{row.model[:21]:<22}{_span(row.calls, ',.0f'):>28}"
            f"{row.prompt_tokens.mean:>16,.0f}{row.completion_tokens.mean:>15,.0f}"
            f"{_span(row.usd, ',.4f') if row.usd else 'no price':>26}"
        )
    if not found.rows:
        lines.append("  No calls: the rules write, or all replies are known.")
    if found.usd:
        lines.append(f"  In all: USD {_span(found.usd, ',.4f')}; retries after faults come on top.")
    lines.append("  The ranges say how videos differ, not how wrong an assumption may be.")
    if found.assumed:
        names = ", ".join(found.assumed)
        lines += [f"  Assumed, for this output has seen no such calls yet ({names}):", *assumption_lines()]
    return lines


def _span(of: Range, form: str) -> str:
    mean = format(of.mean, form)
    return mean if of.low == of.high else f"{mean} ({of.low:{form}} - {of.high:{form}})"
