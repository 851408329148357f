"""Ego-Exo4D atomic descriptions (docs.ego-exo4d-data.org/annotations/atomic_descriptions)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datagen.errors import Invalid
from datagen.sources import texts
from datagen.sources.ego4d import plain_english
from datagen.sources.rows import Dropped, Found, Row, each, load, members, opened, point, title


def index(document: Any, path: Path) -> dict[str, Any] | None:
    """(title, annotators) by take uid; None where this is not `{annotations: {take_uid: [...]}}`.

    Videos are named after takes, not their uids: where `takes.json` (or `egoexo4d_takes.json`) lies
    beside the file, takes are known by name and folder too.
    """
    annotations = members(document.get("annotations")) if isinstance(document, dict) else {}
    if not annotations or not any(isinstance(opened(v), list) for v in list(annotations.values())[:100]):
        return None
    videos: dict[str, Any] = {uid: (None, value) for uid, value in annotations.items()}
    for take in _takes(path.parent):
        uid = take.get("take_uid")
        if not isinstance(uid, str) or uid not in annotations:
            continue
        task = title(take.get("task_name")) or title(take.get("parent_task_name"))
        for name in (uid, take.get("take_name"), take.get("root_dir")):
            if isinstance(name, str):
                videos[name.rstrip("/").rpartition("/")[2]] = (task, annotations[uid])
    return videos


def _takes(folder: Path) -> list[dict[str, Any]]:
    for name in ("takes.json", "egoexo4d_takes.json"):
        try:
            takes = load((folder / name).read_bytes())
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise Invalid(f"needs {name} beside it, which cannot be read: {texts.shown(error)}") from None
        return [take for take in takes if isinstance(take, dict)] if isinstance(takes, list) else []
    return []


def read(video: Any) -> Found:
    """The descriptions by the annotator who wrote most (points in time), without unsure ones.

    Nor those that cannot be seen in the egocentric video, since which view is meant is not known here.
    """
    task, value = video
    return Found("egoexo4d", _descriptions(opened(value)), task, "en")


def _descriptions(annotators: Any) -> Iterator[Row]:
    """Of one annotator alone: all describe the same events, and told twice each would count twice."""
    read: dict[str, list[Row]] = {}
    for key, annotator in each({"annotators": annotators}, "annotators"):
        if annotator.get("rejected") is True:
            yield Dropped(key, "rejected by the dataset's own review")
        else:
            read[key] = list(_one(annotator, f"{key}."))
    best = max(read, key=lambda key: sum(not isinstance(row, Dropped) for row in read[key]), default=None)
    for key in read:
        if key == best:
            yield from read[key]
        else:
            yield Dropped(key, f"a second telling of the same events; {best} is used")


def _one(annotator: dict[str, Any], prefix: str) -> Iterator[Row]:
    for key, row in each(annotator, "descriptions"):
        if row.get("unsure") is True:
            yield Dropped(prefix + key, "the annotator was unsure")
        elif row.get("ego_visible") is False:
            yield Dropped(prefix + key, "cannot be seen from the camera wearer's view")
        else:
            yield point(prefix + key, row.get("timestamp"), row.get("text"), tidy=plain_english)
