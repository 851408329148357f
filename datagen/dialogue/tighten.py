"""When exactly a reply is due, where nobody annotated it: a model that sees seeks the first sufficient frame.

The training frames of the segment in which the evidence of a reply ends are halved again and again: are those
up to here enough for all that the reply says? That takes for granted that what suffices once suffices from
then on, so the whole segment is asked about once more. Where the model is unsure, contradicts itself or finds
nothing sufficient in time, the answer keeps the span of its segment.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path

from msgspec.structs import replace

from datagen.errors import Corrupt, Invalid, Refused
from datagen.llm.captions import frames_inside, make_pictures
from datagen.llm.prompts import load_prompt, make_request
from datagen.llm.repair import Ask, all_calls, all_of, ask_traced
from datagen.records import Answer, Call, Dialogue, Question, Segment, Watched

_MOST_PICTURES = 8
_LEAST_LEFT = 2
"""Frames that must be left of a reply span: a turn needs room in it, or the reply would be lost."""


async def tighten(
    dialogue: Dialogue,
    segments: tuple[Segment, ...],
    watched: Watched,
    ask: Ask,
    model: str,
    frames: Path,
    interval: float,
) -> Dialogue:
    """The dialogue with `evidence_end` and `reply_start` of its visual answers at the first sufficient frame.

    The segment itself stays known by its id in `evidence`, `evidence_start` and `reply_end` as they are.
    `frames` is the folder that holds <video id>/000001.jpg, ..., one for every `interval` seconds. Immediate
    answers have no such moment. Raises Provider.
    """
    by_id = {segment.id: segment for segment in segments}

    async def attempt(question: Question, answer: Answer) -> Answer:
        numbers = _numbers(answer, by_id, watched, interval)
        calls: list[Call] = []

        async def sufficient(place: int) -> str:
            shown = [f"{dialogue.video_id}/{number:06d}.jpg" for number in _spread(numbers[: place + 1])]
            values = {"question": question.text, "reply": answer.text}
            pictures = make_pictures(shown, frames)
            request = make_request(load_prompt("sufficient"), model, values, pictures)
            value, _, trace = await ask_traced(request, lambda _: [], ask, "tightened")
            calls.extend(all_calls(trace))
            return str(value["sufficient"])

        try:
            found = await _first_sufficient(len(numbers), sufficient)
        except (Corrupt, Invalid, Refused):
            return answer
        if found is None:
            return answer
        time = round(numbers[found] * interval, 3)
        start, made = max(time, answer.reply_start), (*answer.calls, *calls)
        return replace(answer, evidence_end=time, reply_start=start, calls=made)

    pairs = [(question, answer) for question in dialogue.questions for answer in question.answers]
    tightened = iter(await all_of([attempt(*pair) for pair in pairs]))
    questions = tuple(
        replace(question, answers=tuple(next(tightened) for _ in question.answers))
        for question in dialogue.questions
    )
    return replace(dialogue, questions=questions)


def _numbers(answer: Answer, segments: dict[str, Segment], watched: Watched, interval: float) -> list[int]:
    """Numbers of the frames among which the first sufficient one is looked for."""
    segment = segments.get(answer.evidence[-1]) if answer.evidence else None
    if segment is None or answer.modality != "visual" or answer.immediate:
        return []
    inside = frames_inside(max(segment.start, answer.reply_start), answer.reply_end, watched, interval)
    # A span of evidence has a length.
    return [number for number in inside if number * interval > answer.evidence_start]


async def _first_sufficient(count: int, sufficient: Callable[[int], Awaitable[str]]) -> int | None:
    """The first of `count` frames by which the reply is borne out, or None where the model cannot tell."""
    low, high = -1, count - 1 - _LEAST_LEFT
    if high < 0 or await sufficient(high) != "yes":
        return None
    while high - low > 1:
        middle = (low + high) // 2
        said = await sufficient(middle)
        if said == "unsure":
            return None
        low, high = (low, middle) if said == "yes" else (middle, high)
    return high if await sufficient(count - 1) == "yes" else None


def _spread(numbers: list[int]) -> list[int]:
    """As many of the frames as a request may show, evenly spread, the first and the last among them."""
    if len(numbers) <= _MOST_PICTURES:
        return numbers
    step = (len(numbers) - 1) / (_MOST_PICTURES - 1)
    return [numbers[round(place * step)] for place in range(_MOST_PICTURES)]
