"""HiREST: steps of instructional videos found for a query (github.com/j-min/HiREST)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datagen.sources.rows import Found, Row, by_stem, each, members, opened, pair, peek, span, title


def index(document: Any, path: Path) -> dict[str, Any] | None:
    """(query, video) by file name; None where this is not `{query: {file: {relevant, steps}}}`.

    Of a video found for several queries, the first query for which it has steps counts.
    """
    if not isinstance(document, dict):
        return None
    if not any("relevant" in members(v) for files in peek(document) for v in list(files.values())[:3]):
        return None
    videos: dict[str, tuple[str, Any]] = {}
    for query, files in document.items():
        for name, value in members(files).items():
            if name not in videos or not opened(members(videos[name][1]).get("steps")):
                videos[name] = (query, value)
    return by_stem(videos)


def read(video: Any) -> Found:
    """The steps of one video, with the query it is relevant to as title."""
    query, value = video
    record = opened(value)
    record = record if isinstance(record, dict) else {}
    goal = title(query) if record.get("relevant") is True else None
    return Found("hirest", _steps(record), goal, "en")


def _steps(record: dict[str, Any]) -> Iterator[Row]:
    for key, step in each(record, "steps"):
        yield span(key, *pair(step.get("absolute_bounds")), step.get("heading"), "step")
