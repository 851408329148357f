"""What is asked of a language model for one video, and what the checks say of its drafts."""

from typing import Any, NamedTuple

from datagen.config import SILENT_KINDS, CheckOptions, DialogueOptions
from datagen.dialogue.checks import check_dialogue
from datagen.dialogue.drafts import CallsOf, Draft, Limits, Source, draft_n, draft_one
from datagen.dialogue.notes import Notes
from datagen.llm.kinds import START_KINDS
from datagen.llm.repair import Ask, Fault
from datagen.llm.wordings import fraction, pick
from datagen.records import Call, Rejection, Segment

_REPLY_WORDS = 40
_IMMEDIATE_WORDS = 50
_SILENT_SHARE = 1 / 8
"""Share of the videos in which one question is to be one that silence answers."""
_ALLOWED = {
    "format": "plain words, of the length asked for",
    "future_leak_answer": "only what is known by the end of the stretch it belongs to",
    "hindsight": "the present tense, with no word on how things go on",
    "caption_speak": "no word on notes, captions, stretches, frames or the video itself",
    "invented_number": "only numbers that stand in its evidence",
    "repeat": "something that earlier replies have not said",
    "unanswerable": "what its evidence says",
    "guessable": "something that the question does not say",
    "heard_not_seen": "what was seen as seen, and what was heard as told: 'She says that ...'",
    "future_leak_question": "only what is known when it is asked",
    "ambiguous_reference": "a question that can be understood by itself",
    "missed_reply": "a question that is answered wherever it can be",
}


class Job(NamedTuple):
    """What all requests for one video share."""

    video_id: str
    notes: Notes
    one: bool
    """1QnA, not nQnA."""
    options: DialogueOptions
    checks: CheckOptions
    seed: int
    ask: Ask
    model: str

    def limits(self, questions: int) -> Limits:
        """Of so many questions, the length of their replies."""
        most = self.options.max_reply_words
        return Limits(questions, min(_REPLY_WORDS, most), min(_IMMEDIATE_WORDS, most))

    def draft(
        self, value: Any, questions: int, provenance: str, calls_of: CallsOf = lambda path: ()
    ) -> Draft:
        """What becomes of a model's reply that was to have so many questions."""
        source = Source(self.notes, self.limits(questions), self.video_id, provenance, calls_of)
        return (draft_one if self.one else draft_n)(value, source)


def question_count(segments: tuple[Segment, ...], options: DialogueOptions) -> int:
    """Number of questions: by length, within the bounds of the options, and no more than can be asked."""
    wanted = round(segments[-1].end / options.seconds_per_question)
    return min(len(segments), max(options.min_questions, min(options.max_questions, wanted)))


def question_types(job: Job, count: int) -> list[str]:
    """The types of question to propose, of those chosen, in an order drawn for the video.

    Empty where none of those chosen can be asked first, or at the start of a video, as in 1QnA.
    """
    key = (job.seed, job.video_id)
    possible = [kind for kind in job.options.shapes if not job.one or kind in START_KINDS]
    spoken = [kind for kind in possible if kind not in SILENT_KINDS]
    silent = [kind for kind in possible if kind in SILENT_KINDS]
    order = sorted(spoken, key=lambda kind: fraction(*key, "type", kind))
    if order[:1] == ["follow_up"]:
        # It follows up another question, so it is not the first.
        order = order[1:2] + order[:1] + order[2:] if len(order) > 1 else []
    types = [str(order[number % len(order)]) for number in range(count)] if order else []
    if silent and len(types) > 1 and fraction(*key, "silent") < _SILENT_SHARE:
        types[-1] = pick(silent, *key, "which")
    return types


def unsound(draft: Draft, job: Job) -> list[Fault]:
    """What check_dialogue finds in a draft, at its place in the reply."""
    notes, most = job.notes, job.options.max_reply_words
    captions = tuple(caption for caption in notes.captions if caption)
    found = []
    for dialogue in draft.dialogues:
        _, rows = check_dialogue(dialogue, notes.segments, captions, most, job.checks)
        for row in rows:
            # A question or dialogue of which nothing is left is put right by putting right its answers.
            if row.item_id in draft.items and not row.detail.startswith("no answer is left"):
                path, text = draft.items[row.item_id]
                why = row.detail.removesuffix(f": {text[:300]!r}")
                reply = "/a" in row.item_id.removeprefix(dialogue.id)
                allowed = f"{_ALLOWED.get(row.code, 'what the rules allow')}{'; or null' if reply else ''}"
                found.append(Fault(path, row.code, text, f"{allowed} ({why})"))
    return found


def rejection(video_id: str, item: str, fault: Fault, calls: tuple[Call, ...]) -> Rejection:
    """The row for what a fault takes away, the answer or question that holds it, with its calls."""
    steps = fault.path.split("/")
    depth = {"answers": 5, "immediate": 4}.get("".join(steps[3:4]), 3)
    detail = repr(fault.text[:300]) + (f"; allowed: {fault.allowed}" if fault.allowed else "")
    return Rejection("synthesize", video_id, item + "/".join(steps[:depth]), fault.code, detail, calls)
