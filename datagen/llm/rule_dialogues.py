"""Dialogues without a model. They say only what was annotated, said or measured, when that has been shown.

1QnA: one question at the start ("describe each step as it happens"), an answer where there is something new.
nQnA: questions one after the other. The first narrates or waits for something; a later one, asked in the
middle of a segment, waits for something ("tell me when ...") or asks what has been so far. What has ended by
then is answered at once. The segment in which it is asked is answered by nobody, and so a question is not
asked in a segment in which what it waits for comes up.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Literal, NamedTuple

import msgspec

from datagen.config import DialogueOptions
from datagen.llm.rule_captions import describe, share_out
from datagen.llm.rule_topics import Line, Topic, find_topics, lines_of, never
from datagen.llm.text import as_sentence, count_words, fit, normalised
from datagen.llm.wordings import fraction, say
from datagen.records import Answer, Caption, Dialogue, Narration, Question, Rejection, Segment, Video

_NEVER_SHARE = 1 / 8
"""Share of the videos in which one question waits for something that never comes."""
_RECALL_SHARE = 1 / 4
"""Share of the later questions that ask what has been so far, although something could be waited for."""


class _Material(NamedTuple):
    """All that the questions of one video are made of."""

    segments: tuple[Segment, ...]
    lines: list[Line]
    """Sentences that narrate the video: written ones if there are any, else speech, else measured ones."""
    kind: str
    """step, narration, speech or pixels: what these are."""
    max_words: int
    key: tuple[object, ...]
    """What the choices of this video are drawn from."""
    video_id: str
    rejected: list[Rejection]


def rule_dialogues(
    video: Video,
    segments: tuple[Segment, ...],
    captions: tuple[Caption, ...],
    narrations: tuple[Narration, ...],
    options: DialogueOptions,
    seed: int,
) -> tuple[tuple[Dialogue, ...], tuple[Rejection, ...]]:
    """At most one dialogue; where there is none, a rejection says why."""
    key = (seed, video.id)
    shared, lost = share_out(segments, narrations)
    written = lines_of(shared)
    material = _material(segments, captions, written, narrations, options, key, video.id)
    one = options.type == "1qna" or (options.type == "mixed" and fraction(*key, "type") < 0.5)
    kind: Literal["1QnA", "nQnA"] = "1QnA" if one else "nQnA"
    if one:
        question = _narrate(material, len(segments))
        questions = [question] if question else []
        least = 1
    else:
        mistakes = [i for i, own in enumerate(shared) if any(n.mistake for n in own)]
        topics = find_topics(written, lost, mistakes, captions, *key)
        absent = never([*written, *lines_of([lost])], captions, *key)
        questions = _sequence(material, topics, absent, options)
        least = options.min_questions
    answers = sum(len(question.answers) for question in questions)
    if len(questions) < least or not answers:
        detail = (
            f"too little material for {kind}: {len(segments)} segments with {len(material.lines)} sentences "
            f"gave {len(questions)} questions with {answers} answers, and {least} questions are needed"
        )
        return (), (*material.rejected, Rejection("synthesize", video.id, video.id, "Rejected", detail))
    digest = blake2b(msgspec.json.encode(questions), digest_size=4).hexdigest()
    dialogue = Dialogue(
        id=f"{video.id}#{digest}",
        video_id=video.id,
        type=kind,
        questions=tuple(questions),
        provenance="rule",
    )
    return (dialogue,), tuple(material.rejected)


def _material(
    segments: tuple[Segment, ...],
    captions: tuple[Caption, ...],
    written: list[Line],
    narrations: tuple[Narration, ...],
    options: DialogueOptions,
    key: tuple[object, ...],
    video_id: str,
) -> _Material:
    visual = [line for line in written if line.modality == "visual"]
    steps = [n.kind == "step" for n in narrations if n.modality == "visual"]
    if visual:
        lines, kind = visual, "step" if 2 * sum(steps) > len(steps) else "narration"
    elif written:
        lines, kind = written, "speech"
    else:
        lines, kind = _measured_news(captions), "pixels"
    return _Material(segments, lines, kind, options.max_reply_words, key, video_id, [])


def _measured_news(captions: Sequence[Caption]) -> list[Line]:
    """What the measures say, without what is still as it was told last."""
    told: dict[str, str] = {}
    lines = []
    for place, caption in enumerate(captions):
        for about, text in describe(caption.traits, caption.segment_id):
            names = ("light", "colour") if about == "look" else (about,)
            state = {name: caption.traits.get(name, "") for name in names}
            if about == "view" or any(told.get(name) != value for name, value in state.items()):
                lines.append(Line(place, text, float("inf")))
            told |= {name: value.split(" to ")[-1] for name, value in state.items()}
    return lines


def _narrate(material: _Material, stop: int) -> Question | None:
    """Asked at the start: an answer for each segment before number `stop` that has something new."""
    told: set[str] = set()
    answers = []
    for place, lines in _by_segment(material.lines):
        if place >= stop:
            break
        new = [line for line in _distinct(lines) if normalised(line.text) not in told]
        if material.kind == "pixels":
            new = lines
        told |= {normalised(line.text) for line in new}
        wording = "said" if material.kind == "speech" else None
        answers += _answer(material, place, new, wording) if new else []
    if not answers:
        return None
    kind = "state_change" if material.kind == "pixels" else "narrate"
    return _ask(material, -1, f"narrate_{material.kind}", "", kind, tuple(answers))


def _sequence(
    material: _Material, topics: list[Topic], absent: tuple[str, str] | None, options: DialogueOptions
) -> list[Question]:
    """The questions of an nQnA dialogue, each active until the next is asked."""
    places = _ask_places(material.segments, topics, options)
    questions: list[Question] = []
    used: set[str] = set()
    recalled = False
    stop = len(material.segments)
    # From the last to the first: a question has to know when the next one takes over.
    for number, place in reversed(list(enumerate(places))):
        key = (*material.key, number)
        chance = fraction(*key, "kind")
        question = None
        if number == 0 and chance < 0.5:
            question = _narrate(material, stop)
        elif number > 0 and absent and not questions and fraction(*material.key, "never") < _NEVER_SHARE:
            question = _ask(material, place, *absent, "never", ())
        elif number > 0 and chance < _RECALL_SHARE and not recalled:
            question = _recall(material, place)
        topic = None if question else _choose(topics, place, stop, used, key)
        if topic:
            used.add(topic.id)
            question = _detect(material, topic, place, stop)
        if not question and number == 0:
            question = _narrate(material, stop)
        elif not question and not recalled:
            question = _recall(material, place)
        if question:
            recalled = recalled or question.kind == "recall"
            questions.insert(0, question)
            stop = place
    return questions


def _ask_places(segments: Sequence[Segment], topics: list[Topic], options: DialogueOptions) -> list[int]:
    """Numbers of the segments in which questions are asked, spread over the video; -1: at its start.

    Near each ideal place a segment is taken with something to tell at once and to wait for, of several the
    longest, which leaves the replies around it most room.
    """

    def rank(i: int) -> tuple[bool, float]:
        both = any(i not in t.blocked and min(t.hits) < i < max(t.hits) for t in topics)
        return both, segments[i].end - segments[i].start

    length = segments[-1].end if segments else 0.0
    count = max(
        options.min_questions, min(options.max_questions, round(length / options.seconds_per_question))
    )
    places = [-1]
    for number in range(1, count):
        ideal = round(number * len(segments) / count)
        near = range(max(ideal - 1, places[-1] + 2, 1), min(ideal + 2, len(segments)))
        if near:
            places.append(max(near, key=rank))
    return places


def _choose(
    topics: list[Topic], place: int, stop: int, used: set[str], key: tuple[object, ...]
) -> Topic | None:
    """A topic that comes up while the question is active; if there is any, one that also came up before.

    Such a question shows both what is answered at once and what is waited for.
    """

    def rank(topic: Topic) -> tuple[bool, float]:
        return not any(i < place for i in topic.hits), fraction(*key, topic.id)

    # Neither may it come up in the segments in which this question and the next one are asked.
    fitting = [
        topic
        for topic in topics
        if topic.id not in used and place not in topic.blocked and stop not in topic.hits
        if any(place < i < stop for i in topic.hits)
    ]
    return min(fitting, key=rank, default=None)


def _detect(material: _Material, topic: Topic, place: int, stop: int) -> Question | None:
    """A question that waits for a topic, or None if one of its answers cannot be given in so few words."""
    wording = {"detect_mention": "said", "detect_event": "detected", "detect_mistake": "detected_mistake"}
    answers: list[Answer] = []
    past = [line for i in sorted(topic.hits) if i < place for line in topic.hits[i]]
    if past:
        answers += _immediate(
            material, place, past, "said_so_far" if past[0].modality == "audio" else "so_far"
        )
    for i in sorted(topic.hits):
        if place < i < stop:
            given = _answer(material, i, _distinct(topic.hits[i]), wording.get(topic.wording))
            # A question of which one reply is missing would teach silence where it is wrong.
            if not given:
                return None
            answers += given
    return _ask(material, place, topic.wording, topic.value, "detect", tuple(answers))


def _recall(material: _Material, place: int) -> Question | None:
    """What has been so far: answered at once, and then no more."""
    wording = "said_so_far" if material.kind == "speech" else "so_far"
    past = [line for line in material.lines if line.place < place]
    answers = _immediate(material, place, past, wording)
    return _ask(material, place, f"recall_{material.kind}", "", "recall", tuple(answers)) if answers else None


def _ask(
    material: _Material, place: int, wording: str, value: str, kind: str, answers: tuple[Answer, ...]
) -> Question:
    text = say(wording, *material.key, value, x=value)
    return Question(text=text, ask_time=_ask_time(material.segments, place), kind=kind, answers=answers)


def _ask_time(segments: Sequence[Segment], place: int) -> float:
    return 0.0 if place < 0 else round((segments[place].start + segments[place].end) / 2, 3)


def _answer(material: _Material, place: int, lines: Sequence[Line], wording: str | None) -> list[Answer]:
    """The answer that rests on these lines of one segment; a rejection instead if it cannot be cut to fit."""
    segment = material.segments[place]
    text = _reply(material, lines, wording, segment.id)
    if text is None:
        long = " ".join(line.text for line in lines)[:200]
        detail = f"no sentence or clause ends within {material.max_words} words of {long!r}"
        material.rejected.append(Rejection("synthesize", material.video_id, segment.id, "Rejected", detail))
        return []
    return [
        Answer(
            text=text,
            evidence=(segment.id,),
            evidence_start=segment.start,
            evidence_end=min(segment.end, max(line.end for line in lines)),
            reply_start=segment.start,
            reply_end=segment.end,
            modality=lines[0].modality,
        )
    ]


def _immediate(material: _Material, place: int, past: Sequence[Line], wording: str) -> list[Answer]:
    """One answer at ask time that joins what has been shown: the newest that fits, told in order."""
    chosen: list[Line] = []
    for line in _distinct(past[::-1]):
        if _reply(material, [line, *chosen], wording, "whole", cut=False) is None:
            break
        chosen.insert(0, line)
    chosen = chosen or list(past[-1:])
    text = _reply(material, chosen, wording, place) if chosen else None
    if text is None:
        return []
    cited = [material.segments[i] for i in sorted({line.place for line in chosen})]
    ends = [min(material.segments[line.place].end, line.end) for line in chosen]
    asked = material.segments[place]
    return [
        Answer(
            text=text,
            evidence=tuple(segment.id for segment in cited),
            evidence_start=cited[0].start,
            evidence_end=max(ends),
            reply_start=_ask_time(material.segments, place),
            reply_end=asked.end,
            immediate=True,
            modality=chosen[0].modality,
        )
    ]


def _reply(
    material: _Material, lines: Sequence[Line], wording: str | None, key: object, cut: bool = True
) -> str | None:
    """The text of a reply, or None if it does not fit."""
    text = " ".join(line.text for line in lines)
    if wording in ("said", "said_so_far"):
        text = text.replace('"', "'")
    room = material.max_words - (count_words(say(wording, *material.key, key, x="")) if wording else 0)
    if count_words(text) > room and not cut:
        return None
    fitted = fit(text, room) if room > 0 else None
    if fitted is None:
        return None
    return say(wording, *material.key, key, x=fitted) if wording else as_sentence(fitted)


def _distinct(lines: Sequence[Line]) -> list[Line]:
    """Without what says the same as a line before it."""
    found: dict[str, Line] = {}
    for line in lines:
        found.setdefault(normalised(line.text), line)
    return list(found.values())


def _by_segment(lines: Sequence[Line]) -> list[tuple[int, list[Line]]]:
    found: dict[int, list[Line]] = {}
    for line in lines:
        found.setdefault(line.place, []).append(line)
    return sorted(found.items())
