"""Commentary word by word, one video a line (huggingface.co/datasets/chenjoya/Live-WhisperX-526K)."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from datagen.errors import Invalid
from datagen.sources import texts
from datagen.sources.rows import Dropped, Found, Row, by_stem, seconds, span, title

_RECORD = re.compile(rb"(?:\xef\xbb\xbf)?\s{0,99}\[\s{0,99}\{\s{0,99}\"(?:role|content)\"")
_PAUSE = 2.0
"""Seconds of silence (or a jump back) that end a sentence without a full stop."""
_STOPS = (".", "!", "?", "…", "。", "！", "？")
_WORDS = 60
"""A sentence is ended after so many words."""


class _Line(NamedTuple):
    """Where a line lies; the lines stay on disk, as the file has gigabytes."""

    path: Path
    number: int
    offset: int


class _Content(msgspec.Struct):
    video: str | None = None


class _Message(msgspec.Struct):
    content: list[_Content]


_heads = msgspec.json.Decoder(list[_Message])


def recognise(head: bytes) -> bool:
    """Whether a file that begins like this is of this format."""
    return _RECORD.match(head) is not None


def index(path: Path) -> dict[str, Any]:
    """The lines of each video, by its path and, where only one video has it, by its stem.

    Lines that name no video go to the first one, so that they are reported once.
    """
    videos: dict[str, list[_Line]] = {}
    homeless: list[_Line] = []
    with path.open("rb") as file:
        offset = 0
        for number, line in enumerate(file, 1):
            name = _video(line)
            if name:
                videos.setdefault(name, []).append(_Line(path, number, offset))
            elif line.strip() and not _is_offsets(line):
                homeless.append(_Line(path, number, offset))
            offset += len(line)
    if not videos:
        raise Invalid("has no line with a video")
    next(iter(videos.values())).extend(homeless)
    return by_stem(videos)


def _video(line: bytes) -> str | None:
    try:
        messages = _heads.decode(line.removeprefix(b"\xef\xbb\xbf"))
    except (ValueError, RecursionError):
        return None
    return next((content.video for m in messages for content in m.content if content.video), None)


def _is_offsets(line: bytes) -> bool:
    """The last line lists at which byte each line begins."""
    return re.fullmatch(rb"\s*\[[0-9,\s]*\]\s*", line) is not None


def read(lines: Any) -> Found:
    """The commentary on one video, which may have several lines."""
    rows: list[Row] = []
    name: str | None = None
    for line in lines:
        try:
            with line.path.open("rb") as file:
                file.seek(line.offset)
                record = json.loads(texts.decode(file.readline()))
        except (OSError, ValueError, RecursionError) as error:
            rows.append(Dropped(str(line.number), f"cannot be read: {texts.shown(str(error))}"))
            continue
        name = name or title(_content(record, "title"))
        rows += _sentences(_content(record, "text_stream"), line.number)
    return Found("live_whisperx", rows, name)


def _content(record: Any, field: str) -> Any:
    """The first value of that name in the contents of the messages."""
    for message in record if isinstance(record, list) else []:
        contents = message.get("content") if isinstance(message, dict) else None
        for content in contents if isinstance(contents, list) else []:
            if isinstance(content, dict) and field in content:
                return content[field]
    return None


def _sentences(stream: Any, line: int) -> Iterator[Row]:
    """Words joined up to a full stop, a pause or sixty words; the key is `line:number of first word`."""
    if not isinstance(stream, list):
        yield Dropped(str(line), f"`text_stream` is {texts.shown(stream)}, not a list")
        return
    sentence: list[tuple[float, float, str]] = []
    key = ""
    for number, item in enumerate(stream):
        word = _word(item)
        if word is None:
            yield Dropped(f"{line}:{number}", f"{texts.shown(item)} is not [start, end, word]")
            continue
        if sentence and abs(word[0] - sentence[-1][1]) > _PAUSE:
            yield _joined(key, sentence)
            sentence = []
        key = key if sentence else f"{line}:{number}"
        sentence.append(word)
        if len(sentence) >= _WORDS or word[2].rstrip("\"'”’)»").endswith(_STOPS):
            yield _joined(key, sentence)
            sentence = []
    if sentence:
        yield _joined(key, sentence)


def _word(item: Any) -> tuple[float, float, str] | None:
    if not isinstance(item, list) or len(item) != 3 or not isinstance(item[2], str):
        return None
    start, end, word = seconds(item[0]), seconds(item[1]), texts.clean(item[2])
    if start is None or end is None or end < start or start < 0 or not word:
        return None
    return start, end, word


def _joined(key: str, words: list[tuple[float, float, str]]) -> Row:
    start, end = min(w[0] for w in words), max(w[1] for w in words)
    said = tuple(word for word in words if texts.spoken(word[2]))
    return span(key, start, end, " ".join(word[2] for word in words), "speech", words=said)
