"""Requests that travel together: gathered, then under way, then with their replies."""

import asyncio
from collections.abc import Coroutine
from itertools import islice
from typing import Any

from datagen.llm.batch_files import Replies

_WOKEN_AT_ONCE = 100
"""Of those who wait; then others have a turn."""


class Load:
    """One batch in this process, and those who wait for it."""

    def __init__(self, mark: str) -> None:
        self.mark = mark
        self.full = asyncio.Event()
        self.last = 0.0
        """When a request was added, by the clock of the event loop."""
        self.names: list[str] = []
        """Of its requests."""
        self.replies: asyncio.Task[Replies | None] | None = None
        # A future for each: to cancel all of many who wait for one and the same takes quadratic time.
        self._waiting: dict[asyncio.Future[None], None] = {}

    def start(self, work: Coroutine[Any, Any, Replies | None]) -> "asyncio.Task[Replies | None]":
        """Start what ends in the replies."""
        self.replies = asyncio.create_task(work)
        self.replies.add_done_callback(self._wake)
        return self.replies

    async def wait(self) -> Replies | None:
        """The outcome of what was started."""
        assert self.replies is not None
        if not self.replies.done():
            waiting = asyncio.get_running_loop().create_future()
            self._waiting[waiting] = None
            try:
                await waiting
            finally:
                self._waiting.pop(waiting, None)
        return self.replies.result()

    def _wake(self, task: "asyncio.Task[Replies | None]") -> None:
        if not task.cancelled():
            task.exception()  # if nobody is left who waits, nobody else asks for it
        for waiting in list(islice(self._waiting, _WOKEN_AT_ONCE)):
            del self._waiting[waiting]
            if not waiting.done():
                waiting.set_result(None)
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._wake, task)
