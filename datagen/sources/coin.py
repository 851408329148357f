"""COIN: steps of instructional videos (github.com/coin-dataset/annotations)."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datagen.sources.rows import Found, Row, each, members, opened, pair, peek, span, title

_NEW_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def index(document: Any, path: Path) -> dict[str, Any] | None:
    """The videos by id; None where this is not `{database: {id: {class, annotation}}}`."""
    videos = members(document.get("database")) if isinstance(document, dict) else {}
    return videos if any("annotation" in video for video in peek(videos)) else None


def read(video: Any) -> Found:
    """The steps of one video; the task, `ReplaceABulb`, becomes the title "Replace A Bulb"."""
    record = opened(video)
    record = record if isinstance(record, dict) else {}
    task = title(record.get("class"))
    return Found("coin", _steps(record), _NEW_WORD.sub(" ", task) if task else None, "en")


def _steps(record: dict[str, Any]) -> Iterator[Row]:
    for key, step in each(record, "annotation"):
        yield span(key, *pair(step.get("segment")), step.get("label"), "step")
