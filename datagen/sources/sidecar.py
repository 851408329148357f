"""Whatever sidecar file a video has, read into narrations. The content decides the format, not the name."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from datagen.errors import Invalid
from datagen.records import Location, Narration, Rejection, Sidecar
from datagen.remote import fetched
from datagen.sources import (
    captaincook4d,
    coin,
    ego4d,
    egoexo4d,
    egoexolearn,
    hirest,
    live_whisperx,
    proactive_videoqa,
    subtitles,
    texts,
    whisper,
    youcook2,
)
from datagen.sources.rows import Dropped, Found, load, select

_OBJECTS = (whisper, coin, youcook2, egoexo4d, ego4d, captaincook4d, hirest, proactive_videoqa)
"""Readers of JSON, in the order in which they are asked: COIN looks like YouCook2 otherwise."""

_KNOWN = (
    "SRT, WebVTT, WhisperX, Whisper, Live-WhisperX, Ego4D, GoalStep, Ego-Exo4D, EgoExoLearn, COIN, YouCook2, "
    "HiREST, CaptainCook4D or ProactiveVideoQA"
)
_MOST_NARRATIONS = 100_000
_MOST_REJECTIONS = 10_000


class _Collection(NamedTuple):
    """A sidecar file, parsed as far as all its videos share."""

    read: Callable[[Any], Found]
    videos: dict[str, Any]


def read_sidecar(location: Location, stamp: tuple[int, int], names: tuple[str, ...]) -> Sidecar:
    """What the file says about the video that goes by one of the names, best first.

    The stamp, (size, mtime_ns), is part of the key under which each process keeps the last files it
    parsed: tens of thousands of videos may share one file of hundreds of megabytes. Times are the
    file's own, in seconds. Rows that cannot be used become rejections of stage `sidecar`, with the item
    id `<file>:<line or key>`. Raises Invalid where the file cannot be used for this video at all.
    """
    location = fetched(location)
    path = Path(location.path)
    name = texts.valid_name(path.name)
    try:
        collection = _open(location.path, stamp)
        if isinstance(collection, str):
            raise Invalid(collection)
        found = collection.read(select(collection.videos, names))
        rows = list(found.rows)
    except Invalid as problem:
        raise Invalid(f"{name}: {problem}") from None
    kept = [row for row in rows if isinstance(row, Narration)]
    kept.sort(key=lambda row: (row.start, row.end, row.text))
    dropped = [row for row in rows if isinstance(row, Dropped)]
    if len(kept) > _MOST_NARRATIONS:
        rest = len(kept) - _MOST_NARRATIONS
        dropped.append(Dropped("end", f"{rest} narrations after the first {_MOST_NARRATIONS}"))
    if len(dropped) > _MOST_REJECTIONS:
        rest = len(dropped) - _MOST_REJECTIONS
        dropped[_MOST_REJECTIONS:] = [Dropped("rest", f"{rest} more rows that cannot be used")]
    video = texts.valid_name(names[0]) if names else name
    return Sidecar(
        format=found.format,
        narrations=tuple(kept[:_MOST_NARRATIONS]),
        rejected=tuple(
            Rejection("sidecar", video, f"{name}:{row.key}", "Invalid", row.detail) for row in dropped
        ),
        title=found.title,
        language=found.language,
    )


@lru_cache(maxsize=2)
def _open(path: str, stamp: tuple[int, int]) -> _Collection | str:
    """The parsed file, or why it cannot be used: that is remembered too."""
    try:
        return _parse(Path(path))
    except Invalid as problem:
        return str(problem)
    except (OSError, ValueError) as error:
        return f"cannot be read: {texts.shown(getattr(error, 'strerror', None) or str(error))}"


def _parse(path: Path) -> _Collection:
    with path.open("rb") as file:
        head = file.read(4096)
    if live_whisperx.recognise(head):
        return _Collection(live_whisperx.read, live_whisperx.index(path))
    data = path.read_bytes()
    text = texts.decode(data[:4096]).lstrip()
    if not text:
        raise Invalid("is empty")
    if text.startswith(("{", "[")):
        return _parse_json(data, path)
    text = texts.decode(data).removeprefix("\ufeff")
    if (videos := subtitles.index(text, path)) is not None:
        return _Collection(subtitles.read, videos)
    if (videos := egoexolearn.index_fine(text)) is not None:
        return _Collection(egoexolearn.read_fine, videos)
    raise Invalid(f"is in no known format; expected {_KNOWN}")


def _parse_json(data: bytes, path: Path) -> _Collection:
    try:
        document = load(data)
    except ValueError as error:
        raise Invalid(f"begins like JSON but is not: {texts.shown(str(error))}") from None
    if (videos := egoexolearn.index_coarse(document)) is not None:
        return _Collection(egoexolearn.read_coarse, videos)
    for reader in _OBJECTS:
        if (videos := reader.index(document, path)) is not None:
            return _Collection(reader.read, videos)
    raise Invalid(f"is JSON in no known format; expected {_KNOWN}")
