"""YouCook2: steps of cooking videos (youcook2.eecs.umich.edu)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datagen.errors import Invalid
from datagen.sources.rows import Found, Row, each, members, opened, pair, peek, span


def index(document: Any, path: Path) -> dict[str, Any] | None:
    """The videos by id; None where this is not `{database: {id: {recipe_type, annotations}}}`."""
    videos = members(document.get("database")) if isinstance(document, dict) else {}
    return videos if any({"annotations", "recipe_type"} & video.keys() for video in peek(videos)) else None


def read(video: Any) -> Found:
    """The steps of one video. Raises Invalid for the test split, which has none."""
    record = opened(video)
    record = record if isinstance(record, dict) else {}
    if "annotations" not in record:
        raise Invalid("has no `annotations` for this video, as in the test split")
    return Found("youcook2", _steps(record), None, "en")


def _steps(record: dict[str, Any]) -> Iterator[Row]:
    for key, step in each(record, "annotations"):
        yield span(key, *pair(step.get("segment")), step.get("sentence"), "step")
