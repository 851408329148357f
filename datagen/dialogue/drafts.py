"""A model's draft of dialogues becomes records; what cannot become one is named as a fault.

The model cites stretches by marks (s1, s2, ...) and knows no times; all times are derived here. A question
asked at the START is asked at 0, one asked after a stretch at its end. A reply is welcome during its stretch.
An immediate one is welcome from the question on, until the next stretch has ended, or is half over where it
has a reply of its own; that reply is then welcome in the other half.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from msgspec.structs import replace

from datagen.config import SILENT_KINDS
from datagen.dialogue.lexicon import ROLE
from datagen.dialogue.notes import Notes
from datagen.llm.kinds import WAITING_KINDS
from datagen.llm.repair import Fault
from datagen.llm.text import count_words, normalised
from datagen.records import NO_REPLY, Answer, Call, Dialogue, Question, dialogue_id

START = "START"
QUESTION_WORDS = (4, 25)
LEAST_REPLY_WORDS = 3
_SECOND_KINDS = ("follow_up", "stop")
"""Questions that mean nothing unless another one has been asked."""
_LEAK_SHARE = 0.5
"""Share of a question's words that come up only after the segment in which it is asked."""


class Limits(NamedTuple):
    """What was asked for."""

    questions: int
    reply_words: int
    immediate_words: int


class Draft(NamedTuple):
    """What became of a model's reply."""

    dialogues: tuple[Dialogue, ...]
    """Each with at least one question that has answers, or is meant to have none."""
    items: dict[str, tuple[str, str]]
    """By the id that check_dialogue gives a question or answer: its place in the reply, and its text."""
    faults: tuple[Fault, ...]
    """By the paths: of answers, of questions, of the whole."""


CallsOf = Callable[[str], tuple[Call, ...]]
"""The calls that a text comes from, by its place in the reply."""
_Asked = tuple[Question, list[str]]
"""A question, and the places in the reply of its text and of those of its answers."""


class _Placed(NamedTuple):
    """An answer, the number of the segment it belongs to and its place in the reply."""

    answer: Answer
    place: int
    path: str


class Source(NamedTuple):
    """What drafts are made of beside replies, and what their dialogues say of themselves."""

    notes: Notes
    limits: Limits
    video_id: str
    provenance: str
    calls_of: CallsOf


def draft_one(value: Any, source: Source) -> Draft:
    """1QnA: a dialogue of its own for each question, all asked at 0."""
    drafting = _Drafting(source)
    for number, item in enumerate(drafting.wanted(value["dialogues"], "/dialogues")):
        drafting.question(item, f"/dialogues/{number}", -1, len(source.notes.segments))
    return drafting.result([[asked] for asked in drafting.asked], "1QnA")


def draft_n(value: Any, source: Source) -> Draft:
    """nQnA: one dialogue of all questions, in order of asking."""
    drafting = _Drafting(source)
    items = drafting.wanted(value["questions"], "/questions")
    places = drafting.places([item["ask_after"] for item in items])
    order = sorted(places, key=lambda number: places[number])
    for number, following in zip(order, [*order, None][1:], strict=True):
        # The stretch after which the next question is asked ends on that question's turn: nobody answers it.
        stop = len(source.notes.segments) if following is None else places[following]
        drafting.question(items[number], f"/questions/{number}", places[number], stop)
    return drafting.result([drafting.asked] if drafting.asked else [], "nQnA")


class _Drafting:
    """The questions made so far and the faults found."""

    def __init__(self, source: Source):
        self.source = source
        self.notes = source.notes
        self.limits = source.limits
        self.asked: list[_Asked] = []
        self.faults: list[Fault] = []
        self._known: set[str] = set()

    def fault(self, path: str, code: str, text: str, allowed: str = "") -> None:
        """Note what is wrong."""
        self.faults.append(Fault(path, code, text, allowed))

    def wanted(self, items: Sequence[Any], path: str) -> Sequence[Any]:
        """As many questions as were asked for."""
        most = self.limits.questions
        for number, item in enumerate(items[most:], most):
            detail = f"question {number + 1} of {most} asked for: {item['question']}"
            self.fault(f"{path}/{number}", "format", detail)
        return items[:most]

    def places(self, marks: Sequence[str]) -> dict[int, int]:
        """After which segment each question is asked (-1: at the start), those that can be."""
        free = dict(zip((START, *self.notes.marks[:-1]), range(-1, len(self.notes.marks) - 1), strict=False))
        found: dict[int, int] = {}
        for number, mark in enumerate(marks):
            if mark in free:
                found[number] = free.pop(mark)
        for number, mark in enumerate(marks):
            if number not in found:
                code = "unanswerable" if mark != START and self.notes.place(mark) is None else "asked_after"
                allowed = f"where no other question is asked: {', '.join(list(free)[:60])}" if free else ""
                self.fault(f"/questions/{number}/ask_after", code, mark, allowed)
        return found

    def question(self, item: Any, path: str, place: int, stop: int) -> None:
        """Make a question of one item of the reply; it is asked after segment `place` and over at `stop`."""
        text = one_line(item["question"])
        kind, immediate = item["type"], item.get("immediate")
        sound = self._is_question(text, kind, place, f"{path}/question")
        if kind in _SECOND_KINDS and not self.asked:
            self.fault(f"{path}/type", "ambiguous_reference", kind, "a type that needs no question before it")
            return
        given = [*item["answers"], *([immediate] if immediate else [])]
        if kind in SILENT_KINDS and any(spoken(one["reply"]) for one in given):
            self.fault(f"{path}/type", "unanswerable", kind, "a type whose questions have replies")
            return
        answers = self._answers(item["answers"], path, place + 1, stop)
        first = self._immediate(immediate, f"{path}/immediate", place) if immediate else None
        if first:
            answers = self._after(first, place + 1, answers)
        if not answers and kind not in SILENT_KINDS:
            self.fault(path, "unanswerable", f"no answer is left: {text}")
        elif sound:
            time = self.notes.segments[place].end if place >= 0 else 0.0
            paths, calls_of = [f"{path}/question", *(placed.path for placed in answers)], self.source.calls_of
            made = tuple(replace(placed.answer, calls=calls_of(placed.path)) for placed in answers)
            calls = calls_of(paths[0])
            question = Question(text=text, ask_time=time, kind=kind, answers=made, calls=calls)
            self.asked.append((question, paths))

    def _is_question(self, text: str, kind: str, place: int, path: str) -> bool:
        low, high = QUESTION_WORDS
        count = count_words(text)
        # The stretch that begins as it is asked is before the viewer's eyes.
        later, words = self.notes.known_later(text, place + 1)
        if not low <= count <= high:
            self.fault(path, "format", text, f"{low} to {high} words, not {count}")
        elif normalised(text) in self._known:
            self.fault(path, "near_duplicate_question", text, "a question unlike the others")
        elif self.notes.voices_mark(text):
            self.fault(path, "caption_speak", text, "the same without any id")
        elif kind not in WAITING_KINDS and later and len(later) >= _LEAK_SHARE * words:
            allowed = f"words known when it is asked; not: {', '.join(later)}"
            self.fault(path, "future_leak_question", text, allowed)
        else:
            self._known.add(normalised(text))
            return True
        return False

    def _answers(self, items: Any, path: str, start: int, stop: int) -> list[_Placed]:
        """The answers on segments number `start` to before `stop`, in order of time."""
        found: dict[int, _Placed] = {}
        for number, item in enumerate(items):
            text, own = spoken(item["reply"]), f"{path}/answers/{number}"
            if not text:
                continue
            mark, place = item["segment"], self.notes.place(item["segment"])
            if place is None:
                free = self.notes.listed(p for p in range(start, stop) if p not in found)
                self.fault(f"{own}/segment", "unanswerable", mark, f"one of: {free}" if free else "")
            elif place < start:
                self.fault(f"{own}/reply", "asked_after", text, f"null: {mark} was over when it was asked")
            elif place >= stop:
                self.fault(f"{own}/reply", "overlap", text, f"null: on {mark} the next question takes over")
            elif place in found:
                self.fault(f"{own}/reply", "overlap", text, f"null: {mark} has a reply already")
            elif self._is_copied(item["evidence"], place, f"{own}/evidence") and self._is_reply(
                text, f"{own}/reply", self.limits.reply_words
            ):
                answer = self._answer(text, item["evidence"], [place])
                found[place] = _Placed(answer, place, f"{own}/reply")
        return [found[place] for place in sorted(found)]

    def _immediate(self, item: Any, path: str, place: int) -> _Placed | None:
        """The answer given at once, from segments up to number `place`."""
        text = spoken(item["reply"])
        if not text:
            return None
        if place < 0:
            self.fault(f"{path}/reply", "asked_after", text, "null: nothing has been shown yet")
            return None
        cited = [self.notes.place(mark) for mark in item["from"]]
        known = sorted({p for p in cited if p is not None and p <= place})
        if not cited or any(p is None or p > place for p in cited):
            code = "unanswerable" if not cited or None in cited else "asked_after"
            allowed = f"one or more of: {self.notes.listed(range(place + 1))}"
            self.fault(f"{path}/from", code, ", ".join(item["from"]) or "nothing", allowed)
            return None
        if not self._is_reply(text, f"{path}/reply", self.limits.immediate_words):
            return None
        start, end = self.notes.segments[place].end, self.notes.segments[place + 1].end
        answer = replace(self._answer(text, [text], known), reply_start=start, reply_end=end, immediate=True)
        return _Placed(answer, place, f"{path}/reply")

    def _after(self, first: _Placed, following: int, answers: list[_Placed]) -> list[_Placed]:
        """An immediate answer and the others; one on the very next segment waits until half of it is over."""
        if not answers or answers[0].place != following:
            return [first, *answers]
        segment = self.notes.segments[following]
        half = round((segment.start + segment.end) / 2, 3)
        first = first._replace(answer=replace(first.answer, reply_end=half))
        second = answers[0]._replace(answer=replace(answers[0].answer, reply_start=half))
        return [first, second, *answers[1:]]

    def _answer(self, text: str, evidence: Sequence[str], places: Sequence[int]) -> Answer:
        cited = [self.notes.segments[place] for place in places]
        return Answer(
            text=text,
            evidence=tuple(segment.id for segment in cited),
            evidence_start=cited[0].start,
            evidence_end=cited[-1].end,
            reply_start=cited[-1].start,
            reply_end=cited[-1].end,
            modality=self.notes.modality(evidence, places),
        )

    def _is_copied(self, phrases: Sequence[str], place: int, path: str) -> bool:
        wrong = [phrase for phrase in phrases if not self.notes.is_copied(phrase, place)]
        if phrases and not wrong:
            return True
        allowed = f"phrases copied word by word from the notes on {self.notes.marks[place]}"
        self.fault(path, "unanswerable", "; ".join(wrong) or "no evidence", allowed)
        return False

    def _is_reply(self, text: str, path: str, most: int) -> bool:
        count = count_words(text)
        if not min(LEAST_REPLY_WORDS, most) <= count <= most:
            allowed = f"{LEAST_REPLY_WORDS} to {most} words, not {count}; or null"
            self.fault(path, "format", text, allowed)
        elif self.notes.voices_mark(text):
            self.fault(path, "caption_speak", text, "the same without any id, or null")
        else:
            return True
        return False

    def result(self, groups: Sequence[Sequence[_Asked]], kind: Literal["1QnA", "nQnA"]) -> Draft:
        """A dialogue for each group of questions."""
        dialogues: list[Dialogue] = []
        items: dict[str, tuple[str, str]] = {}
        video_id, by = self.source.video_id, self.source.provenance
        for group in groups:
            asked = tuple(question for question, _ in group)
            id = dialogue_id(video_id, asked)
            dialogues.append(Dialogue(id=id, video_id=video_id, type=kind, questions=asked, provenance=by))
            for q, (question, (path, *paths)) in enumerate(group):
                items[f"{id}/q{q}"] = path, question.text
                for a, (answer, own) in enumerate(zip(question.answers, paths, strict=True)):
                    items[f"{id}/q{q}/a{a}"] = own, answer.text
        return Draft(tuple(dialogues), items, tuple(self.faults))


def spoken(reply: str | None) -> str:
    """A reply as one line; empty where the model is silent, in whichever way it says so."""
    text = one_line(reply or "")
    return "" if text.strip("\"'.").upper() == NO_REPLY else text


def one_line(text: str) -> str:
    """Text as one line; but a role at the start of a line stays there, where the checks find it."""
    return text if ROLE.search(text) else " ".join(text.split())
