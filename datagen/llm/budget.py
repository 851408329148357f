"""Keeps a budget: a client that begins no call which might cost more than is left."""

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path

from datagen.config import Price
from datagen.errors import Failure, OverBudget
from datagen.llm.chat import Asks, ChatReply, ChatRequest
from datagen.llm.prices import NANO, nanodollars, price_of, used
from datagen.llm.purse import Purse
from datagen.llm.tokens import prompt_tokens

_CAUTION = 2.0
"""The most tokens a prompt may have, over what the rule says, until a larger ratio has been seen."""
_SECONDS_BETWEEN_LOOKS = 0.2
"""At the purse, while only calls of other runners may give something back."""


class Budget:
    """What one runner may spend on all its calls."""

    def __init__(
        self, path: Path, runner: str, prices: Mapping[str, Price], a_picture: int, *, batch: bool
    ) -> None:
        self._purse = Purse(path, runner)
        self._prices = prices
        self._a_picture = a_picture
        self._batch = batch
        self._turn = asyncio.Lock()
        self._paid = asyncio.Event()
        self._ratio = _CAUTION

    async def ask(self, client: Asks, request: ChatRequest) -> ChatReply:
        """The client's reply, when there is money for the call: one that does not fit waits for those under
        way. Raises OverBudget when none is under way and it still does not fit; and as the client does.
        """
        price = price_of(self._prices, request.model)
        rule = prompt_tokens(request, self._a_picture)
        most = self._most(price, rule, request.max_tokens)
        await self._set_aside(most, request)
        attempts: tuple[object, ...] = ()
        try:
            reply = await client.ask(request)
            attempts = reply.attempts
            self._ratio = max(self._ratio, 1.25 * reply.prompt_tokens / rule)
            return reply
        except Failure as failure:
            attempts = failure.attempts
            raise
        finally:
            self._purse.pay(most, nanodollars(price, *used(attempts), batch=self._batch))
            self._paid.set()

    def _most(self, price: Price, rule: int, max_tokens: int) -> int:
        """The most that a call may cost: a reply cut off at max_tokens is asked for again at twice that."""
        prompt = int(self._ratio * rule) + 1
        return nanodollars(price, 2 * prompt, 3 * max_tokens, batch=self._batch)

    async def _set_aside(self, amount: int, request: ChatRequest) -> None:
        async with self._turn:
            while True:
                self._paid.clear()
                state = self._purse.set_aside(amount)
                if state == "done":
                    return
                if state == "empty":
                    raise OverBudget(f"the next call of {request.model} may cost ${amount / NANO:.4f}")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._paid.wait(), _SECONDS_BETWEEN_LOOKS)


class BudgetedClient:
    """A client within a budget."""

    def __init__(self, client: Asks, budget: Budget) -> None:
        self._client = client
        self._budget = budget

    async def ask(self, request: ChatRequest) -> ChatReply:
        """As the client does. Raises OverBudget too."""
        return await self._budget.ask(self._client, request)

    async def close(self) -> None:
        """See Client."""
        await self._client.close()
