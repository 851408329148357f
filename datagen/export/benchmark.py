"""Dialogues as a benchmark in the format of ProactiveVideoQA: gold to score by, and what a model is shown.

The format has one question to an item, so each question of a dialogue becomes an item of its own. A question
that silence answers has none: PAUC measures the answers that are due.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec.structs import replace

from datagen.config import Config, DatasetOptions
from datagen.dialogue.grid import make_turns
from datagen.export.rl import user_turn
from datagen.export.selection import select
from datagen.export.spans import asking_turns, due_answers
from datagen.export.statistics import Statistics
from datagen.export.summary import summarise
from datagen.records import Answer, Built, Dialogue, Question, Turn, Video, Watched
from datagen.sources.proactive_videoqa import Item, TrueAnswer, UserText, item_dialogue

Input = dict[str, Any]
"""The user turns that a model is shown for one item, as schemas/benchmark/input.json has them."""


def benchmark_items(
    dialogue: Dialogue, video: str, duration: float, turns: Sequence[Turn], interval: float
) -> list[tuple[Item, Input]]:
    """The items of a dialogue over `turns`, with a frame every `interval` seconds, and what each one shows.

    `video` is the file's name and `duration` its length in seconds. Left out is what no turn can earn; reply
    spans are those that RL rewards. An item's turns end where the next question is asked; those before its
    own question are shown without asking for a reply (`skip_inference`). `must_reply` is never set: it would
    tell the model when to speak.
    """
    due, _ = due_answers(dialogue, turns, interval)
    spans = {each.item: (each.start, each.end) for each in due}
    earned = [_earned(dialogue, number, spans) for number in range(len(dialogue.questions))]
    items = gold_items(replace(dialogue, questions=tuple(earned)), video, duration)
    asked = asking_turns(dialogue, turns)
    stops = [*(index for index, _ in asked[1:]), len(turns)]
    shown = {
        number: _shown(dialogue.video_id, turns[:stop], first)
        for (first, number), stop in zip(asked, stops, strict=False)
        if earned[number].answers
    }
    return [
        (item, {"question_id": item.question_id, "conversation": shown[number]})
        for item, number in zip(items, sorted(shown), strict=True)
    ]


def gold_items(dialogue: Dialogue, video: str, duration: float) -> list[Item]:
    """The items of a dialogue as it is, one for each question that has answers."""
    alone = len(dialogue.questions) == 1
    return [
        Item(
            video=video,
            question_id=dialogue.id if alone else f"{dialogue.id}/q{number}",
            duration=duration,
            conversation=(UserText("user", question.text, question.ask_time),),
            answer=tuple(_gold_answer(answer, question.kind) for answer in question.answers),
        )
        for number, question in enumerate(dialogue.questions)
        if question.answers
    ]


def _gold_answer(answer: Answer, kind: str) -> TrueAnswer:
    return TrueAnswer(
        role="assistant",
        content=answer.text,
        related_timespan=(answer.evidence_start, answer.evidence_end),
        reply_timespan=(answer.reply_start, answer.reply_end),
        type=kind,
    )


def _earned(dialogue: Dialogue, number: int, spans: dict[str, tuple[float, float]]) -> Question:
    """A question with the answers that a turn can earn, each with the span in which it can."""
    question = dialogue.questions[number]
    answers = [
        replace(answer, reply_start=span[0], reply_end=span[1])
        for a, answer in enumerate(question.answers)
        if (span := spans.get(f"{dialogue.id}/q{number}/a{a}"))
    ]
    return replace(question, answers=tuple(sorted(answers, key=lambda answer: answer.reply_start)))


def _shown(video_id: str, turns: Sequence[Turn], first: int) -> list[dict[str, Any]]:
    """The user turns of an item whose question is asked at turn `first`; other questions are left out."""
    shown = []
    for number, turn in enumerate(turns):
        made = user_turn(video_id, turn if number == first else replace(turn, user=None))
        del made["time"]
        shown.append(made | ({"skip_inference": True} if number < first else {}))
    return shown


def gold_statistics(items: Iterable[Item], config: Config) -> dict[str, Any]:
    """The figures of a gold file, as run.json has them of a dataset built with `config`.

    Frames, turns and the place of replies are those that the dataset's export would have given.
    """
    config = replace(config, dataset=DatasetOptions(), export=replace(config.export, keep_silent=1.0))
    videos: dict[str, list[Item]] = {}
    for item in items:
        videos.setdefault(item.video, []).append(item)
    builts = [_built(name, own, config.frames.interval) for name, own in sorted(videos.items())]
    selection = select(builts, config)
    statistics = Statistics(config, selection.often)
    interval, words = config.frames.interval, config.dialogue.max_reply_words
    for built in builts:
        statistics.add_video(built)
        for dialogue in built.dialogues:
            count = built.watched.frame_count
            turns, _, _ = make_turns(dialogue, count, interval, config.export, words, config.seed)
            statistics.add_dialogue(built, dialogue, turns)
    return summarise(statistics, selection.questions, config.dataset)


def _built(name: str, items: Sequence[Item], interval: float) -> Built:
    duration = max(item.duration for item in items)
    video = Video(
        id=name, digest="", name=name, duration=duration, fps=0.0, width=0, height=0, codec="",
        source="ProactiveVideoQA",
    )  # fmt: skip
    return Built(
        video=video,
        watched=Watched(duration=duration, frame_count=int(duration / interval + 1e-6)),
        segments=(),
        captions=(),
        dialogues=tuple(map(item_dialogue, items)),
        rejected=(),
    )
