"""What model calls took, by stage and by model, in tokens and in dollars."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import structs

from datagen.config import Price
from datagen.errors import Failure, OverBudget, UsageError
from datagen.ledger import Cost, Event, key_of
from datagen.llm.chat import ChatReply, ChatRequest
from datagen.llm.models import Models
from datagen.llm.preflight import PREFLIGHT
from datagen.llm.prices import NANO, nanodollars, price_of, prompt_tokens, used

_STAGES = {
    "one_qna": "synthesize",
    "n_qna": "synthesize",
    "question": "synthesize",
    "reply": "synthesize",
    "silence": "judge",
    "sufficient": "tighten",
}
"""Stages that go by another name than their prompt."""


def cost_of(a_picture: int, batch: bool, request: ChatRequest, outcome: ChatReply | Failure) -> Cost:
    """What a call took, by its request and what came of it; `a_picture`: tokens expected of a picture."""
    tokens = used(outcome.attempts)
    return Cost(
        prompt=prompt_name(request),
        model=request.model,
        batch=batch,
        failed=int(isinstance(outcome, Failure)),
        tries=len(outcome.attempts),
        prompt_tokens=tokens[0],
        completion_tokens=tokens[1],
        expected_tokens=prompt_tokens(request, a_picture) * answered(outcome.attempts),
    )


def prompt_name(request: ChatRequest) -> str:
    """Name of a request's prompt, followed by those of the follow-ups: caption, caption+repair."""
    return "+".join(name.partition("/")[0] for name in request.prompt.split("+"))


def answered(attempts: Iterable[object]) -> int:
    """Tries for which the endpoint counted the prompt's tokens."""
    return sum(used([attempt])[0] > 0 for attempt in attempts)


def stage_of(prompt: str) -> str:
    """The stage of the calls with a prompt: caption, synthesize, judge, repair, ..."""
    last = prompt.rpartition("+")[2]
    return _STAGES.get(last, last)


def dollars(cost: Cost, prices: Mapping[str, Price]) -> float | None:
    """What calls cost; None where the model has no price."""
    if cost.model not in prices:
        return None
    price = prices[cost.model]
    return nanodollars(price, cost.prompt_tokens, cost.completion_tokens, batch=cost.batch) / NANO


def spent(costs: list[Cost], prices: Mapping[str, Price]) -> dict[str, Any]:
    """The table of run.json: by stage and by model the calls, tries and tokens, and `usd` where prices are
    known; where some are not, `unpriced` names the models and `usd` is the sum of the others.
    """
    table: dict[str, Any] = {"stages": {}, "models": {}}
    for cost in costs:
        usd = dollars(cost, prices)
        for kind, name in (("stages", stage_of(cost.prompt)), ("models", cost.model)):
            row = table[kind].setdefault(name, {})
            for field in ("calls", "failed", "tries", "prompt_tokens", "completion_tokens"):
                row[field] = row.get(field, 0) + structs.asdict(cost)[field]
            if usd is not None:
                row["usd"] = round(row.get("usd", 0.0) + usd, 9)
    table = {kind: dict(sorted(rows.items())) for kind, rows in table.items()}
    table["usd"] = round(sum(dollars(cost, prices) or 0.0 for cost in costs), 9)
    table["unpriced"] = sorted({cost.model for cost in costs if cost.model not in prices})
    return table


def money_left(usd: float, costs: list[Cost], models: Models, prices: Mapping[str, Price]) -> int:
    """What is left of a budget of so many dollars after these calls, in billionths of one.

    Calls of models without a price count as free. Raises UsageError where a model to be asked has none, and
    OverBudget where not even the calls of the preflight fit.
    """
    left = int(usd * NANO) - sum(round((dollars(cost, prices) or 0.0) * NANO) for cost in costs)
    asked = {model: price_of(prices, model) for model in (models.llm_model, models.vlm_model) if model}
    if left < sum(nanodollars(price, 200, 100, batch=False) for price in asked.values()):
        raise OverBudget("what is left is not worth a call")
    return left


def check_counted(made: list[tuple[ChatRequest, ChatReply | Failure]]) -> None:
    """Raises UsageError where an endpoint does not tell what it took: money spent there would not be seen."""
    for request, outcome in made:
        if isinstance(outcome, ChatReply) and not outcome.prompt_tokens:
            why = f"the endpoint of {request.model} does not count tokens (`usage` in its replies)"
            raise UsageError(f"--budget-usd: {why}, so no budget can be kept; leave the option out")


def preflight_events(made: list[tuple[ChatRequest, ChatReply | Failure]]) -> list[Event]:
    """What the calls of the preflight took; they are no results."""
    return [
        Event(
            key_of(PREFLIGHT, 1, (request,)),
            "",
            PREFLIGHT,
            msgspec.Raw(msgspec.json.encode(outcome.attempts)),
            cost=cost_of(0, False, request, outcome),
        )
        for request, outcome in made
    ]


def spent_lines(table: dict[str, Any]) -> list[str]:
    """The same for people; nothing where no model was asked."""
    lines = []
    for name, row in table["stages"].items():
        usd = f", ${row['usd']:.4f}" if "usd" in row else ""
        failed = f" ({row['failed']} failed)" if row["failed"] else ""
        lines.append(
            f"    {name:<12}{row['calls']:>9,} calls{failed}, {row['tries']:,} tries, "
            f"{row['prompt_tokens']:,} + {row['completion_tokens']:,} tokens{usd}"
        )
    if lines:
        unpriced = f"; without a price: {', '.join(table['unpriced'])}" if table["unpriced"] else ""
        total = f"${table['usd']:.4f}" if table["usd"] or not table["unpriced"] else "no price known"
        lines.insert(0, f"  spent on models so far, all runs together: {total}{unpriced}")
    return lines
