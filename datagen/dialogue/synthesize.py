"""Dialogues by a language model, from the captions of a video.

The model is asked for a draft; what is wrong with it, by its form or by the checks, goes back for repair.
What is still wrong in form is dropped here, each with a rejection; the rest is left to check_dialogue.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from msgspec.structs import replace

from datagen.config import DialogueOptions
from datagen.dialogue.checks import check_dialogue
from datagen.dialogue.drafts import Draft, Limits, draft_n, draft_one
from datagen.dialogue.notes import Notes
from datagen.errors import Invalid, Refused
from datagen.llm.chat import ChatRequest
from datagen.llm.prompts import load_prompt, make_request
from datagen.llm.repair import Ask, Fault, all_of, ask_checked
from datagen.llm.text import normalised
from datagen.llm.wordings import fraction
from datagen.records import Caption, Dialogue, Rejection, Segment, Video

REPLY_WORDS = 40
IMMEDIATE_WORDS = 50
_MOST_ENTRIES = 120
"""Entries (questions times segments) that one request asks for: more would not fit into a reply."""
_TOKENS_PER_ENTRY = 80
_MOST_TOKENS = 16_000
_TYPES = ("monitor", "narrate", "guide", "detect", "state_change", "mistake")
"""Types to propose. `count` is left to the model: few notes show each time, and a forced count is wrong."""
_TYPES_AT_ONCE = ("recall", "realtime")
_NEVER_SHARE = 1 / 8
"""Share of the videos in which one question is to be one that silence answers."""
_ALLOWED = {
    "format": "plain words, of the length asked for",
    "future_leak_answer": "only what is known by the end of the stretch it belongs to",
    "hindsight": "the present tense, with no word on how things go on",
    "caption_speak": "no word on notes, captions, stretches, frames or the video itself",
    "invented_number": "only numbers that stand in its evidence",
    "repeat": "something that earlier replies have not said",
    "unanswerable": "what its evidence says",
}


class _Job(NamedTuple):
    """What all requests for one video share."""

    video_id: str
    notes: Notes
    one: bool
    """1QnA, not nQnA."""
    max_words: int
    seed: int
    ask: Ask
    model: str


async def synthesize(
    video: Video,
    segments: tuple[Segment, ...],
    captions: tuple[Caption, ...],
    options: DialogueOptions,
    seed: int,
    ask: Ask,
    model: str,
) -> tuple[tuple[Dialogue, ...], tuple[Rejection, ...]]:
    """The dialogues of a video: several 1QnA, or one nQnA; where there is none, rejections say why.

    They are sound in form and have yet to go through check_dialogue. Raises Provider.
    """
    notes = Notes(segments, captions)
    if not notes.is_known():
        detail = f"nothing is known of its {len(segments)} segments"
        return (), (Rejection("synthesize", video.id, video.id, "Rejected", detail),)
    one = options.type == "1qna" or (options.type == "mixed" and fraction(seed, video.id, "type") < 0.5)
    job = _Job(video.id, notes, one, options.max_reply_words, seed, ask, model)
    types = _types(job, _count(segments, options))
    # 1QnA has an entry for each question and segment: a long video is asked about in parts.
    most = max(1, _MOST_ENTRIES // len(segments)) if one else len(types)
    parts = [types[start : start + most] for start in range(0, len(types), most)]
    results = await all_of([_part(job, number, part) for number, part in enumerate(parts)])
    kept, doubles = _distinct([dialogue for made, _ in results for dialogue in made])
    return tuple(kept), (*(row for _, rows in results for row in rows), *doubles)


def _count(segments: tuple[Segment, ...], options: DialogueOptions) -> int:
    """Number of questions: by length, within the bounds of the options, and no more than can be asked."""
    wanted = round(segments[-1].end / options.seconds_per_question)
    return min(len(segments), max(options.min_questions, min(options.max_questions, wanted)))


def _types(job: _Job, count: int) -> list[str]:
    """The types of question to propose, in an order drawn for the video."""
    key = (job.seed, job.video_id)
    known = _TYPES if job.one else _TYPES + _TYPES_AT_ONCE
    order = sorted(known, key=lambda kind: fraction(*key, "type", kind))
    types = [order[number % len(order)] for number in range(count)]
    if not job.one and count > 1 and fraction(*key, "never") < _NEVER_SHARE:
        types[-1] = "never" if fraction(*key, "which") < 0.5 else "unanswerable"
    return types


async def _part(job: _Job, number: int, types: list[str]) -> tuple[tuple[Dialogue, ...], list[Rejection]]:
    """What one request gives. Its items are known by the request's number and their place in the reply."""
    prompt = load_prompt("one_qna" if job.one else "n_qna")
    limits = Limits(len(types), min(REPLY_WORDS, job.max_words), min(IMMEDIATE_WORDS, job.max_words))
    size = len(job.notes.segments)
    values = {
        "notes": job.notes.rows(),
        "count": len(types),
        "types": types,
        "max_words": limits.reply_words,
        "max_immediate_words": limits.immediate_words,
        "least_replies": min(2, size),
        "least_silent": size // 5,
    }
    tokens = prompt.max_tokens + _TOKENS_PER_ENTRY * size * (len(types) if job.one else 1)
    request = replace(
        make_request(prompt, job.model, values), seed=job.seed, max_tokens=min(_MOST_TOKENS, tokens)
    )
    draft = partial(
        draft_one if job.one else draft_n,
        notes=job.notes,
        video_id=job.video_id,
        provenance=f"{job.model}:{prompt.id}",
        limits=limits,
    )
    item = f"{job.video_id}/{prompt.name}.{number}"
    try:
        made, faults = await _drafted(request, draft, job)
    except (Invalid, Refused) as failure:
        return (), [Rejection("synthesize", job.video_id, item, type(failure).__name__, str(failure))]
    rejected = [_rejection(job.video_id, item, fault) for fault in faults]
    if not made:
        detail = f"no question is left of {len(types)} asked for"
        rejected.append(Rejection("synthesize", job.video_id, item, "unanswerable", detail))
    return made, rejected


async def _drafted(
    request: ChatRequest, draft: Callable[[Any], Draft], job: _Job
) -> tuple[tuple[Dialogue, ...], tuple[Fault, ...]]:
    """The dialogues of the repaired reply, and what had to be left out of them."""

    def check(value: Any) -> list[Fault]:
        drafted = draft(value)
        return [f for f in drafted.faults if f.allowed] + _unsound(drafted, job.notes, job.max_words)

    value, _ = await ask_checked(request, check, job.ask)
    drafted = draft(value)
    return drafted.dialogues, drafted.faults


def _unsound(draft: Draft, notes: Notes, max_words: int) -> list[Fault]:
    """What check_dialogue finds in a draft, at its place in the reply."""
    captions = tuple(caption for caption in notes.captions if caption)
    found = []
    for dialogue in draft.dialogues:
        texts = {f"{dialogue.id}/q{q}": question.text for q, question in enumerate(dialogue.questions)}
        for q, question in enumerate(dialogue.questions):
            texts |= {f"{dialogue.id}/q{q}/a{a}": answer.text for a, answer in enumerate(question.answers)}
        _, rows = check_dialogue(dialogue, notes.segments, captions, max_words)
        for row in rows:
            # A question or dialogue of which nothing is left is put right by putting right its answers.
            if row.item_id in texts and not row.detail.startswith("no answer is left"):
                why = row.detail.removesuffix(f": {texts[row.item_id][:300]!r}")
                reply = "/a" in row.item_id.removeprefix(dialogue.id)
                allowed = f"{_ALLOWED.get(row.code, 'what the rules allow')}{'; or null' if reply else ''}"
                found.append(
                    Fault(draft.paths[row.item_id], row.code, texts[row.item_id], f"{allowed} ({why})")
                )
    return found


def _rejection(video_id: str, item: str, fault: Fault) -> Rejection:
    """The row for what a fault takes away: the answer or question that holds it."""
    steps = fault.path.split("/")
    depth = {"answers": 5, "immediate": 4}.get("".join(steps[3:4]), 3)
    detail = repr(fault.text[:300]) + (f"; allowed: {fault.allowed}" if fault.allowed else "")
    return Rejection("synthesize", video_id, item + "/".join(steps[:depth]), fault.code, detail)


def _distinct(dialogues: list[Dialogue]) -> tuple[list[Dialogue], list[Rejection]]:
    """Of 1QnA dialogues that ask the same, the first. Requests made apart do not know of each other."""
    kept: dict[str, Dialogue] = {}
    rejected = []
    for dialogue in dialogues:
        text = dialogue.questions[0].text
        if kept.setdefault(normalised(text), dialogue) is not dialogue:
            rejected.append(
                Rejection(
                    "synthesize", dialogue.video_id, dialogue.id, "near_duplicate_question", repr(text[:300])
                )
            )
    return list(kept.values()), rejected
