"""SubRip (.srt) and WebVTT (.vtt, w3.org/TR/webvtt1) subtitles, captions and descriptions."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from datagen.errors import Invalid
from datagen.sources import texts
from datagen.sources.rows import ONLY, Dropped, Found, Row, span

_LINE_END = re.compile(r"\r\n|\r|\n")
_TIME = re.compile(r"(?:([0-9]{1,6}):)?([0-9]{1,3}):([0-9]{1,2})(?:[.,]([0-9]{1,9}))?")
_LANGUAGE = re.compile(r"\.([a-z]{2,3}(?:-[A-Za-z0-9]{2,8})?)\.[A-Za-z]+$")
_VOICE = re.compile(r"<v(?:\.[^\s<>]*)?[ \t]+([^<>]+)>")
_ROLL_LINES = 8
_ROLL_GAP = 0.5
"""Seconds within which a rolling caption carries its last line over into the next cue."""


class _Cue(NamedTuple):
    line: int
    timing: str
    lines: list[str]


def index(text: str, path: Path) -> dict[str, Any] | None:
    """The one video of the file; None where it has neither a WebVTT header nor a single cue."""
    if not text.lstrip().startswith("WEBVTT") and "-->" not in text:
        return None
    return {ONLY: (text, path)}


def read(video: Any) -> Found:
    """Speech, or narration where the track holds descriptions. Raises Invalid for other tracks."""
    text, path = video
    lines = _LINE_END.split(text)
    web = text.lstrip().startswith("WEBVTT")
    header = _header(lines) if web else {}
    kind = header.get("kind", "").lower()
    if kind in ("chapters", "metadata"):
        raise Invalid(f"is a track of {kind}, not of speech or descriptions")
    described = kind == "descriptions" or ".descriptions." in path.name.lower()
    cues = list(_cues(lines, web))
    named = _LANGUAGE.search(path.name)
    language = texts.clean(header.get("language", ""))[:35] or (named.group(1) if named else None)
    return Found("vtt" if web else "srt", _rows(cues, described), None, language)


def _header(lines: list[str]) -> dict[str, str]:
    header = {}
    for line in lines[1:]:
        if not line.strip() or "-->" in line:
            break
        key, _, value = line.partition(":")
        header[key.strip().lower()] = value.strip()
    return header


def _cues(lines: list[str], web: bool) -> Iterator[_Cue]:
    """Timing lines with what follows them: in WebVTT up to an empty line, in SubRip up to the next cue.

    SubRip files have empty lines inside cues, and none between them; a lone number before a timing
    line is the next cue's. A line of spaces is not empty: rolling captions begin with one.
    """
    cue: _Cue | None = None
    comment = False
    for number, line in enumerate(lines, 1):
        if not line.strip():
            comment = False
            if web and cue and not line:
                yield cue
                cue = None
        elif web and cue is None and line.startswith(("NOTE", "STYLE", "REGION")):
            comment = True
        elif not comment and "-->" in line:
            if cue:
                if cue.lines and cue.lines[-1].strip().isdecimal():
                    cue.lines.pop()
                yield cue
            cue = _Cue(number, line, [])
            continue
        if cue:
            cue.lines.append(line)
    if cue:
        yield cue


def _rows(cues: list[_Cue], described: bool) -> Iterator[Row]:
    """One row a cue; of rolling captions, the lines that are new in it."""
    shown = [_plain(cue.lines) for cue in cues]
    timed = [_times(cue.timing) for cue in cues]
    rolling = _rolls(shown, timed)
    for number, (cue, lines, times) in enumerate(zip(cues, shown, timed, strict=True)):
        key = str(cue.line)
        if times is None:
            yield Dropped(key, f"times {texts.shown(cue.timing)} cannot be read")
            continue
        if rolling and number:
            fresh = lines[_carried(shown[number - 1], lines) if _follows(timed[number - 1], times) else 0 :]
            if lines and not fresh:
                continue
            lines = fresh
        if any("#xywh=" in line for line in lines):
            yield Dropped(key, "points to a picture, is not text")
            continue
        voice = _VOICE.search("\n".join(cue.lines))
        speaker = texts.clean(texts.without_markup(voice.group(1)))[:100] if voice else None
        kind: Literal["narration", "speech"] = "narration" if described else "speech"
        yield span(key, *times, " ".join(lines), kind, speaker=speaker or None)


def _plain(lines: list[str]) -> list[str]:
    plain = (texts.clean(texts.without_markup(line)) for line in "\n".join(lines).split("\n"))
    return [line for line in plain if line]


def _times(timing: str) -> tuple[float, float] | None:
    left, _, right = timing.partition("-->")
    start, end = _seconds(left.strip()), _seconds((right.split() or [""])[0])
    return None if start is None or end is None else (start, end)


def _seconds(text: str) -> float | None:
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    hours, minutes, whole, fraction = match.groups()
    if int(whole) > 59 or (hours and int(minutes) > 59):
        return None
    return int(hours or 0) * 3600 + int(minutes) * 60 + float(f"{whole}.{fraction or 0}")


def _rolls(shown: list[list[str]], timed: list[tuple[float, float] | None]) -> bool:
    """Whether a third of the cues begin with the last line of the one before, as live captions do."""
    pairs = list(zip(shown, shown[1:], timed, timed[1:], strict=False))
    carried = [now for before, now, t, u in pairs if u and _follows(t, u) and _carried(before[-1:], now)]
    return len(carried) * 3 >= max(1, len(pairs)) and any(len(now) > 1 for now in carried)


def _follows(before: tuple[float, float] | None, now: tuple[float, float]) -> bool:
    return before is not None and now[0] - before[1] <= _ROLL_GAP


def _carried(before: list[str], now: list[str]) -> int:
    """How many lines at the front of a cue were already at the end of the one before."""
    for count in range(min(len(before), len(now), _ROLL_LINES), 0, -1):
        if before[-count:] == now[:count]:
            return count
    return 0
