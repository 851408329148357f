"""Checks of dialogues that need no model. The codes are the failure modes of the design notes; they never
change. Each is found deterministically; all of them together take a few milliseconds a dialogue:

| code | goes | when |
|---|---|---|
| format | reply, question | empty, silence spelt out, roles, JSON, chat tokens, labels, a refusal, too long |
| span_width | reply, question | a span without length, outside the video, or too wide; an ask time outside |
| unanswerable | reply | no evidence, or too few of its words in it, or a name that nobody gave |
| unanswerable | question, dialogue | nothing is left of it |
| asked_after | reply | asked when its time has begun; immediate, on what has not ended by then |
| overlap | reply, question | two replies or questions at once; a reply after the next question was asked |
| future_leak_answer | reply | names, numbers or too many words that are known only later |
| future_leak_question | question | the same at ask time, unless it waits for what it names |
| hindsight | reply | speaks as one who knows how it goes on |
| caption_speak | reply, question | speaks of the notes, ids or the video as a video |
| invented_number | reply | a number that the evidence does not give |
| repeat | reply | says again what was said, whole, in part or joined, with no news from its evidence |
| guessable | reply | says nothing that the question does not say |
| heard_not_seen | reply | labelled as seen but only heard, or as heard where nobody spoke |
| ambiguous_reference | question | the first one, with a pronoun that stands for nothing said or in sight |
| missed_reply | question | waits for something that comes without a reply: it would teach a wrong silence |

All of them reject, none only remarks: what stays is what passed. A reply goes alone. A question takes its
replies with it, each with a row of its own. What needs the frame interval (no turn in a reply span, two
replies on a turn) is found by the grid under the same codes; what needs the whole dataset (guessable and
near-duplicate questions across videos, silence_balance, position_bias) by the export.
"""

import math
from functools import cache

from msgspec.structs import replace

from datagen.config import SILENT_KINDS, CheckOptions
from datagen.dialogue.check_answers import ANSWER_CHECKS, Case, Said, said
from datagen.dialogue.check_questions import QUESTION_CHECKS, AskedCase, missed_reply
from datagen.dialogue.evidence import Evidence
from datagen.llm.text import stem, stems
from datagen.llm.wordings import wording_words
from datagen.records import Answer, Caption, Dialogue, Question, Rejection, Segment

CODES = tuple(dict.fromkeys([*dict(ANSWER_CHECKS), *dict(QUESTION_CHECKS), "missed_reply"]))
"""Every code that these checks give."""
DEFAULTS = CheckOptions()
"""The thresholds of the pipelines that come with datagen."""


def check_dialogue(
    dialogue: Dialogue,
    segments: tuple[Segment, ...],
    captions: tuple[Caption, ...],
    max_reply_words: int,
    options: CheckOptions = DEFAULTS,
) -> tuple[Dialogue | None, tuple[Rejection, ...]]:
    """The dialogue without what fails a check, and a row for each answer, question or dialogue that failed.

    A question goes when no answer is left of it, unless it was meant to have none; a dialogue goes with its
    last question. The first code that fits is the one that something is rejected with.
    """
    checking = _Checking(dialogue, Evidence(segments, captions), max_reply_words, options)
    for number in range(len(dialogue.questions)):
        checking.question(number)
    kept = checking.without_missed()
    if not kept:
        checking.reject(dialogue.id, "unanswerable", f"no question is left of {len(dialogue.questions)}")
        return None, tuple(checking.rejected)
    return replace(dialogue, questions=kept), tuple(checking.rejected)


class _Checking:
    """A dialogue under test: what is kept so far, what has been said in it, and what is rejected."""

    def __init__(self, dialogue: Dialogue, evidence: Evidence, max_reply_words: int, options: CheckOptions):
        self.dialogue = dialogue
        self.evidence = evidence
        self.max_reply_words = max_reply_words
        self.options = options
        self.wordings = _wording_stems() if dialogue.provenance == "rule" else frozenset[str]()
        self.kept: dict[int, Question] = {}
        self.earlier: list[Said] = []
        self.said_pairs: set[tuple[str, ...]] = set()
        self.told = self.wordings
        self.rejected: list[Rejection] = []

    def reject(self, item: str, code: str, detail: str) -> None:
        """Note what is turned away."""
        self.rejected.append(Rejection("verify", self.dialogue.video_id, item, code, detail))

    def question(self, number: int) -> None:
        """Keep what is sound of a question."""
        question = self.dialogue.questions[number]
        item = f"{self.dialogue.id}/q{number}"
        case = AskedCase(question, tuple(self.kept.values()), self.evidence, self.wordings, self.options)
        for code, check in QUESTION_CHECKS:
            if (detail := check(case)) is not None:
                self._reject_question(number, code, detail)
                return
        self.told |= frozenset(stems(question.text))
        answers = self._answers(number, item)
        if answers or question.kind in SILENT_KINDS:
            self.kept[number] = replace(question, answers=answers)
        else:
            detail = f"no answer is left of {len(question.answers)}: {question.text[:300]!r}"
            self.reject(item, "unanswerable", detail)

    def _reject_question(self, number: int, code: str, why: str) -> None:
        question = self.dialogue.questions[number]
        answers = self.kept.get(number, question).answers
        item = f"{self.dialogue.id}/q{number}"
        self.reject(item, code, f"{why}: {question.text[:300]!r}")
        for place, answer in enumerate(question.answers):
            if answer in answers:
                detail = f"no answer is left of a question that goes: {answer.text[:300]!r}"
                self.reject(f"{item}/a{place}", code, detail)

    def _answers(self, number: int, item: str) -> tuple[Answer, ...]:
        question = self.dialogue.questions[number]
        later = (q.ask_time for q in self.dialogue.questions[number + 1 :] if q.ask_time > question.ask_time)
        following = min(later, default=math.inf)
        kept: list[Answer] = []
        tally = 0
        for place, answer in enumerate(question.answers):
            tally += max(1, len(answer.evidence)) if answer.immediate else 1
            places = self.evidence.cited(answer)
            case = Case(
                answer=answer,
                question=question,
                next_ask=following,
                previous_end=kept[-1].reply_end if kept else 0.0,
                tally=tally,
                earlier=self.earlier,
                said_pairs=self.said_pairs,
                wordings=self.wordings,
                told=self.told,
                evidence=self.evidence,
                max_reply_words=self.max_reply_words,
                options=self.options,
                places=places,
                text=self.evidence.text(places),
            )
            for code, check in ANSWER_CHECKS:
                if (detail := check(case)) is not None:
                    self.reject(f"{item}/a{place}", code, f"{detail}: {answer.text[:300]!r}")
                    break
            else:
                kept.append(answer)
                self.earlier.append(said(answer.text))
                self.said_pairs |= self.earlier[-1].pairs
        return tuple(kept)

    def without_missed(self) -> tuple[Question, ...]:
        """The questions kept, without those that wait for something and miss it."""
        kept: list[Question] = []
        stop = math.inf
        # From the last to the first: when a question goes, the one before it is active for longer.
        for number in sorted(self.kept, reverse=True):
            question = self.kept[number]
            if detail := missed_reply(question, stop, self.evidence, self.wordings):
                self._reject_question(number, "missed_reply", detail)
            else:
                kept.insert(0, question)
                stop = question.ask_time
        return tuple(kept)


@cache
def _wording_stems() -> frozenset[str]:
    return frozenset(stem(word) for word in wording_words())
