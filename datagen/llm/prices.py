"""What calls cost: tokens into billionths of a dollar, whole numbers so that sums stay exact."""

import math
from collections.abc import Iterable, Mapping

from datagen.config import Price
from datagen.errors import UsageError
from datagen.llm.chat import Attempt

NANO = 1_000_000_000
"""Billionths in a dollar."""


def nanodollars(price: Price, prompt_tokens: int, completion_tokens: int, *, batch: bool) -> int:
    """The price of so many tokens, in billionths of a dollar, rounded up."""
    per_million = prompt_tokens * price.input + completion_tokens * price.output
    usd = per_million * (price.batch if batch else 1.0) / 1e6
    return math.ceil(round(usd * NANO, 3))


def price_of(prices: Mapping[str, Price], model: str) -> Price:
    """The price of a model. Raises UsageError naming the key that is missing."""
    if model not in prices:
        raise UsageError(
            f"prices: has no `{model}`, which a budget needs; add `{model}: {{input: USD, output: USD}}` for "
            "a million tokens each to the pipeline file (0 for a model of your own)"
        )
    return prices[model]


def used(attempts: Iterable[object]) -> tuple[int, int]:
    """Tokens of prompts and of replies of all tries of a call, as the endpoint counted them."""
    tries = [attempt for attempt in attempts if isinstance(attempt, Attempt)]
    return sum(t.prompt_tokens for t in tries), sum(t.completion_tokens for t in tries)
