"""What every sidecar reader shares: how a row becomes a Narration or is dropped with a reason."""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Literal, NamedTuple

import msgspec

from datagen.errors import Invalid
from datagen.records import Narration
from datagen.sources import texts

_TYPES = (
    "360 3g2 3gp amv asf avi divx dv f4v flv gif insv ivf lrv m1v m2t m2ts m2v m4a m4v mjpeg mjpg mk3d mkv "
    "mov mp4 mpe mpeg mpg mts mxf nut ogg ogm ogv qt rm rmvb ts vob webm wmv wtv y4m"
)
VIDEO_TYPES = frozenset(f".{name}" for name in _TYPES.split())
"""Extensions of video files. Some also hold plain audio, which probing finds out."""

ONLY = ""
"""The id of the video in a file that is about a single video and does not name it."""

_LATEST = 1e7
"""Seconds (115 days): later times are wrong."""
_LONGEST = 10_000
"""Characters: longer texts are not narrations."""
_RESOLUTION = re.compile(r"_(?:[0-9]{3,4}p|4k)$", re.IGNORECASE)


class Dropped(NamedTuple):
    """A row of a sidecar that cannot be used."""

    key: str
    detail: str


Row = Narration | Dropped


class Found(NamedTuple):
    """What a reader found about one video, in the order of the file."""

    format: str
    rows: Iterable[Row]
    title: str | None = None
    language: str | None = None


def span(
    key: str,
    start: object,
    end: object,
    text: object,
    kind: Literal["speech", "narration", "step"],
    tidy: Callable[[str], str] = str,
    words: tuple[tuple[float, float, str], ...] = (),
    speaker: str | None = None,
    mistake: bool = False,
) -> Row:
    """A row that covers [start, end) seconds. The values come straight from the file, of any type."""
    begin, finish = seconds(start), seconds(end)
    if begin is None or finish is None:
        wrong = ("start", start) if begin is None else ("end", end)
        return Dropped(key, f"{wrong[0]} is {texts.shown(wrong[1])}, not a time in seconds")
    if begin < 0:
        return Dropped(key, f"starts at {begin:g} s: a step that was skipped, or a wrong time")
    if finish <= begin:
        return Dropped(key, f"ends at {finish:g} s, not after its start at {begin:g} s")
    said = _text(text, kind, tidy)
    if isinstance(said, ValueError):
        return Dropped(key, str(said))
    return Narration(
        start=begin,
        end=finish,
        text=said,
        modality="audio" if kind == "speech" else "visual",
        kind=kind,
        words=words,
        speaker=speaker,
        mistake=mistake,
        key=key,
    )


def point(key: str, time: object, text: object, tidy: Callable[[str], str] = str) -> Row:
    """A narration of what is seen at one time (seconds)."""
    at = seconds(time)
    if at is None or at < 0:
        return Dropped(key, f"time is {texts.shown(time)}, not a time in seconds from 0 up")
    said = _text(text, "narration", tidy)
    if isinstance(said, ValueError):
        return Dropped(key, str(said))
    return Narration(start=at, end=at, text=said, modality="visual", kind="narration", key=key)


def _text(text: object, kind: str, tidy: Callable[[str], str]) -> str | ValueError:
    if not isinstance(text, str):
        return ValueError(f"text is {texts.shown(text)}, not a string")
    if len(text) > _LONGEST:
        return ValueError(f"text has {len(text)} characters, at most {_LONGEST} are taken")
    said = texts.clean(tidy(text))
    if not texts.has_words(said):
        return ValueError(f"text {texts.shown(text)} holds no words")
    if kind == "speech":
        said = texts.spoken(said)
        if not said:
            return ValueError(f"text {texts.shown(text)} is a sound cue or song, not speech")
    return said


def seconds(value: object) -> float | None:
    """The value as a finite number of seconds; None where it is none. Digits in a string count."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and abs(number) <= _LATEST else None


def load(data: bytes | msgspec.Raw, shallow: bool = True) -> Any:
    """JSON from bytes; the values of a top-level object stay undecoded until `opened`.

    That keeps a file of hundreds of megabytes, of which one video is wanted, at its size in memory.
    Raises ValueError.
    """
    try:
        if shallow:
            try:
                return msgspec.json.decode(data, type=dict[str, msgspec.Raw])
            except msgspec.ValidationError:  # not an object
                pass
        return msgspec.json.decode(data)
    except ValueError:  # the strict way takes neither NaN nor other encodings
        try:
            return json.loads(texts.decode(bytes(data)))
        except RecursionError:
            raise ValueError("nested too deeply") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


def opened(value: object) -> Any:
    """A value that `load` left undecoded, decoded fully. Raises Invalid."""
    if not isinstance(value, msgspec.Raw):
        return value
    try:
        return load(value, shallow=False)
    except ValueError as error:
        raise Invalid(f"holds JSON that cannot be decoded: {texts.shown(str(error))}") from None


def members(value: object) -> dict[str, Any]:
    """The members of an object that `load` left undecoded, themselves undecoded; empty for others."""
    if isinstance(value, msgspec.Raw):
        try:
            value = load(value)
        except ValueError:
            return {}
    return value if isinstance(value, dict) else {}


def peek(videos: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The first hundred videos of a collection, to see what format it has."""
    for value in islice(videos.values(), 100):
        yield members(value)


def each(record: dict[str, Any], field: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects in a list of a record, each with its key; what is no object counts as an empty one.

    Raises Invalid where the record has no such list.
    """
    values = record.get(field)
    if not isinstance(values, list):
        raise Invalid(f"`{field}` is {texts.shown(values)}, not a list")
    for number, value in enumerate(values):
        yield f"{field}[{number}]", value if isinstance(value, dict) else {}


def pair(value: object) -> tuple[Any, Any]:
    """The two ends of a `[start, end]` list; None for both where it is none."""
    return (value[0], value[1]) if isinstance(value, list) and len(value) == 2 else (None, None)


def title(value: object) -> str | None:
    """A title as one line of at most 300 characters."""
    return (texts.clean(value[:2000])[:300] or None) if isinstance(value, str) else None


def stem(name: str) -> str:
    """The last part of a path, without the extension of a video file."""
    last = name.rpartition("/")[2]
    base, _, extension = last.rpartition(".")
    return base if base and f".{extension}".lower() in VIDEO_TYPES else last


def by_stem(videos: dict[str, Any]) -> dict[str, Any]:
    """The videos also under the stems of their ids, where only one of them has that stem."""
    owners: dict[str, str | None] = {}
    for key in videos:
        short = stem(key)
        owners[short] = None if short in owners else key
    return {short: videos[key] for short, key in owners.items() if key is not None} | videos


def select(videos: dict[str, Any], names: tuple[str, ...]) -> Any:
    """The video of that name: as it is, as a file stem, without `_360p`, else by its folders.

    Raises Invalid where the collection has none of them.
    """
    if ONLY in videos:
        return videos[ONLY]
    stems = [stem(name) for name in names]
    folders = [part for name in names for part in reversed(name.split("/")[:-1])]
    for candidate in (*names, *stems, *(_RESOLUTION.sub("", short) for short in stems), *folders):
        if candidate and candidate in videos:
            return videos[candidate]
    raise Invalid(f"describes {len(videos)} videos, none of them called {', '.join(map(texts.shown, names))}")
