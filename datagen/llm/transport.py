"""Kept-alive connections to one endpoint. A connection on which anything unasked-for arrives is closed.

Plain asyncio rather than an HTTP library: it costs a fraction of the CPU, and a pooled connection can be
looked at before it is used again, which libraries do not do.
"""

import asyncio
import contextlib
import select
import socket
import ssl
from typing import cast

from datagen.llm.client_address import Address
from datagen.llm.transport_http import Broken, Response, ResponseReader

MAX_IDLE_SECONDS = 4.0
"""Servers close idle connections too; the commonest one (uvicorn) after 5 s."""


class Unreachable(Broken):
    """No connection could be made."""


class Stale(Broken):
    """A pooled connection turned out to be closed before any of the response came."""


class Connection(asyncio.Protocol):
    """One connection, carrying one exchange at a time."""

    def __init__(self, idle: dict["Connection", None], max_bytes: int) -> None:
        self.last_reply_id = ""
        self._idle = idle
        self._max_bytes = max_bytes
        self._used = False
        self._idle_since = 0.0
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[Response] | None = None
        self._reader = ResponseReader(max_bytes)
        self._transport: asyncio.Transport | None = None
        self._poll = select.poll()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self._transport = cast(asyncio.Transport, transport)
        sock = transport.get_extra_info("socket")
        self._poll.register(sock.fileno(), select.POLLIN)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        if self._answer is None or self._answer.done():
            self.close()
            return
        try:
            response = self._reader.feed(data)
        except Broken as fault:
            self._answer.set_exception(fault)
            self.close()
            return
        if response is not None:
            self._answer.set_result(response)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        self._transport = None
        self._idle.pop(self, None)
        if self._answer is None or self._answer.done():
            return
        try:
            if exc is not None:
                raise Broken(f"connection lost: {type(exc).__name__}")
            self._answer.set_result(self._reader.end())
        except Broken as fault:
            stale = self._used and not self._reader.began
            self._answer.set_exception(Stale(str(fault)) if stale else fault)

    async def exchange(self, request: bytes) -> Response:
        """Send a request and return its response. Raises Broken; whatever is raised, the connection ends."""
        transport = self._transport
        if transport is None:
            raise Stale("connection closed unanswered")
        self._reader = ResponseReader(self._max_bytes)
        self._answer = self._loop.create_future()
        transport.write(request)
        del request  # Pictures are large, and answers take long.
        try:
            response = await self._answer
        except BaseException:
            self.close()
            raise
        # A response that came before the whole request was sent leaves the rest of it on the line.
        if not self._reader.reusable or transport.get_write_buffer_size():
            self.close()
        else:
            self._used = True
            self._idle_since = self._loop.time()
            self._idle[self] = None
        return response

    def clean(self) -> bool:
        """Whether it may be used again: young, open, and with nothing waiting to be read."""
        if self._transport is None or self._loop.time() - self._idle_since > MAX_IDLE_SECONDS:
            return False
        # The event loop may not have come round to bytes that have already arrived.
        return not self._poll.poll(0)

    def close(self) -> None:
        """End it at once, whatever is under way on it."""
        self._idle.pop(self, None)
        if self._transport is not None:
            self._transport.abort()
            self._transport = None


class Pool:
    """Connections to one endpoint: as many as there are exchanges at a time."""

    def __init__(self, address: Address, connect_seconds: float, max_bytes: int) -> None:
        self._address = address
        self._connect_seconds = connect_seconds
        self._max_bytes = max_bytes
        self._tls = ssl.create_default_context() if address.tls else None
        self._idle: dict[Connection, None] = {}

    async def exchange(self, request: bytes) -> tuple[Response, Connection]:
        """Send a request over a clean connection; its response, and the connection to judge it by.

        Raises Broken, and ssl.SSLError or socket.gaierror where there is no trust or no such host.
        """
        connection = self._take() or await self._connect()
        return await connection.exchange(request), connection

    def _take(self) -> Connection | None:
        while self._idle:
            connection, _ = self._idle.popitem()
            if connection.clean():
                return connection
            connection.close()
        return None

    async def _connect(self) -> Connection:
        try:
            async with asyncio.timeout(self._connect_seconds):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: Connection(self._idle, self._max_bytes),
                    self._address.host,
                    self._address.port,
                    ssl=self._tls,
                )
        except (ssl.SSLError, socket.gaierror):
            raise
        except TimeoutError:
            raise Unreachable(f"no connection within {self._connect_seconds:g} s") from None
        except OSError as error:
            raise Unreachable(f"no connection: {error.strerror or type(error).__name__}") from None
        return connection

    async def close(self) -> None:
        """End all idle connections."""
        for connection in list(self._idle):
            connection.close()
        with contextlib.suppress(RuntimeError):
            await asyncio.sleep(0)
