"""What batches may take."""

from msgspec import Struct


class BatchLimits(Struct, frozen=True, kw_only=True):
    """Bounds and waits. The first two defaults are those of OpenAI's Batch API."""

    most_requests: int = 50_000
    """In one file."""
    most_bytes: int = 200_000_000
    """Of one file."""
    quiet_seconds: float = 20.0
    """A file goes out when no request has come for so long."""
    poll_seconds: float = 30.0
    """Between two looks at a batch, the first few of which follow one another faster ..."""
    folder_poll_seconds: float = 1.0
    """... and at a folder."""
    longest_seconds: float = 36 * 3600.0
    """From the first look at a batch: beyond this nobody waits for it any longer. Its window is 24 hours."""
    rounds: int = 3
    """Batches that a request may go into for one answer."""
    patience_seconds: float = 3600.0
    """For how long an endpoint may be away or overloaded at a stretch."""
    backoff_seconds: float = 1.0
    """Wait before the second try; it doubles with every further one ..."""
    max_backoff_seconds: float = 60.0
    """... up to this."""
    call_seconds: float = 600.0
    """One exchange with the endpoint: an upload, a look, a download."""
    settle_seconds: float = 2.0
    """A reply counts as used so long after it was handed over: by then the caller has kept it."""
    max_reply_bytes: int = 4 << 20
