"""Ego4D narrations, also redacted ones, and GoalStep (ego4d-data.org/docs/data/annotations-schemas)."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datagen.errors import Invalid
from datagen.sources import texts
from datagen.sources.rows import Dropped, Found, Row, each, members, opened, peek, point, span, title

_TAG = re.compile(r"#\s?[A-Za-z]+")
_WEARER = re.compile(r"(?<![\w-])(?<!vitamin )(?<!USB )(?<!type )C(?=$|[\s,.;:'’])(?! clamp)")
_OTHER = re.compile(r"^O(?=['’\s])")
_LETTER = re.compile(r"^[B-Z](?=['’\s])")


def index(document: Any, path: Path) -> dict[str, Any] | None:
    """The videos by uid; None where this is neither of the three formats.

    narrations `{uid: {status, narration_pass_N: {narrations}}}`, redacted narrations
    `{videos: {uid: {narrations}}}`, GoalStep `{videos: [{video_uid, segments}]}`.
    """
    if not isinstance(document, dict):
        return None
    if "videos" not in document:
        marked = any("status" in v or any(k.startswith("narration_pass") for k in v) for v in peek(document))
        return document if marked else None
    videos = members(document["videos"])
    if not videos and isinstance(listed := opened(document["videos"]), list):
        return {
            v["video_uid"]: v for v in listed if isinstance(v, dict) and isinstance(v.get("video_uid"), str)
        }
    return videos if any("narrations" in video for video in peek(videos)) else None


def read(video: Any) -> Found:
    """Narrations (points in time) or GoalStep's steps of one video."""
    record = opened(video)
    record = record if isinstance(record, dict) else {}
    if "segments" in record:
        goal = title(record.get("goal_description"))
        return Found("ego4d_goalstep", _steps(record), goal, "en")
    return Found("ego4d_narrations", _narrations(record), None, "en")


def _narrations(record: dict[str, Any]) -> Iterator[Row]:
    """The fuller pass: both tell the same events, and told twice each event would count twice.

    A narration repeated word for word stays: it happened again.
    """
    if "narrations" in record:
        yield from _pass(record, "")
        return
    passes = {k: v for k, v in record.items() if k.startswith("narration_pass") and isinstance(v, dict)}
    if not passes:
        raise Invalid(f"has no narrations for this video, its status is {texts.shown(record.get('status'))}")
    read = {key: list(_pass(value, f"{key}.")) for key, value in sorted(passes.items())}
    best = max(read, key=lambda key: sum(not isinstance(row, Dropped) for row in read[key]))
    yield from read[best]
    for key in read:
        if key != best:
            yield Dropped(key, f"a second telling of the same events; {best} is used")


def _pass(record: dict[str, Any], prefix: str) -> Iterator[Row]:
    for key, row in each(record, "narrations"):
        time = row["timestamp_sec"] if "timestamp_sec" in row else row.get("time")
        text = row["narration_text"] if "narration_text" in row else row.get("text")
        if isinstance(text, str) and "#unsure" in text.lower():
            yield Dropped(prefix + key, "the annotator was unsure")
        else:
            yield point(prefix + key, time, text, tidy=plain_english)


def _steps(record: dict[str, Any]) -> Iterator[Row]:
    """Steps and the substeps inside them, depth first; those irrelevant to the goal are dropped."""
    waiting = [("", record)]
    while waiting:
        prefix, parent = waiting.pop()
        for key, step in each(parent, "segments"):
            if step.get("is_relevant") == "irrelevant":
                yield Dropped(prefix + key, "the annotators call this step irrelevant to the goal")
                continue
            text = step.get("step_description") or step.get("step_category")
            yield span(prefix + key, step.get("start_time"), step.get("end_time"), text, "step")
            if step.get("segments"):
                waiting.append((f"{prefix}{key}.", step))


def plain_english(text: str) -> str:
    """`#C C lifts a cup` as "The camera wearer lifts a cup"; `#O A man X waves` as "A man X waves".

    C is the camera wearer wherever it stands alone; O, and a lone letter after `#O`, other people.
    """
    others = text.lstrip().upper().startswith(("#O", "# O"))
    text = " ".join(_TAG.sub(" ", text).split())
    if text.startswith("c "):
        text = "C" + text[1:]
    text = _OTHER.sub("another person", text)
    if others and not text.startswith("C "):
        text = _LETTER.sub(lambda letter: f"person {letter.group()}", text)
    text = _WEARER.sub("the camera wearer", text)
    return text[:1].upper() + text[1:]
