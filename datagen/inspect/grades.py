"""Grades of replies: by a judge behind an endpoint, each remembered beside the predictions, or by words."""

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from datagen.errors import Failure, UsageError
from datagen.export.overlap import overlap_judge
from datagen.inspect.scoring import Claim
from datagen.ledger import Event, Ledger, key_of
from datagen.llm.chat import ChatReply, ChatRequest
from datagen.llm.client import KEY_VARIABLE, Client, ClientLimits
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
    judge = _Judge(url, model, ledger)
    grades: dict[Claim, float | None] = {}
    failures: list[str] = []

    async def grade(claim: Claim) -> None:
        grades[claim] = None
        try:
            grades[claim] = await score(judge.ask, model, claim.question, claim.truth, claim.said, top)
        except Failure as failure:
            failures.append(str(failure))

    try:
        for first in range(0, len(claims), _AT_ONCE):
            await all_of(grade(claim) for claim in claims[first : first + _AT_ONCE])
    finally:
        await judge.close()
    return Judged(grades, judge.calls, judge.tokens, failures[0] if failures else "")


class _Judge:
    """An endpoint all of whose replies are remembered; it is greeted before the first call."""

    def __init__(self, url: str, model: str, ledger: Ledger) -> None:
        self._models = Models(llm_url=url, llm_model=model)
        self._key = os.environ.get(KEY_VARIABLE)
        self._client = Client(url, self._key, Path(), ClientLimits())
        self._ledger = ledger
        self._known = ledger.known(_ITEM)
        self._greeted: asyncio.Future[Any] | None = None
        self.calls = 0
        self.tokens = 0

    async def ask(self, request: ChatRequest) -> ChatReply:
        """The reply to a request, from the ledger or the endpoint."""
        key = key_of("ask", 1, (request,))
        if key in self._known:
            return msgspec.json.decode(self._known[key].value, type=ChatReply)
        if self._greeted is None:
            self._greeted = asyncio.ensure_future(preflight(self._models, self._key))
        await self._greeted
        self.calls += 1
        try:
            reply = await self._client.ask(request)
        except Failure as failure:
            self.tokens += sum(used(failure.attempts))
            raise
        self._ledger.add([Event(key, _ITEM, "ask", msgspec.Raw(msgspec.json.encode(reply)))])
        self.tokens += sum(used(reply.attempts))
        return reply

    async def close(self) -> None:
        """Let go of the endpoint."""
        await self._client.close()
