"""Where an endpoint is, by the address a user gives, and the key to it."""

import re
from urllib.parse import urlsplit

from msgspec import Struct

from datagen.errors import UsageError

KEY_VARIABLE = "OPENAI_API_KEY"
_PLAIN = re.compile(r"[!-~]*")
_ENDPOINT = "/chat/completions"


class Address(Struct, frozen=True):
    """The parts of a URL that a connection needs."""

    host: str
    port: int
    tls: bool
    authority: str
    """What goes into the Host header."""
    path: str
    """With the query string, if there is one."""
    shown: str
    """For messages: without the query string, which may hold secrets."""


class Place(Struct):
    """Where calls go, for what is said of them, and what cannot be asked there."""

    shown: str
    key: str = ""
    unsupported: list[str] = []
    """Fields of a request that turned out to be too much."""

    def safe(self, text: str) -> str:
        """What is said there, without the key, which some endpoints repeat."""
        return text.replace(self.key, "***") if self.key else text


def read_key(key: str | None) -> str:
    """A key as it goes into a header. Raises UsageError."""
    key = (key or "").strip()
    if not _PLAIN.fullmatch(key):
        raise UsageError(f"{KEY_VARIABLE}: holds characters that no key has")
    return key


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
        raise UsageError(f"endpoint at {host}: put the key into {KEY_VARIABLE}, not into the URL")
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
    named = f"[{host}]" if ":" in host else host
    authority = named if port == (443 if tls else 80) else f"{named}:{port}"
    whole = path + (f"?{parts.query}" if parts.query else "")
    return Address(host, port, tls, authority, whole, f"{parts.scheme}://{authority}{path}")
