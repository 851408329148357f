"""Predictions against gold: which replies are to be judged, and the PAUC that their grades come to.

As the evaluation published with ProactiveVideoQA does it: every reply within an answer's span counts for it,
also one that lies in two spans; of a reply said again only the first counts; and a reply after all has been
shown that is worse than those before is taken to belong to the next answer.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from datagen.errors import Invalid, UsageError
from datagen.export.pauc import Settings, Span, pauc
from datagen.inspect.dataset import one_line
from datagen.inspect.policies import Policy
from datagen.inspect.windows import Window
from datagen.records import NO_REPLY
from datagen.sources.proactive_videoqa import Item, TrueAnswer

Replies = Sequence[tuple[float, str]]
"""(seconds, text) of what was said about one item, in order of time, without silence."""
FLOORS = (0.0, 0.5, 1.0)
"""The weights w at which the benchmark publishes PAUC."""


class Claim(NamedTuple):
    """Something that a judge grades."""

    question: str
    said: str
    truth: str


class AnswerScore(Struct, frozen=True):
    """How one true answer was given."""

    type: str
    span: tuple[float, float]
    grades: tuple[tuple[float, float], ...]
    """(seconds, grade) of the replies within the span that were judged."""
    pauc: tuple[float, ...]
    """With the weight of the settings, then with each of FLOORS."""


class ItemScore(Struct, frozen=True):
    """How the answers of one item were given."""

    question_id: str
    predicted: bool
    """Whether the predictions have a line for it."""
    replies: int
    outside: int
    """Replies outside all spans."""
    answers: tuple[AnswerScore, ...]


def read_predictions(path: Path) -> tuple[dict[str, Replies], list[str]]:
    """What a model said, by question id, and what of its file cannot be used.

    The file has {question_id, model_response_list: [{role, content, time}]} on each line. What users said and
    silence (`NO REPLY` or nothing) are left out. A later line about the same question counts, as in the
    published evaluation. Raises UsageError where the file cannot be read.
    """
    replies: dict[str, Replies] = {}
    faults = []
    try:
        lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            question_id, said = _prediction(line)
        except (Invalid, ValueError, RecursionError) as error:
            faults.append(f"line {number}: {one_line(error)}")
            continue
        if question_id in replies:
            faults.append(f"line {number}: {question_id[:100]!r} has an earlier line, which does not count")
        replies[question_id] = said
    return replies, faults


class _Said(Struct, frozen=True):
    content: msgspec.Raw = msgspec.Raw(b"null")
    time: float | None = None
    role: str = "assistant"


class _Line(Struct, frozen=True):
    question_id: str
    model_response_list: tuple[_Said, ...]


def _prediction(line: bytes) -> tuple[str, Replies]:
    read = msgspec.json.decode(line, type=_Line)
    replies = []
    for number, said in enumerate(read.model_response_list):
        if said.role != "assistant":
            continue
        text = msgspec.json.decode(said.content)
        if not isinstance(text, str) or said.time is None:
            field = "time" if isinstance(text, str) else "content"
            raise Invalid(f"model_response_list[{number}].{field}: is missing or of another type")
        if text.strip() not in ("", NO_REPLY):
            replies.append((said.time, text.strip()))
    return read.question_id, sorted(replies, key=lambda reply: reply[0])


def claims(items: Sequence[Item], predicted: Mapping[str, Replies], settings: Settings) -> dict[Claim, None]:
    """All that has to be graded, each once, in order."""
    return {
        claim: None
        for item in items
        for answer in item.answer
        for _, claim in _claims(item, answer, predicted.get(item.question_id, ()), settings)
    }


def _claims(
    item: Item, answer: TrueAnswer, replies: Replies, settings: Settings
) -> list[tuple[float, Claim]]:
    """What is to be graded of the replies within an answer's span, by time."""
    found = []
    distinct: list[str] = []
    for time, text in replies:
        if _span(item, answer).holds(time) and text not in distinct:
            distinct.append(text)
            said = " ".join(distinct) if settings.joined else text
            found.append((time, Claim(item.conversation[0].content, said, answer.content)))
    return found


def _span(item: Item, answer: TrueAnswer) -> Span:
    return Span(*answer.reply_timespan, item.conversation[0].content, answer.content)


def score(
    items: Sequence[Item],
    predicted: Mapping[str, Replies],
    grades: Mapping[Claim, float | None],
    settings: Settings,
) -> list[ItemScore]:
    """PAUC of every answer. A reply whose grade is None counts as none."""
    scores = []
    for item in items:
        replies = predicted.get(item.question_id, ())
        answers = tuple(_answer_score(item, answer, replies, grades, settings) for answer in item.answer)
        spans = [_span(item, answer) for answer in item.answer]
        outside = sum(not any(span.holds(time) for span in spans) for time, _ in replies)
        known = item.question_id in predicted
        scores.append(ItemScore(item.question_id, known, len(replies), outside, answers))
    return scores


def _answer_score(
    item: Item,
    answer: TrueAnswer,
    replies: Replies,
    grades: Mapping[Claim, float | None],
    settings: Settings,
) -> AnswerScore:
    graded = ((time, grades[claim]) for time, claim in _claims(item, answer, replies, settings))
    points = {time: grade for time, grade in graded if grade is not None}
    if settings.joined:
        # What was said once all had been shown, and is worse than before, belongs to the next answer.
        shown_by = answer.related_timespan[1]
        least = next((points[time] for time in reversed(points) if time <= shown_by), 0.0)
        points = {time: grade for time, grade in points.items() if time <= shown_by or grade >= least}
    found = tuple(points.items())
    weights = (settings.floor, *FLOORS)
    areas = [pauc(*answer.reply_timespan, found, replace(settings, floor=weight)) for weight in weights]
    return AnswerScore(answer.type or "", answer.reply_timespan, found, tuple(areas))


def policy_replies(items: Sequence[Item], policy: Policy, turn_seconds: float) -> dict[str, Replies]:
    """What a policy says about each item, at turns of so many seconds."""
    found: dict[str, Replies] = {}
    for item in items:
        count = max(1, int(item.duration / turn_seconds + 1e-6))
        times = tuple(round(number * turn_seconds, 6) for number in range(1, count + 1))
        asked = item.conversation[0]
        window = Window(
            id=item.question_id,
            times=times,
            questions=tuple(asked.content if time >= asked.time else "" for time in times),
            captions=("",) * count,
            spans=tuple(_span(item, answer) for answer in item.answer),
            earlier=(),
            placed=None,
        )
        said = zip(times, policy(window), strict=True)
        found[item.question_id] = [(time, text) for time, text in said if text != NO_REPLY]
    return found
