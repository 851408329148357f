"""Asks a chat endpoint that speaks the OpenAI protocol. Every call ends, in a reply or in a failure.

Faults of the transport are tried again here; what a reply says is nobody's business here, but for a refusal
and for one that was cut off at max_tokens.
"""

import asyncio
import contextlib
import random
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

from msgspec import Struct

from datagen.errors import Failure, UsageError
from datagen.llm.chat import ChatReply, ChatRequest
from datagen.llm.client_address import Place, read_address, read_key
from datagen.llm.client_reply import Completion, Echo, Fault, asked_wait, read_completion, read_fault
from datagen.llm.limiter import Limiter
from datagen.llm.messages import RequestEncoder
from datagen.llm.transport import Pool, Stale, Unreachable
from datagen.llm.transport_http import Broken
from datagen.llm.tries import Tries

_GRACE = 0.5
"""Seconds to read, when time is up, what came while this process was stopped (Ctrl-Z)."""
_LATE = 0.1
"""Seconds by which a clock goes off too late where the process was stopped."""


class ClientLimits(Struct, frozen=True, kw_only=True):
    """What a call may take."""

    connect_seconds: float = 10.0
    call_seconds: float = 180.0
    """One try, from connecting to the last byte."""
    budget_seconds: float = 400.0
    """No further try of a call begins later than this after its first."""
    tries: int = 9
    """Tries of a call that may fail for another reason than overload or an outage."""
    backoff_seconds: float = 0.1
    """Mean wait before the second try; it doubles with every further one."""
    max_backoff_seconds: float = 30.0
    max_in_flight: int | None = None
    """Calls under way at a time; None: as many as the endpoint takes ..."""
    most_in_flight: int = 512
    """... up to this."""
    max_reply_bytes: int = 4 << 20


class _Call(Struct):
    """How one call fares at this endpoint."""

    tries: Tries
    began: float | None = None
    faults: int = 0
    counted: int = 0


class Client:
    """Asks one endpoint. Belongs to one event loop; any number of calls may be under way."""

    def __init__(
        self, url: str, key: str | None, frames: Path, limits: ClientLimits, *, file_urls: bool = False
    ) -> None:
        address = read_address(url)
        self._place = Place(address.shown, read_key(key))
        self._limits = limits
        self._encoder = RequestEncoder(frames, file_urls=file_urls)
        self._pool = Pool(address, limits.connect_seconds, limits.max_reply_bytes)
        stall = limits.budget_seconds + limits.call_seconds
        self.limiter = Limiter(limits.max_in_flight, limits.most_in_flight, stall)
        self._echo = Echo()
        self._answered = False
        self._fatal: UsageError | None = None
        bearer = f"Authorization: Bearer {self._place.key}\r\n" if self._place.key else ""
        self._head = (
            f"POST {address.path} HTTP/1.1\r\nHost: {address.authority}\r\n{bearer}"
            "Content-Type: application/json\r\nAccept: application/json\r\nAccept-Encoding: identity\r\n"
            "User-Agent: datagen\r\n"
        )

    async def ask(self, request: ChatRequest) -> ChatReply:
        """See Asks."""
        call = _Call(Tries(request, self._place))
        try:
            return await self._ask(call)
        except Failure as failure:
            failure.attempts = tuple(call.tries.attempts)
            raise

    async def _ask(self, call: _Call) -> ChatReply:
        loop = asyncio.get_running_loop()
        delay: float | None = 0.0
        while delay is not None and (epoch := await self._slot(call, delay)) is not None:
            good = busy = False
            started = loop.time()
            try:
                completion = await self._try(call)
                good, delay = True, 0.0
                reply = call.tries.take(completion, loop.time() - started)
                if reply is not None:
                    return reply
            except Fault as fault:
                busy = fault.kind == "busy"
                delay = self._judge(call, fault, loop.time() - started)
            finally:
                self.limiter.release(epoch, good=good, refused=busy)
        return call.tries.give_up()

    async def close(self) -> None:
        """End all waiting and all idle connections."""
        self.limiter.close()
        await self._pool.close()

    async def _slot(self, call: _Call, delay: float) -> int | None:
        """Wait so many seconds, and for the call's turn; None: its time is up."""
        if delay:
            await asyncio.sleep(delay)
        if self._fatal is not None:
            raise self._fatal
        if call.began is None:
            epoch = await self.limiter.acquire()
            call.began = asyncio.get_running_loop().time()
            return epoch
        try:
            async with asyncio.timeout_at(call.began + self._limits.budget_seconds):
                # What has been tried before goes before what has not.
                return await self.limiter.acquire(first=True)
        except TimeoutError:
            return None

    async def _try(self, call: _Call) -> Completion:
        """One exchange with the endpoint. Raises Fault."""
        sent = self._echo.next_id()
        try:
            async with _patience(self._limits.call_seconds):
                response, connection = await self._pool.exchange(await self._message(call.tries, sent))
        except TimeoutError:
            raise Fault("broken", f"no complete reply within {self._limits.call_seconds:g} s") from None
        except (ssl.SSLError, socket.gaierror) as error:
            # Once it has answered, it will come back; before, the address may well be wrong.
            passing = self._answered or error.errno == socket.EAI_AGAIN
            text = f"no connection: {error.strerror or type(error).__name__}"
            raise Fault("down" if passing else "fatal", text) from None
        except Stale as error:
            raise Fault("broken", str(error), wait=0.0) from None
        except Unreachable as error:
            self.limiter.hold(self._backoff(call.faults + 1))
            raise Fault("down" if self._answered else "broken", str(error)) from None
        except Broken as error:
            raise Fault("broken", str(error)) from None
        if (wait := asked_wait(response.headers)) is not None:
            self.limiter.hold(wait)
        if response.status != 200:
            self._echo.check(sent, response, "", connection)
            raise read_fault(response)
        completion = read_completion(response)
        self._echo.check(sent, response, str(completion.id or ""), connection)
        self._answered = True
        return completion

    async def _message(self, tries: Tries, sent: str) -> bytes:
        body = await self._encoder.encode(tries.request, tries.max_tokens, self._place.unsupported)
        head = f"{self._head}X-Request-Id: {sent}\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode("ascii") + body

    def _judge(self, call: _Call, fault: Fault, seconds: float) -> float | None:
        """Seconds to wait before the next try; None: there is none. Raises Refused and UsageError."""
        try:
            again = call.tries.fail(fault, seconds)
        except UsageError as error:  # no further call is to begin
            self._fatal = error
            self.limiter.fail(error)
            raise
        if not again or fault.kind == "unsupported":
            return 0.0 if again else None
        call.faults += 1
        call.counted += fault.kind == "broken"
        delay = self._backoff(call.faults) if fault.wait is None else 0.0
        if fault.kind == "busy" and self.limiter.dark:
            self.limiter.hold(delay)
        now = asyncio.get_running_loop().time()
        assert call.began is not None
        late = max(now + delay, self.limiter.gate) > call.began + self._limits.budget_seconds
        return None if late or call.counted >= self._limits.tries else delay

    def _backoff(self, faults: int) -> float:
        mean = min(
            self._limits.max_backoff_seconds, self._limits.backoff_seconds * 2.0 ** min(faults - 1, 20)
        )
        return mean * random.uniform(0.5, 1.5)


@contextlib.asynccontextmanager
async def _patience(seconds: float) -> AsyncIterator[None]:
    """Raises TimeoutError in its body when that takes longer; but where this process was stopped meanwhile,
    not before it could read what has come.
    """
    loop = asyncio.get_running_loop()
    due = loop.time() + seconds

    def end() -> None:
        now = loop.time()
        limit.reschedule(now + _GRACE if now > due + _LATE else now)

    async with asyncio.timeout(None) as limit:
        up = loop.call_at(due, end)
        try:
            yield
        finally:
            up.cancel()
