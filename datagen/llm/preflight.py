"""One tiny call to each endpoint before any video is opened: what cannot work is said at once."""

import asyncio
from pathlib import Path

from datagen.errors import Failure, UsageError
from datagen.llm.chat import Attempt, ChatReply, ChatRequest, Message, Text
from datagen.llm.client import Client, ClientLimits
from datagen.llm.models import Models

_LIMITS = ClientLimits(connect_seconds=2, call_seconds=8, budget_seconds=1, tries=1)
_WAITS = (0.2, 0.4, 0.8, 1.6)
"""Seconds before a further try."""
PREFLIGHT = "preflight"
"""Stands for the name of its prompt."""
_MAX_TOKENS = 16
_DOWN = (0, 502, 503, 504)
"""Statuses of an endpoint that is not there: none at all, or those of a gateway before it."""


async def preflight(models: Models, key: str | None) -> list[tuple[ChatRequest, ChatReply | Failure]]:
    """Ask each model behind HTTP whether it is there; a failure returned is no reason to stop.

    Takes some 10 s at most. Raises UsageError for a wrong key, an unknown model, and where nothing answers.
    """
    messages = (Message("user", (Text("Reply with the word OK."),)),)
    named = dict.fromkeys([(models.llm_url, models.llm_model), (models.vlm_url, models.vlm_model)])
    calls = [
        (url, ChatRequest(model=model, messages=messages, max_tokens=_MAX_TOKENS, prompt=PREFLIGHT))
        for url, model in named
        if url and model and url.lower().startswith(("http://", "https://")) and not models.batch
    ]
    outcomes = await asyncio.gather(*(_call(url, key, request) for url, request in calls))
    return [(request, outcome) for (_, request), outcome in zip(calls, outcomes, strict=True)]


async def _call(url: str, key: str | None, request: ChatRequest) -> ChatReply | Failure:
    client = Client(url, key, Path(), _LIMITS)
    try:
        for wait in (*_WAITS, None):
            try:
                return await client.ask(request)
            except Failure as failure:
                if not _is_down(failure):
                    return failure
                if wait is None:
                    raise UsageError(f"{failure}; is it running, and is the URL right?") from None
                await asyncio.sleep(wait)
        raise AssertionError
    finally:
        await client.close()


def _is_down(failure: Failure) -> bool:
    """Whether nothing is there. What only takes its time or is busy may come round while videos are read."""
    tries = [attempt for attempt in failure.attempts if isinstance(attempt, Attempt)]
    return all(t.status in _DOWN and t.seconds < _LIMITS.call_seconds for t in tries)
