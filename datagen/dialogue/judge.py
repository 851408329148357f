"""A judge model proves what a dialogue says: each reply from what was known by then, each silence from all.

A reply that this does not bear out is read again with everything: what only the second reading bears out
leaks the future, what neither does is invented. Every reply and silence is judged by itself, all at once.
"""

from collections.abc import Awaitable, Sequence
from typing import Any, NamedTuple, TypeVar

from msgspec.structs import replace

from datagen.config import SILENT_KINDS
from datagen.dialogue.notes import Notes
from datagen.errors import Invalid, Refused
from datagen.llm.kinds import RETURNING_KINDS
from datagen.llm.prompts import load_prompt, make_request
from datagen.llm.repair import Ask, Fault, all_calls, all_of, ask_traced, failed_calls
from datagen.records import Answer, Call, Caption, Dialogue, Question, Rejection, Segment

_MOST_EARLIER = 30
"""Earlier replies that the judge is shown, the newest."""
_MARK = "earliest_sufficient"
_Judged = TypeVar("_Judged", Question, Answer)


async def judge_answers(
    dialogue: Dialogue, segments: tuple[Segment, ...], captions: tuple[Caption, ...], ask: Ask, model: str
) -> tuple[Dialogue | None, tuple[Rejection, ...]]:
    """The dialogue without what a judge turns away, and a row of stage `verify` for each.

    Codes of answers: future_leak_answer, unanswerable, repeat, ambiguous_reference; of a question that is to
    be met with silence: missed_reply; Invalid or Refused for what could not be judged, which is no proof that
    it is good. A question goes with its last answer, unless it was meant to have none, and a dialogue with
    its last question. Raises Provider.
    """
    notes = Notes(segments, captions)
    places = {segment.id: place for place, segment in enumerate(segments)}
    earlier: list[str] = []
    tasks = []
    for number, question in enumerate(dialogue.questions):
        if question.kind in SILENT_KINDS:
            court = _Court(notes, ask, model, [])
            tasks.append(_ruling(court, _silence(court, question, _stop(dialogue, number, segments))))
        for answer in question.answers:
            court = _Court(notes, ask, model, [])
            cited = [places[id] for id in answer.evidence if id in places]
            tasks.append(_ruling(court, _verdict(court, question, answer, cited, tuple(earlier))))
            earlier.append(answer.text)
    return _judged(dialogue, await all_of(tasks), model)


class _Court(NamedTuple):
    """Where one verdict is found."""

    notes: Notes
    ask: Ask
    model: str
    calls: list[Call]
    """Those made for it."""


_Verdict = tuple[str, str] | None
"""Code and reason to turn something away, if there is one."""
_Ruling = tuple[_Verdict, tuple[Call, ...]]
"""With the calls that it took."""


async def _ruling(court: _Court, verdict: Awaitable[_Verdict]) -> _Ruling:
    """What could not be judged is turned away."""
    try:
        found = await verdict
    except (Invalid, Refused) as failure:
        found = type(failure).__name__, str(failure)
    return found, tuple(court.calls)


def _stop(dialogue: Dialogue, number: int, segments: tuple[Segment, ...]) -> int:
    """How many segments begin before question `number` is taken over."""
    following = dialogue.questions[number + 1 : number + 2]
    return sum(segment.end <= following[0].ask_time for segment in segments) if following else len(segments)


def _judged(
    dialogue: Dialogue, rulings: Sequence[_Ruling], model: str
) -> tuple[Dialogue | None, tuple[Rejection, ...]]:
    """What the rulings, in the order of the dialogue, leave of it."""
    following = iter(rulings)
    kept: list[Question] = []
    rejected: list[Rejection] = []

    def ruled(item: str, one: _Judged) -> _Judged | None:
        verdict, calls = next(following)
        every: tuple[Call, ...] = one.calls + calls
        if verdict is None:
            return replace(one, calls=every)
        detail = f"judged by {model}: {verdict[1]}: {one.text[:300]!r}"
        rejected.append(Rejection("verify", dialogue.video_id, item, verdict[0], detail, every))
        return None

    def drop(item: str, detail: str, calls: tuple[Call, ...] = ()) -> None:
        rejected.append(Rejection("verify", dialogue.video_id, item, "unanswerable", detail, calls))

    for q, question in enumerate(dialogue.questions):
        item = f"{dialogue.id}/q{q}"
        silent = question.kind in SILENT_KINDS
        held = ruled(item, question) if silent else question
        stand = (ruled(f"{item}/a{a}", answer) for a, answer in enumerate(question.answers))
        answers = tuple(answer for answer in stand if answer)
        if held and (answers or silent):
            kept.append(replace(held, answers=answers))
        elif not silent:
            drop(item, f"no answer is left: {question.text[:300]!r}", question.calls)
    if not kept:
        drop(dialogue.id, f"no question is left of {len(dialogue.questions)}")
        return None, tuple(rejected)
    return replace(dialogue, questions=tuple(kept)), tuple(rejected)


async def _silence(court: _Court, question: Question, stop: int) -> _Verdict:
    """Whether a question that is to be met with silence deserves a reply before segment number `stop`."""
    if question.kind == "stop":
        return None
    values: dict[str, object] = {"notes": court.notes.rows(stop), "question": question.text}
    value = await _asked(court, "silence", values, "called_for")
    return ("missed_reply", value["hint"] or "no reason given") if value["called_for"] else None


async def _verdict(
    court: _Court, question: Question, answer: Answer, cited: Sequence[int], earlier: tuple[str, ...]
) -> _Verdict:
    if not cited:
        return "unanswerable", "no evidence"
    notes, now = court.notes, max(cited)
    values = {
        "now": notes.marks[now],
        "question": question.text,
        "earlier": list(earlier[-_MOST_EARLIER:]),
        "reply": answer.text,
    }
    prefix = await _asked(court, "judge", {"notes": notes.rows(now + 1), **values}, _MARK)
    # What the prefix bears out leaks nothing. After the last segment both readings would be the same.
    proved = prefix["answerable"] == "yes" or now + 1 == len(notes.segments)
    whole = prefix if proved else await _asked(court, "judge", {"notes": notes.rows(), **values}, _MARK)
    returns = answer.immediate or question.kind in RETURNING_KINDS
    return _fault(prefix, whole, returns)


async def _asked(court: _Court, prompt: str, values: dict[str, object], key: str) -> dict[str, Any]:
    """The judge's reply to a prompt; its calls are noted, also where it fails.

    Raises Invalid where what it cites under `key` does not exist, and Refused and Provider.
    """

    def check(value: dict[str, Any]) -> list[Fault]:
        mark = value[key]
        exists = mark is None or court.notes.place(mark) is not None
        return [] if exists else [Fault(f"/{key}", "unanswerable", mark, "an id from the notes, or null")]

    request = make_request(load_prompt(prompt), court.model, values)
    try:
        value, faults, trace = await ask_traced(request, check, court.ask, "judged")
    except (Invalid, Refused) as failure:
        court.calls.extend(failed_calls(failure))
        raise
    court.calls.extend(all_calls(trace))
    if faults:
        raise Invalid(f"the judge cites {faults[0].text[:80]!r}, which does not exist")
    found: dict[str, Any] = value
    return found


def _fault(prefix: dict[str, Any], whole: dict[str, Any], returns: bool) -> _Verdict:
    """What the readings say against a reply; `whole` is the prefix itself where that was enough."""
    hint = prefix["hint"] or whole["hint"] or "no reason given"
    if prefix["uses_future"]:
        return "future_leak_answer", hint
    if prefix["answerable"] != "yes":
        leak = whole["answerable"] == "yes" or whole["uses_future"]
        return "future_leak_answer" if leak else "unanswerable", hint
    if prefix["contradicts"]:
        return "unanswerable", hint
    # What was asked to be told each time may be said again, and so may what is joined into one reply.
    if not prefix["adds_new"] and not returns:
        return "repeat", hint
    if not prefix["referent_clear"]:
        return "ambiguous_reference", hint
    return None
