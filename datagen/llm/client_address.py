"""Where an endpoint is, from the address a user gives."""

import re
from urllib.parse import urlsplit

from msgspec import Struct

from datagen.errors import UsageError

_PLAIN = re.compile(r"[!-~]*")
_ENDPOINT = "/chat/completions"


class Address(Struct, frozen=True):
    """The parts of a URL that a connection needs."""

    host: str
    port: int
    tls: bool
    path: str
    """With the query string, if there is one."""
    shown: str
    """For messages: without the query string, which may hold secrets."""

    @property
    def authority(self) -> str:
        """What goes into the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


def read_address(url: str) -> Address:
    """Address of the chat endpoint that a URL means: of the host, of its /v1, or of the endpoint itself.

    Raises UsageError.
    """
    url = url.strip()
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").encode("idna").decode(), parts.port
    except ValueError:  # UnicodeError is one.
        raise UsageError(f"endpoint {url.split('?')[0]!r}: not a URL") from None
    if parts.username is not None or parts.password is not None:
        raise UsageError(f"endpoint at {host}: put the key into OPENAI_API_KEY, not into the URL")
    shown = url.split("?")[0]
    if parts.scheme not in ("http", "https") or not host:
        raise UsageError(f"endpoint {shown!r}: write it as http://host:port/v1 or https://host/v1")
    if not _PLAIN.fullmatch(url.split("://", 1)[1].removeprefix(parts.netloc)):
        raise UsageError(f"endpoint {shown!r}: holds spaces or letters that must be percent-encoded")
    path = parts.path.rstrip("/")
    if not path.endswith(_ENDPOINT):
        path = (path or "/v1") + _ENDPOINT
    tls = parts.scheme == "https"
    port = port or (443 if tls else 80)
    bare = Address(host, port, tls, "", "")
    shown = f"{parts.scheme}://{bare.authority}{path}"
    return Address(host, port, tls, path + (f"?{parts.query}" if parts.query else ""), shown)
