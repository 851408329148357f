"""Dialogues without a model. They say only what was annotated, said or measured, when that has been shown.

1QnA: one question at the start ("describe each step as it happens"), an answer where there is something new.
In some videos a second dialogue asks for what never comes, so that silence depends on the question, not on
the video. nQnA: questions one after the other. The first narrates or waits for something; a later one, asked
in the middle of a segment, waits for something ("tell me when ...", "count ..."), asks what has been so far,
or wants silence. What has ended by then is answered at once. The segment in which it is asked is answered by
nobody, and so a question is not asked in a segment in which what it waits for comes up.

Shapes that cannot be told true without a model (monitor, realtime, follow_up) are not made here.
"""

from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import Literal

from datagen.config import DialogueOptions
from datagen.llm.rule_answers import (
    Absent,
    Material,
    distinct,
    make_answers,
    make_immediate,
    make_question,
    make_silence,
    make_swap,
    silent_number,
)
from datagen.llm.rule_captions import describe, share_out
from datagen.llm.rule_topics import Line, Topic, find_topics, lines_of, never
from datagen.llm.text import normalised
from datagen.llm.wordings import fraction
from datagen.records import (
    Caption,
    Dialogue,
    Narration,
    Question,
    Rejection,
    Segment,
    Video,
    dialogue_id,
)

_RECALL_SHARE = 1 / 4
"""Share of the later questions that ask what has been so far, although something could be waited for."""
_COUNT_SHARE = 1 / 2
"""Share of the questions waiting for what comes repeatedly that want it counted."""
_REPLIES = {"detect_mention": "said", "detect_event": "detected", "detect_mistake": "detected_mistake"}
"""Wordings of replies by those of questions."""


def rule_dialogues(
    video: Video,
    segments: tuple[Segment, ...],
    captions: tuple[Caption, ...],
    narrations: tuple[Narration, ...],
    options: DialogueOptions,
    seed: int,
) -> tuple[tuple[Dialogue, ...], tuple[Rejection, ...]]:
    """One dialogue, or two 1QnA; where there is none, a rejection says why."""
    key = (seed, video.id)
    shared, lost = share_out(segments, narrations)
    written = lines_of(shared)
    lines, about = _told(written, narrations, captions)
    material = Material(
        segments, lines, about, frozenset(options.shapes), options.max_reply_words, key, video.id, []
    )
    absent = never([*written, *lines_of([lost])], captions, *key)
    one = options.type == "1qna" or (options.type == "mixed" and fraction(*key, "type") < 0.5)
    mistakes = [i for i, own in enumerate(shared) if any(n.mistake for n in own)]
    topics = _wanted(find_topics(written, lost, mistakes, captions, *key), material)
    if one:
        question = _narrate(material, len(segments)) or _wait(material, topics, -1, len(segments), set(), key)
        questions = [question] if question else []
        least = 1
    else:
        questions = _sequence(material, topics, absent, options)
        least = options.min_questions
    kind: Literal["1QnA", "nQnA"] = "1QnA" if one else "nQnA"
    answers = sum(len(question.answers) for question in questions)
    if len(questions) < least or not answers:
        detail = (
            f"too little material for {kind}: {len(segments)} segments with {len(material.lines)} sentences "
            f"gave {len(questions)} questions with {answers} answers, and {least} questions are needed"
        )
        return (), (*material.rejected, Rejection("synthesize", video.id, video.id, "Rejected", detail))
    made = [_dialogue(video, kind, questions)]
    if one and (swapped := make_swap(material, absent)):
        made.append(_dialogue(video, kind, [swapped]))
    return tuple(made), tuple(material.rejected)


def _dialogue(video: Video, kind: Literal["1QnA", "nQnA"], questions: Sequence[Question]) -> Dialogue:
    return Dialogue(
        id=dialogue_id(video.id, tuple(questions)),
        video_id=video.id,
        type=kind,
        questions=tuple(questions),
        provenance="rule",
    )


def _told(
    written: list[Line], narrations: Sequence[Narration], captions: Sequence[Caption]
) -> tuple[list[Line], str]:
    """The sentences that narrate a video, and what kind they are of."""
    visual = [line for line in written if line.modality == "visual"]
    steps = [n.kind == "step" for n in narrations if n.modality == "visual"]
    if visual:
        return visual, "step" if 2 * sum(steps) > len(steps) else "narration"
    return (written, "speech") if written else (_measured_news(captions), "pixels")


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


def _narrate(material: Material, stop: int) -> Question | None:
    """Asked at the start: an answer for each segment before number `stop` that has something new."""
    kind = {"pixels": "state_change", "step": "guide"}.get(material.kind, "narrate")
    about = material.kind
    if kind == "guide" and kind not in material.shapes:
        kind, about = "narrate", "narration"
    if kind not in material.shapes:
        return None
    told: set[str] = set()
    answers = []
    for place, group in groupby(material.lines, key=lambda line: line.place):
        if place >= stop:
            break
        new = list(group)
        if material.kind != "pixels":
            new = [line for line in distinct(new) if normalised(line.text) not in told]
        told |= {normalised(line.text) for line in new}
        wording = "said" if material.kind == "speech" else None
        answers += make_answers(material, place, new, wording) if new else []
    return make_question(material, -1, f"narrate_{about}", "", kind, tuple(answers)) if answers else None


def _sequence(
    material: Material, topics: list[Topic], absent: Absent, options: DialogueOptions
) -> list[Question]:
    """The questions of an nQnA dialogue, each active until the next is asked."""
    places = _ask_places(material.segments, topics, options)
    silent_at = silent_number(material, len(places))
    questions: list[Question] = []
    used: set[str] = set()
    recalled = "recall" not in material.shapes
    stop = len(material.segments)
    # From the last to the first: a question has to know when the next one takes over.
    for number, place in reversed(list(enumerate(places))):
        key = (*material.key, number)
        chance = fraction(*key, "kind")
        question = None
        if number == 0 and chance < 0.5:
            question = _narrate(material, stop)
        elif number == silent_at:
            question = make_silence(material, place, absent, key)
        elif number > 0 and chance < _RECALL_SHARE and not recalled:
            question = _recall(material, place)
        question = question or _wait(material, topics, place, stop, used, key)
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


def _wanted(topics: list[Topic], material: Material) -> list[Topic]:
    """Topics that a question of the shapes chosen can be about."""
    return [
        topic
        for topic in topics
        if _kind(topic) in material.shapes
        or ("count" in material.shapes and topic.wording == "detect_event" and len(topic.hits) > 1)
    ]


def _kind(topic: Topic) -> str:
    return "mistake" if topic.wording == "detect_mistake" else "detect"


def _wait(
    material: Material,
    topics: list[Topic],
    place: int,
    stop: int,
    used: set[str],
    key: tuple[object, ...],
) -> Question | None:
    """A question asked in segment number `place` that waits for a topic not yet used, or counts it."""
    topic = _choose(topics, place, stop, used, key)
    if not topic:
        return None
    used.add(topic.id)
    kind, asked = _kind(topic), topic.wording
    told = _REPLIES.get(asked)
    countable = "count" in material.shapes and _is_countable(topic, place, stop)
    if countable and (kind not in material.shapes or fraction(*key, "count") < _COUNT_SHARE):
        kind, asked, told = "count", "count_event", "counted"
    if kind not in material.shapes:
        return None
    past = [line for i in sorted(topic.hits) if i < place for line in topic.hits[i]]
    so_far = "said_so_far" if past and past[0].modality == "audio" else "so_far"
    answers = make_immediate(material, place, past, so_far)
    active = [i for i in sorted(topic.hits) if place < i < stop]
    for number, i in enumerate(active, 1):
        given = make_answers(material, i, distinct(topic.hits[i]), told, number)
        # A question of which one reply is missing would teach silence where it is wrong.
        if not given:
            return None
        answers += given
    # The sentences that the question repeats a part of.
    named = [line for i in sorted(topic.hits) for line in topic.hits[i]] if topic.value else []
    return make_question(material, place, asked, topic.value, kind, tuple(answers), named)


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


def _is_countable(topic: Topic, place: int, stop: int) -> bool:
    """Whether an event comes several times, all while the question is active, and each is told apart."""
    hits = sorted(topic.hits)
    active = [i for i in hits if place < i < stop]
    apart = all(later - earlier > 1 for earlier, later in pairwise(hits))
    alone = all(len(topic.hits[i]) == 1 for i in hits)
    return topic.wording == "detect_event" and len(active) > 1 and min(hits) > place and apart and alone


def _recall(material: Material, place: int) -> Question | None:
    """What has been so far: answered at once, and then no more."""
    wording = "said_so_far" if material.kind == "speech" else "so_far"
    past = [line for line in material.lines if line.place < place]
    answers = make_immediate(material, place, past, wording)
    if not answers:
        return None
    return make_question(material, place, f"recall_{material.kind}", "", "recall", tuple(answers))
