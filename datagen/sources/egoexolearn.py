"""EgoExoLearn: fine narrations (CSV) and coarse steps (JSON) (github.com/OpenGVLab/EgoExoLearn)."""

import csv
import io
import re
from collections.abc import Iterator
from typing import Any

from datagen.errors import Invalid
from datagen.sources.rows import ONLY, Dropped, Found, Row, each, span

_COLUMNS = ("narration_en", "narration_en_no_hand_prompt", "narration_en_hand_prompt", "narration_ch")
_NUMBER = re.compile(r"^[0-9]{1,3}\s*[.)、．]\s*")


def index_fine(text: str) -> dict[str, Any] | None:
    """(column, rows) by video uid; None where this is not a CSV with `video_uid,start_sec,end_sec`.

    Rows that name no video go to the first one, so that they are reported once. Raises Invalid for the
    test split, which has times but no narrations.
    """
    lines = csv.reader(io.StringIO(text, newline=""))
    try:
        header = [cell.strip() for cell in next(lines, [])]
    except csv.Error:
        return None
    if not {"video_uid", "start_sec", "end_sec"} <= set(header):
        return None
    column = next((name for name in _COLUMNS if name in header), None)
    if column is None:
        raise Invalid(
            "has times but no narration column (such as `narration_en`), as in EgoExoLearn's test split"
        )
    videos: dict[str, Any] = {}
    homeless: list[tuple[str, dict[str, str] | None]] = []
    for key, row in _rows(lines, header):
        uid = (row or {}).get("video_uid", "").strip()
        (videos.setdefault(uid, (column, []))[1] if uid else homeless).append((key, row))
    if videos:
        next(iter(videos.values()))[1].extend(homeless)
    return videos


def _rows(lines: Any, header: list[str]) -> Iterator[tuple[str, dict[str, str] | None]]:
    """Each row by its first line; None for one that cannot be parsed."""
    while True:
        line = str(lines.line_num + 1)
        try:
            cells = next(lines, None)
        except csv.Error:
            yield line, None
            continue
        if cells is None:
            return
        if cells:
            yield line, dict(zip(header, cells, strict=False)) if len(cells) == len(header) else None


def read_fine(video: Any) -> Found:
    """The narrations of one video."""
    column, rows = video
    return Found(
        "egoexolearn_fine", _narrations(column, rows), None, "zh" if column == "narration_ch" else "en"
    )


def _narrations(column: str, rows: list[tuple[str, dict[str, str] | None]]) -> Iterator[Row]:
    for key, row in rows:
        if row is None:
            yield Dropped(key, "does not have as many values as the header has columns")
        elif not row["video_uid"].strip():
            yield Dropped(key, "names no video: `video_uid` is empty")
        else:
            yield span(key, row["start_sec"], row["end_sec"], row[column], "narration")


def index_coarse(document: Any) -> dict[str, Any] | None:
    """The one video of the file; None where this is not a list of `{start, end, textAttribute_en}`."""
    listed = document if isinstance(document, list) else []
    marked = any(isinstance(step, dict) and "textAttribute_en" in step for step in listed)
    return {ONLY: listed} if marked else None


def read_coarse(steps: Any) -> Found:
    """The steps of the video the file is named after."""
    return Found("egoexolearn_coarse", _steps(steps), None, "en")


def _steps(steps: list[Any]) -> Iterator[Row]:
    for key, step in each({"steps": steps}, "steps"):
        text = step.get("textAttribute_en")
        yield span(key, step.get("start"), step.get("end"), text, "step", tidy=plain_list)


def plain_list(text: str) -> str:
    """A numbered list, one item a line, as sentences in a row."""
    items = [_NUMBER.sub("", line.strip()) for line in text.splitlines()]
    items = [item.strip() for item in items if item.strip()]
    if len(items) < 2:
        return "".join(items)
    return " ".join(item if item[-1] in ".!?。" else f"{item.rstrip(',;')}." for item in items)
