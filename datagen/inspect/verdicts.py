"""Verdicts of people on dialogues: the lines that a judge saves from the report, and OUT/verdicts.jsonl.

A verdict is on one dialogue as it was when it was judged, known by its id and a digest of its content. One
that is bad may say by code what is wrong; the codes are those of the checks where these look for the same.
"""

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from datagen.errors import UsageError

NAME = "verdicts.jsonl"
DEFECTS = {
    "future_leak_answer": "knows the future",
    "unanswerable": "wrong, or not shown",
    "missed_reply": "a reply is missing",
    "mistimed": "too early or too late",
    "repeat": "says again",
    "guessable": "says nothing",
    "ambiguous_reference": "unclear",
    "caption_speak": "unnatural",
    "other": "something else",
}
"""What may be wrong with a dialogue, and what the report calls it."""
_MOST_BYTES = 10_000
"""Of one line."""

_Name = Annotated[str, Meta(min_length=1, max_length=500)]


class Verdict(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one judge says of one dialogue."""

    dialogue_id: _Name
    content: _Name
    """Digest of what was judged, as `quality.content_of` gives it."""
    judge: Annotated[str, Meta(min_length=1, max_length=100)]
    verdict: Literal["good", "bad", "none"]
    """none: taken back."""
    time: Annotated[datetime, Meta(tz=True)]
    defects: tuple[str, ...] = ()
    """Codes of DEFECTS; only of a bad one."""


def read_verdicts(path: Path) -> tuple[list[tuple[int, Verdict]], list[str]]:
    """The verdicts of a file with the numbers of their lines, and of each line that is none, why.

    Raises UsageError where the file cannot be read.
    """
    found: list[tuple[int, Verdict]] = []
    faults: list[str] = []
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                text = line.removeprefix(b"\xef\xbb\xbf").strip()
                try:
                    if text:
                        found.append((number, _verdict(text)))
                except (ValueError, RecursionError, msgspec.MsgspecError) as error:
                    faults.append(f"{path.name}:{number}: {' '.join(str(error).split())[:200]}")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    return found, faults


def _verdict(line: bytes) -> Verdict:
    """Raises ValueError."""
    if len(line) > _MOST_BYTES:
        raise ValueError(f"longer than {_MOST_BYTES} bytes")
    verdict = msgspec.json.decode(line, type=Verdict)
    unknown = [code for code in verdict.defects if code not in DEFECTS]
    if unknown:
        raise ValueError(f"defects: {unknown[0][:40]!r} is none of {', '.join(DEFECTS)}")
    if verdict.defects and verdict.verdict != "bad":
        raise ValueError("defects: only a bad dialogue has some")
    return verdict


def merged(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Of each judge on each dialogue the latest verdict; of equally late ones, the last. Sorted."""
    latest: dict[tuple[str, str], Verdict] = {}
    for verdict in verdicts:
        key = verdict.dialogue_id, verdict.judge
        if key not in latest or verdict.time >= latest[key].time:
            latest[key] = verdict
    return [latest[key] for key in sorted(latest)]


def stored_verdicts(out: Path) -> list[Verdict]:
    """What is kept with a dataset. Raises UsageError where that was spoilt: nothing is lost unseen."""
    path = out / NAME
    if not path.exists():
        return []
    found, faults = read_verdicts(path)
    if faults:
        raise UsageError(f"{path.parent}/{faults[0]}; mend or remove this line")
    return [verdict for _, verdict in found]


def store_verdicts(out: Path, verdicts: Iterable[Verdict]) -> None:
    """Keep verdicts with a dataset, in place of those there: the file is written whole or not at all."""
    partial = out / f".{NAME}.partial"
    partial.write_bytes(b"".join(msgspec.json.encode(verdict) + b"\n" for verdict in verdicts))
    partial.replace(out / NAME)
