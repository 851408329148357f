"""Transcripts by WhisperX (github.com/m-bain/whisperX) and by openai-whisper, as JSON."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datagen.sources import texts
from datagen.sources.rows import ONLY, Dropped, Found, Row, each, opened, seconds, span, title

_NO_SPEECH = 0.6
_LOG_PROBABILITY = -0.5
_COMPRESSION = 2.4
"""Segments that fail these are made up. Whisper itself leaves out what has no_speech_prob over 0.6 and
avg_logprob below -1.0; what reaches us has passed that, so the second is stricter here. 2.4 is its own:
text that compresses so well is one phrase in a loop."""


def index(document: Any, path: Path) -> dict[str, Any] | None:
    """The one video of the file; None where this is not `{segments, ...}`."""
    if not isinstance(document, dict) or not isinstance(opened(document.get("segments")), list):
        return None
    return None if "video_uid" in document else {ONLY: document}


def read(document: Any) -> Found:
    """What is said in the video the file is named after."""
    record = {key: opened(document.get(key)) for key in ("segments", "language")}
    return Found("whisper", _segments(record), None, title(record["language"]))


def _segments(record: dict[str, Any]) -> Iterator[Row]:
    for key, segment in each(record, "segments"):
        if doubt := _doubt(segment):
            yield Dropped(key, doubt)
            continue
        start, end, text = segment.get("start"), segment.get("end"), segment.get("text")
        first, last = seconds(start), seconds(end)
        words = timed(segment.get("words"), first, last) if first is not None and last is not None else ()
        yield span(key, start, end, text, "speech", words=words, speaker=_speaker(segment))


def _doubt(segment: dict[str, Any]) -> str | None:
    silence, sure = seconds(segment.get("no_speech_prob")), seconds(segment.get("avg_logprob"))
    if silence is not None and sure is not None and silence > _NO_SPEECH and sure < _LOG_PROBABILITY:
        return f"probably not speech: no_speech_prob {silence:g}, avg_logprob {sure:g}"
    packed = seconds(segment.get("compression_ratio"))
    if packed is not None and packed > _COMPRESSION:
        return f"probably a phrase in a loop: compression_ratio {packed:g}"
    return None


def _speaker(segment: dict[str, Any]) -> str | None:
    words = segment.get("words")
    voices = [w.get("speaker") for w in words if isinstance(w, dict)] if isinstance(words, list) else []
    return next((title(v) for v in (segment.get("speaker"), *voices) if isinstance(v, str)), None)


def timed(words: object, start: float, end: float) -> tuple[tuple[float, float, str], ...]:
    """(start, end, word) of the words of a stretch of speech.

    Words that could not be aligned (WhisperX gives numbers no times) share the gap between their
    neighbours evenly, so that no word of the text is missing.
    """
    result: list[tuple[float, float, str]] = []
    waiting: list[str] = []
    time = start
    for word in words if isinstance(words, list) else []:
        text = word.get("word") if isinstance(word, dict) else None
        text = texts.spoken(texts.clean(text)) if isinstance(text, str) else ""
        if not text:
            continue
        first, last = seconds(word.get("start")), seconds(word.get("end"))
        if first is None or last is None or not time <= first <= last:
            waiting.append(text)
            continue
        result += _shared(waiting, time, first)
        waiting = []
        result.append((first, last, text))
        time = last
    return tuple(result + _shared(waiting, time, max(time, end)))


def _shared(words: list[str], start: float, end: float) -> list[tuple[float, float, str]]:
    step = (end - start) / max(1, len(words))
    return [(start + i * step, start + (i + 1) * step, word) for i, word in enumerate(words)]
