"""Dialogues by a language model, from the captions of a video.

The model is asked for a draft; what is wrong with it, by its form or by the checks, goes back for repair.
What is still wrong in form is dropped here, each with a rejection; the rest is left to check_dialogue.
"""

from functools import partial
from typing import Any

from msgspec.structs import replace

from datagen.config import CheckOptions, DialogueOptions
from datagen.dialogue.checks import DEFAULTS
from datagen.dialogue.incremental import write_incrementally
from datagen.dialogue.job import Job, question_count, question_types, rejection, unsound
from datagen.dialogue.notes import Notes
from datagen.errors import Invalid, Refused
from datagen.llm.prompts import load_prompt, make_request
from datagen.llm.repair import Ask, Fault, all_calls, all_of, ask_traced, calls_at, lost
from datagen.llm.text import normalised
from datagen.llm.wordings import fraction
from datagen.records import Caption, Dialogue, Rejection, Segment, Video

_MOST_ENTRIES = 120
"""Entries (questions times segments) that one request asks for: more would not fit into a reply."""
_TOKENS_PER_ENTRY = 80
_MOST_TOKENS = 16_000


async def synthesize(
    video: Video,
    segments: tuple[Segment, ...],
    captions: tuple[Caption, ...],
    options: DialogueOptions,
    seed: int,
    ask: Ask,
    model: str,
    checks: CheckOptions = DEFAULTS,
) -> tuple[tuple[Dialogue, ...], tuple[Rejection, ...]]:
    """The dialogues of a video: several 1QnA, or one nQnA; where there is none, rejections say why.

    They are sound in form and have yet to go through check_dialogue. Raises Provider.
    """
    notes = Notes(segments, captions)
    if not notes.is_known():
        detail = f"nothing is known of its {len(segments)} segments"
        return (), (Rejection("synthesize", video.id, video.id, "Rejected", detail),)
    one = options.type == "1qna" or (options.type == "mixed" and fraction(seed, video.id, "type") < 0.5)
    job = Job(video.id, notes, one, options, checks, seed, ask, model)
    types = question_types(job, question_count(segments, options))
    if not types:
        detail = f"no question of dialogue.shapes ({', '.join(options.shapes)}) can be asked at the start"
        return (), (Rejection("synthesize", video.id, video.id, "Rejected", detail),)
    if options.writing == "incremental":
        results = [await write_incrementally(job, types)]
    else:
        # 1QnA has an entry for each question and segment: a long video is asked about in parts.
        most = max(1, _MOST_ENTRIES // len(segments)) if one else len(types)
        parts = [types[start : start + most] for start in range(0, len(types), most)]
        results = await all_of([_at_once(job, number, part) for number, part in enumerate(parts)])
    kept, doubles = _distinct([dialogue for made, _ in results for dialogue in made])
    return tuple(kept), (*(row for _, rows in results for row in rows), *doubles)


async def _at_once(job: Job, number: int, types: list[str]) -> tuple[tuple[Dialogue, ...], list[Rejection]]:
    """What one request gives. Its items are known by the request's number and their place in the reply."""
    prompt = load_prompt("one_qna" if job.one else "n_qna")
    limits = job.limits(len(types))
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
    draft = partial(job.draft, questions=len(types), provenance=f"{job.model}:{prompt.id}")

    def check(value: Any) -> list[Fault]:
        drafted = draft(value)
        return [f for f in drafted.faults if f.allowed] + unsound(drafted, job)

    item = f"{job.video_id}/{prompt.name}.{number}"
    try:
        value, _, trace = await ask_traced(request, check, job.ask)
    except (Invalid, Refused) as failure:
        return (), [lost("synthesize", job.video_id, item, failure)]
    calls_of = partial(calls_at, trace)
    made = draft(value, calls_of=calls_of)
    rejected = [rejection(job.video_id, item, fault, calls_of(fault.path)) for fault in made.faults]
    if not made.dialogues:
        detail = f"no question is left of {len(types)} asked for"
        row = Rejection("synthesize", job.video_id, item, "unanswerable", detail, all_calls(trace))
        rejected.append(row)
    return made.dialogues, rejected


def _distinct(dialogues: list[Dialogue]) -> tuple[list[Dialogue], list[Rejection]]:
    """Of 1QnA dialogues that ask the same, the first. Requests made apart do not know of each other."""
    kept: dict[str, Dialogue] = {}
    rejected = []
    for dialogue in dialogues:
        first = dialogue.questions[0]
        if kept.setdefault(normalised(first.text), dialogue) is not dialogue:
            item, code, detail = dialogue.id, "near_duplicate_question", repr(first.text[:300])
            rejected.append(Rejection("synthesize", dialogue.video_id, item, code, detail, first.calls))
    return list(kept.values()), rejected
