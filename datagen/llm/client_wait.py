"""For how long an endpoint wants no calls, by the headers of a response.

Retry-After is of RFC 9110; the x-ratelimit headers are those of OpenAI and of endpoints after its example.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:([\d.]{1,20})s)?(?:(\d+)ms)?")


def asked_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds for which no calls are wanted, by Retry-After or else x-ratelimit-*; None: they do not say."""
    if (milliseconds := headers.get("retry-after-ms")) is not None:
        wait = _number(milliseconds)
        if wait is not None:
            return wait / 1000
    if (after := headers.get("retry-after")) is not None:
        wait = _number(after)
        return wait if wait is not None else _until(after)
    waits = []
    for kind in ("", "-requests", "-tokens"):
        remaining = headers.get(f"x-ratelimit-remaining{kind}")
        if remaining is not None and _number(remaining) == 0:
            waits.append(_duration(headers.get(f"x-ratelimit-reset{kind}", "")))
    return max(waits, default=0.0) or None


def _number(text: str) -> float | None:
    text = text.strip()
    if not re.fullmatch(r"\d{1,15}(?:\.\d{0,15})?", text):
        return None
    return float(text)


def _until(date: str) -> float | None:
    try:
        when = parsedate_to_datetime(date)
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


def _duration(text: str) -> float:
    """Seconds meant by 1h2m3.5s, 20ms, 12.5, a Unix time in seconds or milliseconds; 0 for anything else."""
    text = text.strip()
    number = _number(text)
    if number is not None:
        now = datetime.now(UTC).timestamp()
        unix = number / 1000 if number > 1e11 else number
        return max(0.0, unix - now) if unix > 1e9 else number
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        return 0.0
    try:
        days, hours, minutes, seconds, thousandths = (float(group or 0) for group in match.groups())
    except ValueError:
        return 0.0
    return days * 86400 + hours * 3600 + minutes * 60 + seconds + thousandths / 1000
