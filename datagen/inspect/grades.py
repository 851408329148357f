"""Grades of replies: by a judge behind an endpoint, each remembered beside the predictions, or by words."""

import asyncio
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from datagen.errors import Failure, UsageError
from datagen.export.overlap import overlap_judge
from datagen.inspect.scoring import Claim
from datagen.ledger import Event, Ledger, key_of
from datagen.llm.chat import ChatReply, ChatRequest
from datagen.llm.client import Client, ClientLimits
from datagen.llm.client_address import KEY_VARIABLE
from datagen.llm.models import Models
from datagen.llm.preflight import preflight
from datagen.llm.prices import used
from datagen.llm.repair import all_of
from datagen.llm.scores import score

_ITEM = "judge"
"""Under this name the ledger keeps the replies."""
_AT_ONCE = 1024
"""Claims being judged at a time; the client finds how many calls the endpoint takes."""


class Judged(NamedTuple):
    """What came of asking a judge."""

    grades: dict[Claim, float | None]
    """None where no grade could be had."""
    calls: int
    """Calls made now; replies remembered from earlier runs are none."""
    tokens: int
    """Of prompts and replies, all tries of these calls."""
    failure: str
    """Why the first of those without a grade has none."""


def grades_by_words(claims: Iterable[Claim], top: int) -> dict[Claim, float | None]:
    """The grade of the words in common, without a model: see `export.overlap`."""
    judge = overlap_judge(top)
    return {claim: judge(claim.question, claim.said, claim.truth) for claim in claims}


def grades_by_judge(claims: Iterable[Claim], url: str, model: str, top: int, kept: Path) -> Judged:
    """The grades that a model gives; its replies are kept in the folder `kept` as they come.

    What failed is not kept: it is asked again next time. Raises UsageError for a wrong key, an unknown model,
    an endpoint where nothing answers, and a folder that cannot be written or where another run is writing.
    """
    try:
        ledger = Ledger(kept)
    except UsageError as error:
        raise UsageError(str(error).removeprefix("--out ")) from None
    try:
        return asyncio.run(_judge_all(list(claims), url, model, top, ledger))
    finally:
        ledger.close()


async def _judge_all(claims: list[Claim], url: str, model: str, top: int, ledger: Ledger) -> Judged:
    """The endpoint is greeted before the first call; every reply is remembered as it comes."""
    api_key = os.environ.get(KEY_VARIABLE)
    client, known = Client(url, api_key, Path(), ClientLimits()), ledger.known(_ITEM)
    grades: dict[Claim, float | None] = {}
    failures: list[str] = []
    paid: list[int] = []

    @cache
    def greeted() -> asyncio.Future[Any]:
        return asyncio.ensure_future(preflight(Models(llm_url=url, llm_model=model), api_key))

    async def ask(request: ChatRequest) -> ChatReply:
        key = key_of("ask", 1, (request,))
        if key in known:
            return msgspec.json.decode(known[key].value, type=ChatReply)
        await greeted()
        try:
            reply = await client.ask(request)
        except Failure as failure:
            paid.append(sum(used(failure.attempts)))
            raise
        ledger.add([Event(key, _ITEM, "ask", msgspec.Raw(msgspec.json.encode(reply)))])
        paid.append(sum(used(reply.attempts)))
        return reply

    async def grade(claim: Claim) -> None:
        grades[claim] = None
        try:
            grades[claim] = await score(ask, model, claim.question, claim.truth, claim.said, top)
        except Failure as failure:
            failures.append(str(failure))

    try:
        for first in range(0, len(claims), _AT_ONCE):
            await all_of(grade(claim) for claim in claims[first : first + _AT_ONCE])
    finally:
        await client.close()
    return Judged(grades, len(paid), sum(paid), failures[0] if failures else "")
