"""CaptainCook4D step annotations: recipes cooked right and wrong (github.com/CaptainCook4D/annotations)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datagen.sources.rows import Found, Row, each, opened, peek, span, title

_NO_VERB = frozenset({"a", "an", "the", "some", "one", "two", "three", "half"})


def index(document: Any, path: Path) -> dict[str, Any] | None:
    """The recordings by id; None where this is not `{recording: {activity_name, steps}}`."""
    if not isinstance(document, dict):
        return None
    marks = {"recording_id", "activity_name", "activity_id"}
    return document if any("steps" in v and marks & v.keys() for v in peek(document)) else None


def read(recording: Any) -> Found:
    """The steps of one recording, those done wrongly marked as mistakes. Skipped steps are dropped."""
    record = opened(recording)
    record = record if isinstance(record, dict) else {}
    return Found("captaincook4d", _steps(record), title(record.get("activity_name")), "en")


def _steps(record: dict[str, Any]) -> Iterator[Row]:
    for key, step in each(record, "steps"):
        yield span(
            key,
            step.get("start_time"),
            step.get("end_time"),
            step.get("description"),
            "step",
            tidy=plain_step,
            mistake=step.get("has_errors") is True,
        )


def plain_step(description: str) -> str:
    """The sentence of `Verb-sentence`.

    The verb stays where the sentence has none: "Add-1 tablespoon of oil" is "Add 1 tablespoon of oil".
    """
    verb, dash, sentence = (part.strip() for part in description.partition("-"))
    if not dash or not sentence or not verb.replace(" ", "").isalpha() or len(verb.split()) > 2:
        return description
    first = sentence.split()[0].lower()
    lacks_verb = not first[0].isalpha() or first in _NO_VERB
    if lacks_verb and verb.lower() not in sentence.lower():
        return f"{verb} {sentence}"
    return sentence
