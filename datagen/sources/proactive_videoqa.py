"""ProactiveVideoQA annotations: a question and the answers due in a video (arXiv 2507.09313).

One file, a list of items, is read in three ways: as gold to score predictions against, as dialogues whose
statistics can stand beside a dataset's, and as a sidecar whose answers say what is seen.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from datagen.errors import Invalid
from datagen.records import Answer, Dialogue, Question
from datagen.sources.rows import Dropped, Found, Row, by_stem, each, pair, span
from datagen.sources.texts import shown

FORMAT = "proactive_videoqa"


class UserText(Struct, frozen=True):
    """What the user says; in an item the first is the question, further ones are subtitles."""

    role: Literal["user"]
    content: str
    time: float


class TrueAnswer(Struct, frozen=True, omit_defaults=True):
    """A true answer. Spans are [start, end] in seconds, both ends included."""

    role: Literal["assistant"]
    content: str
    related_timespan: tuple[float, float]
    """Where the video shows it."""
    reply_timespan: tuple[float, float]
    """Where saying it counts."""
    type: str | None = None


class Item(Struct, frozen=True):
    """One question about one video."""

    video: str
    question_id: str
    duration: float
    conversation: tuple[UserText, ...]
    answer: tuple[TrueAnswer, ...]


def read_gold(path: Path) -> tuple[Item, ...]:
    """The items of a gold file. Raises Invalid with the item's number from 0, the field and the reason."""
    try:
        values = msgspec.json.decode(path.read_bytes(), type=list[msgspec.Raw])
    except OSError as error:
        raise Invalid(f"{path.name}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise Invalid(f"{path.name}: is no JSON list of items: {str(error)[:200]}") from None
    items = []
    known: set[str] = set()
    for number, value in enumerate(values):
        try:
            item = msgspec.json.decode(value, type=Item)
            fault = _fault(item)
        except (ValueError, RecursionError) as error:
            fault = str(error)[:200]
        if not fault and item.question_id in known:
            fault = f"question_id {shown(item.question_id)} is another item's too"
        if fault:
            raise Invalid(f"{path.name}: item {number}: {fault}")
        known.add(item.question_id)
        items.append(item)
    return tuple(items)


def _fault(item: Item) -> str | None:
    if not item.conversation:
        return "conversation: holds no question"
    if not (math.isfinite(item.duration) and item.duration > 0):
        return f"duration: {item.duration:g} is no length in seconds"
    if not all(math.isfinite(said.time) and said.time >= 0 for said in item.conversation):
        return "conversation: a time is not in seconds from 0 up"
    for number, answer in enumerate(item.answer):
        for field in ("related_timespan", "reply_timespan"):
            start, end = getattr(answer, field)
            if not (math.isfinite(start) and math.isfinite(end) and 0 <= start <= end):
                return f"answer[{number}].{field}: [{start:g}, {end:g}] is no stretch of time"
    return None


def item_dialogue(item: Item) -> Dialogue:
    """The item as a dialogue of one question, whose kind is the type that its answers have in common."""
    types = {answer.type for answer in item.answer}
    kind = types.pop() if len(types) == 1 else None
    answers = tuple(
        Answer(
            text=answer.content,
            evidence=(),
            evidence_start=answer.related_timespan[0],
            evidence_end=answer.related_timespan[1],
            reply_start=answer.reply_timespan[0],
            reply_end=answer.reply_timespan[1],
        )
        for answer in item.answer
    )
    asked = item.conversation[0]
    question = Question(text=asked.content, ask_time=asked.time, kind=kind or "benchmark", answers=answers)
    return Dialogue(
        id=item.question_id,
        video_id=item.video,
        type="1QnA",
        questions=(question,),
        provenance=f"sidecar:{FORMAT}",
    )


def index(document: Any, path: Path) -> dict[str, Any] | None:
    """(number, item) pairs by video; None where this is not `[{video, question_id, answer}]`.

    Items that name no video go to the first one, so that they are reported once.
    """
    marks = {"video", "question_id", "answer"}
    if not isinstance(document, list):
        return None
    if not any(isinstance(item, dict) and marks <= item.keys() for item in document[:100]):
        return None
    videos: dict[str, Any] = {}
    homeless: list[tuple[int, None]] = []
    for number, item in enumerate(document):
        video = item.get("video") if isinstance(item, dict) else None
        if isinstance(video, str):
            videos.setdefault(video, []).append((number, item))
        else:
            homeless.append((number, None))
    if videos:
        next(iter(videos.values())).extend(homeless)
    return by_stem(videos)


def read(items: Any) -> Found:
    """What the true answers to all questions about one video say is seen in it."""
    return Found(FORMAT, _rows(items), None, "en")


def _rows(items: list[tuple[int, dict[str, Any] | None]]) -> Iterator[Row]:
    for number, item in items:
        if item is None:
            yield Dropped(f"[{number}]", "names no video")
            continue
        for key, answer in each(item, "answer"):
            related = pair(answer.get("related_timespan"))
            yield span(f"[{number}].{key}", *related, answer.get("content"), "narration")
