"""A judge model reads each reply twice: with what was known when it was given, then with everything.

What only the second reading bears out leaks the future. Every answer is judged by itself, all at once.
"""

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from datagen.dialogue.drafts import SILENT_KINDS
from datagen.dialogue.notes import Notes
from datagen.errors import Invalid, Refused
from datagen.llm.prompts import load_prompt, make_request
from datagen.llm.repair import Ask, Fault, all_of, ask_checked
from datagen.records import Answer, Caption, Dialogue, Question, Rejection, Segment

_RETURNING_KINDS = ("detect", "state_change")
"""Questions to which the same reply is right again when the same thing happens again."""
_MOST_EARLIER = 30
"""Earlier replies that the judge is shown, the newest."""


async def judge_answers(
    dialogue: Dialogue, segments: tuple[Segment, ...], captions: tuple[Caption, ...], ask: Ask, model: str
) -> tuple[Dialogue | None, tuple[Rejection, ...]]:
    """The dialogue without the answers that a judge turns away, and a row of stage `verify` for each.

    Codes: future_leak_answer, unanswerable, repeat, ambiguous_reference; Invalid or Refused for an answer
    that could not be judged, which is no proof that it is good. A question goes with its last answer, unless
    it was meant to have none, and a dialogue with its last question. Raises Provider.
    """
    notes = Notes(segments, captions)
    places = {segment.id: place for place, segment in enumerate(segments)}
    tasks = []
    earlier: list[str] = []
    for question in dialogue.questions:
        for answer in question.answers:
            cited = [places[id] for id in answer.evidence if id in places]
            tasks.append(_verdict(question, answer, cited, tuple(earlier), notes, ask, model))
            earlier.append(answer.text)
    verdicts = iter(await all_of(tasks))
    kept: list[Question] = []
    rejected: list[Rejection] = []

    def reject(item: str, code: str, detail: str) -> None:
        rejected.append(Rejection("verify", dialogue.video_id, item, code, detail))

    for q, question in enumerate(dialogue.questions):
        item = f"{dialogue.id}/q{q}"
        answers = []
        for a, answer in enumerate(question.answers):
            if verdict := next(verdicts):
                reject(f"{item}/a{a}", verdict[0], f"judged by {model}: {verdict[1]}: {answer.text[:300]!r}")
            else:
                answers.append(answer)
        if answers or question.kind in SILENT_KINDS:
            kept.append(replace(question, answers=tuple(answers)))
        else:
            reject(item, "unanswerable", f"no answer is left: {question.text[:300]!r}")
    if not kept:
        reject(dialogue.id, "unanswerable", f"no question is left of {len(dialogue.questions)}")
        return None, tuple(rejected)
    return replace(dialogue, questions=tuple(kept)), tuple(rejected)


async def _verdict(
    question: Question,
    answer: Answer,
    cited: Sequence[int],
    earlier: tuple[str, ...],
    notes: Notes,
    ask: Ask,
    model: str,
) -> tuple[str, str] | None:
    """Code and reason to turn an answer away, if there is one."""
    if not cited:
        return "unanswerable", "no evidence"
    now = max(cited)
    values = {
        "now": notes.marks[now],
        "question": question.text,
        "earlier": list(earlier[-_MOST_EARLIER:]),
        "reply": answer.text,
    }
    try:
        prefix = await _judged({"notes": notes.rows(now + 1), **values}, notes, ask, model)
        # The last reply has nothing after it: both readings would be of the same notes.
        last = now + 1 == len(notes.segments)
        whole = prefix if last else await _judged({"notes": notes.rows(), **values}, notes, ask, model)
    except (Invalid, Refused) as failure:
        return type(failure).__name__, str(failure)
    returns = answer.immediate or question.kind in _RETURNING_KINDS
    return _fault(prefix, whole, now, notes, returns)


async def _judged(values: dict[str, object], notes: Notes, ask: Ask, model: str) -> dict[str, Any]:
    def check(value: dict[str, Any]) -> list[Fault]:
        mark = value["earliest_sufficient"]
        if mark is None or notes.place(mark) is not None:
            return []
        return [Fault("/earliest_sufficient", "unanswerable", mark, "an id from the notes, or null")]

    value, faults = await ask_checked(make_request(load_prompt("judge"), model, values), check, ask)
    if faults:
        raise Invalid(f"the judge cites {faults[0].text[:80]!r}, which does not exist")
    judged: dict[str, Any] = value
    return judged


def _fault(
    prefix: dict[str, Any], whole: dict[str, Any], now: int, notes: Notes, returns: bool
) -> tuple[str, str] | None:
    """What two readings say against a reply given after segment number `now`."""
    hint = prefix["hint"] or whole["hint"] or "no reason given"
    first = notes.place(whole["earliest_sufficient"] or "")
    if whole["uses_future"] or (first is not None and first > now):
        return "future_leak_answer", hint
    if prefix["answerable"] != "yes":
        leak = whole["answerable"] == "yes"
        return "future_leak_answer" if leak else "unanswerable", hint
    if prefix["contradicts"]:
        return "unanswerable", hint
    # What was asked to be told each time may be said again, and so may what is joined into one reply.
    if not prefix["adds_new"] and not returns:
        return "repeat", hint
    if not prefix["referent_clear"]:
        return "ambiguous_reference", hint
    return None
