"""Whether a reply answers the request that it came back for.

A server or proxy that answers a request twice makes every later reply on that connection one too old. Most of
that is seen on the connection itself; what arrives late is told by ids. Servers such as vLLM give the
X-Request-Id of the request back, in a header or in the completion's id; a doubled reply repeats its id.
"""

import secrets

from datagen.llm.client_reply import Fault
from datagen.llm.transport import Connection
from datagen.llm.transport_http import Response

_RANDOM_LENGTH = 24
"""Ids this long are random ones, such as chatcmpl- and a UUID."""


class Echo:
    """Ids of the requests of one client."""

    def __init__(self) -> None:
        self._prefix = f"dg{secrets.token_hex(6)}"
        self._count = 0
        self._ids_differ = self._ids_repeat = False
        self._last: tuple[str, Connection] | None = None

    def next_id(self) -> str:
        """An id for one more request: all are equally long, so that none is part of another."""
        self._count += 1
        return f"{self._prefix}{self._count:010x}"

    def check(self, sent: str, response: Response, reply_id: str, connection: Connection) -> None:
        """Raise Fault where the reply belongs to another request; its connection is closed."""
        for text in (reply_id, response.headers.get("x-request-id", "")):
            if self._prefix in text and sent not in text:
                connection.close()
                raise Fault("broken", "the reply carries the id of another request", response.status)
        if not reply_id:
            return
        # Some servers give every reply the same id: only random ones, or ones seen to differ, prove anything.
        if self._last is not None:
            if self._last[0] != reply_id:
                self._ids_differ = True
            elif self._last[1] is not connection:
                self._ids_repeat = True
        self._last = reply_id, connection
        telling = (self._ids_differ or len(reply_id) >= _RANDOM_LENGTH) and not self._ids_repeat
        if telling and connection.last_reply_id == reply_id:
            connection.close()
            raise Fault("broken", "the reply repeats the one before it", response.status)
        connection.last_reply_id = reply_id
