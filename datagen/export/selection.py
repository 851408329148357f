"""What of a build goes into the dataset: nothing of a benchmark, no other language, nothing too often.

A dialogue stays or goes as a whole: without one of its questions the one before it would stay active, and the
silence that follows would be wrong.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from datagen.config import Config, DatasetOptions
from datagen.dialogue.duplicates import QuestionIndex
from datagen.dialogue.exclusions import Exclusions, language_code, language_of, read_exclusions
from datagen.export.split import hash64
from datagen.records import Built, Dialogue, Rejection, Video

OFTEN = 10
"""A question asked less often than this is neither too frequent nor a template, however small the dataset."""
_TEXT_FOR_LANGUAGE = 2000
"""Characters of a dialogue by which its language is judged."""

Reason = tuple[str, str]
"""Code and detail."""


class Brief(Struct, frozen=True):
    """What select() looks at: read into this, a video takes a third of the time."""

    video: Video
    dialogues: tuple[Dialogue, ...]


class Selection(Struct, frozen=True):
    """Which videos and dialogues of a build are exported."""

    videos: int
    """Number of videos kept."""
    dialogues: dict[str, int]
    """Number of dialogues kept, of each video that has any."""
    dropped: dict[str, Reason]
    """By id of the video or the dialogue."""
    often: frozenset[int]
    """Questions asked OFTEN or more times, by question_hash()."""
    questions: dict[str, Any]
    """How alike the questions are, for run.json."""

    def apply(self, built: Built) -> tuple[Built | None, list[Rejection]]:
        """The built video without its dropped dialogues, and why they were; None for a dropped video."""
        video = built.video.id
        if video in self.dropped:
            return None, [*built.rejected, Rejection("export", video, video, *self.dropped[video])]
        lost = [d.id for d in built.dialogues if d.id in self.dropped]
        rejected = [Rejection("export", video, item, *self.dropped[item]) for item in lost]
        kept = tuple(d for d in built.dialogues if d.id not in self.dropped)
        return replace(built, dialogues=kept), [*built.rejected, *rejected]


def select(builts: Iterable[Built | Brief], config: Config) -> Selection:
    """Read all of a build once, in order, and choose.

    Keeps some hundred bytes for each dialogue and what QuestionIndex keeps for each different question.

    Raises UsageError for a file of exclusions that cannot be used.
    """
    exclusions = read_exclusions(config.dataset)
    index = QuestionIndex(config.dataset.duplicate_similarity)
    dropped: dict[str, Reason] = {}
    dialogues: dict[str, list[str]] = {}
    asked: Counter[int] = Counter()
    written: dict[int, list[str]] = {}
    videos = 0
    for built in builts:
        if name := exclusions.listed_video(built.video):
            dropped[built.video.id] = "contaminated", f"{name!r} is in dataset.exclude_videos"
            continue
        videos += 1
        kept = dialogues[built.video.id] = []
        for dialogue in sorted(built.dialogues, key=lambda d: d.id):
            if reason := _reason(built, dialogue, exclusions, config):
                dropped[dialogue.id] = reason
                continue
            kept.append(dialogue.id)
            for question in dialogue.questions:
                group = index.add(question.text)
                asked[group] += 1
                if dialogue.provenance != "rule":
                    written.setdefault(group, []).append(dialogue.id)
    if config.dataset.cap_questions:
        dropped |= _beyond_share(written, index, config)
    counts = {video: sum(d not in dropped for d in own) for video, own in dialogues.items()}
    return Selection(
        videos,
        {video: number for video, number in counts.items() if number},
        dropped,
        frozenset(key for key, times in index.asked.items() if times >= OFTEN),
        _alike(index, asked, Counter({group: len(asking) for group, asking in written.items()})),
    )


def _reason(
    built: Built | Brief, dialogue: Dialogue, exclusions: Exclusions, config: Config
) -> Reason | None:
    """Why a dialogue has no place in the dataset, or None."""
    for question in dialogue.questions:
        if listed := exclusions.listed_question(question.text):
            detail = f"{question.text[:300]!r} is like {listed[:300]!r} in dataset.exclude_questions"
            return "contaminated", detail
    if other := _other_language(built, dialogue, config.dataset):
        return "language", f"is in {other}, not in {', '.join(config.dataset.languages)}"
    share = config.export.keep_silent
    silent = not any(question.answers for question in dialogue.questions)
    if silent and hash64(config.seed, "keep_silent", dialogue.id) >= share * 2**64:
        return "silence_balance", f"has no answer; export.keep_silent is {share:g}"
    return None


def _other_language(built: Built | Brief, dialogue: Dialogue, options: DatasetOptions) -> str | None:
    """The language of the video, where its code is stated, or of the dialogue's text, that is not wanted."""
    wanted = {language_code(tag) for tag in options.languages}
    if not wanted:
        return None
    stated = language_code(built.video.language or "")
    if len(stated) == 2 and stated not in wanted:  # "English" and "eng" tell no more than the text does
        return stated
    texts = [text for q in dialogue.questions for text in (q.text, *(a.text for a in q.answers))]
    spoken = language_of(" ".join(texts)[:_TEXT_FOR_LANGUAGE])
    return spoken if spoken and spoken not in wanted else None


def _beyond_share(written: dict[int, list[str]], index: QuestionIndex, config: Config) -> dict[str, Reason]:
    """Dialogues that ask what a model has asked too often; which of them go is drawn by a seeded hash."""
    share = config.dataset.max_question_share
    most = max(OFTEN, int(share * sum(map(len, written.values()))))
    dropped: dict[str, Reason] = {}
    for group, asking in written.items():
        ranked = sorted(asking, key=lambda item: (hash64(config.seed, "max_question_share", item), item))
        example = index.examples[group][:300]
        detail = f"asked {len(asking)} times, in more than {share:.1%} of all: {example!r}"
        dropped |= dict.fromkeys(ranked[most:], ("near_duplicate_question", detail))
    return dropped


def _alike(index: QuestionIndex, asked: Counter[int], written: Counter[int]) -> dict[str, Any]:
    """Shares of questions that repeat others, over all and over those that a model wrote."""
    return {
        "asked": asked.total(),
        "different": len(index.asked),
        "groups": len(asked),
        "commonest": _commonest(index, asked),
        "commonest_by_model": _commonest(index, written),
    }


def _commonest(index: QuestionIndex, groups: Counter[int]) -> dict[str, Any]:
    if not groups:
        return {"question": "", "times": 0, "share": 0.0}
    group = min(groups, key=lambda g: (-groups[g], g))
    share = groups[group] / groups.total()
    return {"question": index.examples[group][:300], "times": groups[group], "share": round(share, 4)}
