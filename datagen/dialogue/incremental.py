"""Dialogues written as they are lived through: no request holds anything that its reply must not know.

A question is written from what is known when it is asked; one that waits for something may name what is to
come, as a viewer can, and is written from everything. Then, stretch by stretch, the model is shown the notes
up to there and the question, and speaks or is silent. The notes stand first and grow by a line from request
to request, so that an endpoint reads only what is new; questions are gone through side by side.
"""

from functools import partial
from typing import Any, NamedTuple

from msgspec.structs import replace

from datagen.config import SILENT_KINDS
from datagen.dialogue.drafts import START, CallsOf, Draft, spoken
from datagen.dialogue.job import Job, rejection, unsound
from datagen.errors import Invalid, Refused
from datagen.llm.kinds import WAITING_KINDS
from datagen.llm.prompts import load_prompt, make_request
from datagen.llm.repair import Check, Fault, all_calls, all_of, ask_traced, lost
from datagen.llm.text import normalised
from datagen.llm.wordings import fraction
from datagen.records import Call, Dialogue, Question, Rejection

_AT_ONCE_KINDS = ("recall", "realtime")
"""Questions to which there is nothing more to say after the first reply."""


class _Asked(NamedTuple):
    """A question that has been written, and the replies given to it so far in the form of a draft."""

    text: str
    kind: str
    place: int
    """Number of the segment after which it is asked; -1: at the start."""
    item: str
    """What it is called in rejections."""
    calls: tuple[Call, ...] = ()
    immediate: dict[str, Any] | None = None
    later: tuple[dict[str, Any], ...] = ()

    def said(self) -> list[str]:
        """The texts of the replies."""
        return [reply["reply"] for reply in (self.immediate, *self.later) if reply]


async def write_incrementally(job: Job, types: list[str]) -> tuple[tuple[Dialogue, ...], list[Rejection]]:
    """Dialogues on questions of these types, and what was left out. Raises Provider."""
    places = [-1] * len(types) if job.one else _places(job, len(types))
    asked: list[_Asked] = []
    rejected: list[Rejection] = []
    for number, (kind, place) in enumerate(zip(types, places, strict=False)):
        question = await _question(job, kind, place, asked, f"{job.video_id}/question.{number}")
        if isinstance(question, Rejection):
            rejected.append(question)
        else:
            asked.append(question)
    size = len(job.notes.segments)
    stops = [size if job.one or n + 1 == len(asked) else asked[n + 1].place for n in range(len(asked))]
    answered = await all_of([_answered(job, asked, n, stop) for n, stop in enumerate(stops)])
    rejected += [row for _, rows in answered for row in rows]
    items = [item for item, _ in answered]
    calls_of = partial(_calls_at, items)
    draft = _draft(items, job, calls_of)
    name = f"{job.video_id}/{'one_qna' if job.one else 'n_qna'}.incremental"
    rejected += [rejection(job.video_id, name, fault, calls_of(fault.path)) for fault in draft.faults]
    if not draft.dialogues:
        detail = f"no question is left of {len(types)} to be written"
        rejected.append(Rejection("synthesize", job.video_id, name, "unanswerable", detail))
    return draft.dialogues, rejected


def _calls_at(items: list[dict[str, Any]], path: str) -> tuple[Call, ...]:
    """The calls of the innermost question or reply that holds a path of the draft."""
    calls: tuple[Call, ...] = ()
    place: Any = items
    for step in path.split("/")[2:]:
        if isinstance(place, str | None):
            break
        place = place.get(step) if isinstance(place, dict) else place[int(step)]
        if isinstance(place, dict):
            calls = place["calls"]
    return calls


def _places(job: Job, count: int) -> list[int]:
    """Numbers of the segments after which questions are asked: the start, then about evenly spread."""
    size = len(job.notes.segments)
    places = [-1]
    for number in range(1, count):
        moved = (fraction(job.seed, job.video_id, "place", number) - 0.5) / 2
        place = round((number + moved) * size / count) - 1
        # Between two questions there is at least one segment in which the first one may be answered.
        if places[-1] + 2 <= place <= size - 2:
            places.append(place)
    return places


async def _question(job: Job, kind: str, place: int, asked: list[_Asked], item: str) -> _Asked | Rejection:
    """A question asked after segment number `place`, or why there is none."""
    # The stretch that begins as it is asked is before the viewer's eyes.
    known = None if kind in WAITING_KINDS else place + 2
    mark = job.notes.marks[place]
    moment = f"when the stretch {mark} has just ended" if place >= 0 else "at the very start"
    earlier = [question.text for question in asked]
    values = {"notes": job.notes.rows(known), "type": kind, "moment": moment, "earlier": earlier}

    def check(value: Any) -> list[Fault]:
        text = value["question"]
        if not text:
            return []
        if normalised(text) in map(normalised, earlier):
            return [Fault("/question", "near_duplicate_question", text, "a question unlike the earlier ones")]
        question = _Asked(text, kind, place, item)
        drafted = _draft([_item(job, question)], job).faults
        found = [fault._replace(path="/question") for fault in drafted if fault.path.endswith("/question")]
        return found or _unsound(job, question, first=not asked)

    reply = await _sound_reply(job, "question", values, check, item)
    if isinstance(reply, Rejection):
        return reply
    value, calls = reply
    if not value["question"]:
        detail = f"the notes offer nothing for a question of the type {kind}"
        return Rejection("synthesize", job.video_id, item, "unanswerable", detail, calls)
    return _Asked(value["question"], kind, place, item, calls)


async def _sound_reply(
    job: Job, prompt: str, values: dict[str, Any], check: Check, item: str
) -> tuple[Any, tuple[Call, ...]] | Rejection:
    """A reply in which nothing is wrong, with the calls it comes from; or why there is none."""
    request = replace(make_request(load_prompt(prompt), job.model, values), seed=job.seed)
    try:
        value, faults, trace = await ask_traced(request, check, job.ask)
    except (Invalid, Refused) as failure:
        return lost("synthesize", job.video_id, item, failure)
    if faults:
        return rejection(job.video_id, item, faults[0]._replace(path=""), all_calls(trace))
    return value, all_calls(trace)


def _unsound(job: Job, asked: _Asked, first: bool) -> list[Fault]:
    """What the checks say of a question by itself, which has no replies yet."""
    time = job.notes.segments[asked.place].end if asked.place >= 0 else 0.0
    question = Question(text=" ".join(asked.text.split()), ask_time=time, kind=asked.kind)
    dialogue = Dialogue(
        id="trial", video_id=job.video_id, type="nQnA", questions=(question,), provenance=job.model
    )
    not_yet = set() if asked.kind in SILENT_KINDS else {"missed_reply"}
    if not first:
        not_yet.add("ambiguous_reference")
    found = unsound(Draft((dialogue,), {"trial/q0": ("/question", question.text)}, ()), job)
    return [fault for fault in found if fault.code not in not_yet]


async def _answered(
    job: Job, asked: list[_Asked], number: int, stop: int
) -> tuple[dict[str, Any], list[Rejection]]:
    """A question as an item of a draft, with the replies given to it before segment number `stop`."""
    question = asked[number]
    # Before it stands the one that it may follow up.
    before = [] if job.one else [other._replace(kind="never") for other in asked[:number][-1:]]
    rejected: list[Rejection] = []
    for place in _moments(job, question, stop):
        result = await _replied(job, question, before, place)
        if isinstance(result, Rejection):
            rejected.append(result)
        else:
            question = result
    silent = not (question.said() or rejected) and question.kind in WAITING_KINDS
    if silent and question.kind not in SILENT_KINDS and "never" in job.options.shapes:
        # Waited for to the end, and it did not come.
        question = question._replace(kind="never")
    return _item(job, question), rejected


def _moments(job: Job, question: _Asked, stop: int) -> list[int]:
    """Numbers of the segments after which the model is asked whether to speak."""
    if question.kind in SILENT_KINDS:
        return []
    first = max(question.place, 0)
    last = first + 1 if question.kind in _AT_ONCE_KINDS else stop
    return [place for place in range(first, last) if job.notes.captions[place] is not None]


async def _replied(job: Job, question: _Asked, before: list[_Asked], place: int) -> _Asked | Rejection:
    """The question with the reply given after segment number `place`, if there is one."""
    limits, mark = job.limits(1), job.notes.marks[place]
    at_once = place == question.place
    values = {
        "notes": job.notes.rows(place + 1),
        "immediate": at_once,
        "now": mark,
        "max_words": limits.immediate_words if at_once else limits.reply_words,
        "question": question.text,
        "earlier": question.said(),
    }
    context = [_item(job, other) for other in before]

    def check(value: Any) -> list[Fault]:
        trial = _draft([*context, _item(job, _with_reply(question, mark, value, at_once))], job)
        own = "/immediate/" if at_once else f"/answers/{len(question.later)}/"
        found = [fault for fault in trial.faults if fault.allowed] or unsound(trial, job)
        split = [(fault, fault.path.partition(own)) for fault in found]
        return [fault._replace(path=f"/{path[2]}") for fault, path in split if path[1]]

    reply = await _sound_reply(job, "reply", values, check, f"{question.item}/{mark}")
    if isinstance(reply, Rejection):
        return reply
    value, calls = reply
    return _with_reply(question, mark, value, at_once, calls) if spoken(value["reply"]) else question


def _with_reply(
    question: _Asked, mark: str, value: dict[str, Any], at_once: bool, calls: tuple[Call, ...] = ()
) -> _Asked:
    """The question with one more reply, given after the segment with this mark."""
    entry = {**value, "segment": mark, "calls": calls}
    return (
        question._replace(immediate=entry) if at_once else question._replace(later=(*question.later, entry))
    )


def _item(job: Job, question: _Asked) -> dict[str, Any]:
    """A question in the form in which a draft is written at once."""
    mark = job.notes.marks[question.place] if question.place >= 0 else START
    written = {"type": question.kind, "question": question.text, "calls": question.calls}
    return {"ask_after": mark, **written, "immediate": question.immediate, "answers": question.later}


def _draft(items: list[dict[str, Any]], job: Job, calls_of: CallsOf = lambda path: ()) -> Draft:
    """What becomes of the items; the same as if they had been written at once."""
    provenance = f"{job.model}:{load_prompt('question').id}+{load_prompt('reply').id}"
    value = {"dialogues" if job.one else "questions": items}
    return job.draft(value, len(items), provenance, calls_of)
