"""How many calls are under way at a time, learnt from how many the endpoint turns away.

Increase in steps that begin small, each a multiple of the last; towards what was too much ever slower, and
then by one (as in BIC: Xu, Harfoush and Rhee, 2004); decrease to what did well, or else by half. Judged over
windows of about `limit` answers against the share that is refused anyway: single refusals, which endpoints
also give at random, cost nothing.
"""

import asyncio
from collections import deque

from datagen.errors import Provider

_START = 64
_MIN_WINDOW = 50
_USUAL = 0.05
"""Share that may be refused at random, for all that is known at the start; also the most that is learnt."""
_TOLERATED = 0.05
"""Share of a window that may be refused beyond twice the usual share."""
_STEP = 4
"""The first growth of the limit, and how many times the last every further one is. (Also: never more than a
quarter of the way to what was too much, nor half the limit.)"""
_MAX_PATIENCE = 32


class Limiter:
    """Slots for calls. One event loop only.

    `fixed`: that many slots for good; None: adapt, to at most `most`. `stall_seconds`: nobody waits for a
    slot longer than this while no call at all succeeds.
    """

    def __init__(self, fixed: int | None, most: int, stall_seconds: float) -> None:
        self.limit = fixed or min(_START, most)
        self.in_flight = 0
        self._adapts = fixed is None
        self._most = most
        self._stall = stall_seconds
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.gate = 0.0
        """Time of the event loop before which no call may begin."""
        self._gate_timer: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._progress = 0.0
        self._epoch = 0
        self._good = self._refused = 0
        self._good_since_cut = False
        self._refused_in_a_row = 0
        self._ceiling = most + 1
        """The least that was too much."""
        self._known = 0
        """What did well last."""
        self._patience = self._clean = 0
        self._step = 1
        """The last growth."""
        self._usual = _USUAL
        """Share that is refused even at limits that do well."""

    async def acquire(self, *, first: bool = False) -> int:
        """Wait for a slot, `first` before the others; returns what `release` wants to be told.

        Raises Provider where there is no hope of one.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self.gate - now > self._stall:
            raise _closed(self.gate - now)
        if not self._waiting and self.in_flight < self.limit and self.gate <= now:
            self.in_flight += 1
            return self._epoch
        if not self._waiting:
            self._progress = now
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.insert(0 if first else len(self._waiting), turn)
        if self._watch is None:
            self._watch = loop.call_later(self._stall, self._check_progress)
        try:
            await turn
        except asyncio.CancelledError:
            if turn in self._waiting:
                self._waiting.remove(turn)
            elif turn.done() and not turn.cancelled() and turn.exception() is None:
                self.in_flight -= 1
                self._admit()
            raise
        return self._epoch

    def release(self, epoch: int, *, good: bool = False, refused: bool = False) -> None:
        """Give a slot back: after a good answer, a refusal for overload, or something else."""
        self.in_flight -= 1
        self._refused_in_a_row += refused
        if good:
            self._refused_in_a_row = 0
            self._progress = asyncio.get_running_loop().time()
        # What began before a cut says nothing about the limit after it.
        if self._adapts and epoch == self._epoch:
            self._good += good
            self._good_since_cut |= good
            self._refused += refused
            self._judge()
        self._admit()

    def hold(self, seconds: float) -> None:
        """Let no call begin for so long."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        if until <= self.gate:
            return
        self.gate = until
        if seconds > self._stall:
            self.fail(_closed(seconds))
        if self._gate_timer is not None:
            self._gate_timer.cancel()
        self._gate_timer = loop.call_at(until, self._open_gate)

    @property
    def dark(self) -> bool:
        """Whether all is being refused, which is an outage rather than too many calls."""
        return self._refused_in_a_row >= self.limit

    def fail(self, failure: Exception) -> None:
        """End everybody's waiting."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(type(failure)(*failure.args))  # One each: callers add to theirs.

    def close(self) -> None:
        """End everybody's waiting and all timers."""
        for timer in (self._gate_timer, self._watch):
            if timer is not None:
                timer.cancel()
        self.fail(Provider("the client was closed"))

    def _judge(self) -> None:
        window = max(self.limit, _MIN_WINDOW)
        if self._refused > (_TOLERATED + 2 * self._usual) * window:
            if self._good_since_cut:
                self._decrease()
            self._good = self._refused = 0
        elif self._good + self._refused >= window:
            share = self._refused / (self._good + self._refused)
            self._usual = min((self._usual + share) / 2, _USUAL)
            if self._waiting:  # Otherwise the limit was not put to the test.
                self._increase()
            self._good = self._refused = 0

    def _decrease(self) -> None:
        # The same ceiling again: the longer it has stood, the seldomer it is put to the test.
        same = self.limit == self._ceiling
        self._patience = min(_MAX_PATIENCE, 2 * self._patience + 3) if same else 0
        self._ceiling = self.limit
        # Back to what did well last; if it is that which fails now, far enough to find what does.
        self.limit = max(1, self._known if self._known < self.limit else 0, self.limit // 2)
        self._known = self._clean = 0
        self._epoch += 1
        self._good_since_cut = False

    def _increase(self) -> None:
        self._known = self.limit
        if self.limit >= self._ceiling:
            self._ceiling, self._step = self._most + 1, 1
        if self.limit + 1 == self._ceiling:
            self._clean += 1
            if self._clean <= self._patience:
                return
            self._clean = 0
        self._step = max(1, min(_STEP * self._step, (self._ceiling - self.limit) // 4, self.limit // 2))
        self.limit = min(self._most, self.limit + self._step)

    def _open_gate(self) -> None:
        self.gate = 0.0  # Timers may come a little early by the clock.
        self._admit()

    def _admit(self) -> None:
        if self._waiting and self.gate > asyncio.get_running_loop().time():
            return
        while self._waiting and self.in_flight < self.limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self.in_flight += 1
                turn.set_result(None)

    def _check_progress(self) -> None:
        self._watch = None
        if not self._waiting:
            return
        loop = asyncio.get_running_loop()
        left = self._progress + self._stall - loop.time()
        if left > 0:
            self._watch = loop.call_later(left, self._check_progress)
        else:
            self.fail(Provider(f"no call has succeeded for {self._stall:.0f} s"))


def _closed(seconds: float) -> Provider:
    return Provider(f"the endpoint wants no calls for {seconds:.0f} s")
