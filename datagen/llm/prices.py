"""What calls cost: tokens, counted or by rule, in billionths of a dollar (whole numbers: sums stay exact)."""

import math
from collections.abc import Iterable, Mapping

from datagen.config import Price
from datagen.errors import UsageError
from datagen.llm.chat import Attempt, ChatRequest, Picture

NANO = 1_000_000_000
"""Billionths in a dollar."""
CHARACTERS_PER_TOKEN = 4
"""Of English text, as providers state it as a rule of thumb."""
PIXELS_PER_TOKEN = 28 * 28
"""Of a picture: the patches that Qwen2-VL and its successors merge into one token (arXiv 2409.12191)."""
PER_MESSAGE = 4
"""For the marks around a message."""


def picture_tokens(max_pixels: int) -> int:
    """Tokens of one training frame of at most so many pixels; 128 for 100,352."""
    return -(-max_pixels // PIXELS_PER_TOKEN)


def prompt_tokens(request: ChatRequest, a_picture: int) -> int:
    """Tokens of a request's messages by rule, where a picture takes `a_picture`.

    A JSON Schema that goes along is not counted: most servers keep to it without reading it to the model.
    """
    parts = [part for message in request.messages for part in message.parts]
    pictures = sum(isinstance(part, Picture) for part in parts)
    characters = sum(len(part.text) for part in parts if not isinstance(part, Picture))
    marks = PER_MESSAGE * len(request.messages)
    return pictures * a_picture + -(-characters // CHARACTERS_PER_TOKEN) + marks


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
