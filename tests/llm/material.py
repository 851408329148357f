"""Made-up videos: what a sidecar says of them, what was measured, and all that the rules make of it."""

from typing import NamedTuple

from datagen.config import DialogueOptions, SegmentOptions
from datagen.llm.rule_captions import rule_captions
from datagen.llm.rule_dialogues import rule_dialogues
from datagen.records import (
    Boundary,
    Caption,
    Dialogue,
    Measure,
    Narration,
    Rejection,
    Segment,
    Sidecar,
    Video,
    Watched,
)
from datagen.segments import aligned, make_segments

COOKING = (
    (3, 9, "Pick up the pot."),
    (9, 15, "The right hand pours water into the pot."),
    (16, 25, "Open the fridge and take a tomato"),
    (25, 33, "Rinse the tomato under the tap"),
    (35, 50, "cut the tomato in half"),
    (50, 60, "put the tomato into the pot"),
    (62, 70, "stir the soup"),
    (70, 85, "Add salt to the pot"),
    (85, 99, "stir the soup"),
    (100, 118, "serve the soup in a bowl"),
)
TALK = (
    (2, 9, "Welcome to my garden, everybody."),
    (10, 19, "Today we look at the old apple tree."),
    (21, 30, "It was planted by my grandmother."),
    (31, 40, "A ladder helps to reach the fruit."),
    (42, 52, "I always carry a basket with me."),
    (53, 64, "Now we wash what we have picked."),
    (66, 79, "The peel goes on the compost."),
    (80, 95, "Thank you for watching, see you soon."),
)


def steps(rows=COOKING, kind="step", modality="visual"):
    return tuple(
        Narration(start=a, end=b, text=text, modality=modality, kind=kind, key=str(i))
        for i, (a, b, text) in enumerate(rows)
    )


def talk(rows=TALK):
    return steps(rows, "speech", "audio")


def measures(colours, light=0.5, motion=0.01):
    """One second each: a colour name, or (colour, light, motion)."""
    rows = [c if isinstance(c, tuple) else (c, light, motion) for c in colours]
    return tuple(Measure(i, i + 1.0, b, 0.4, c, 0.7, m) for i, (c, b, m) in enumerate(rows))


class Made(NamedTuple):
    segments: tuple[Segment, ...]
    captions: tuple[Caption, ...]
    narrations: tuple[Narration, ...]
    dialogues: tuple[Dialogue, ...]
    rejected: tuple[Rejection, ...]

    @property
    def only(self) -> Dialogue:
        """The one that has answers."""
        (dialogue,) = (one for one in self.dialogues if any(question.answers for question in one.questions))
        return dialogue


def make(told=(), duration=120.0, cuts=(), measured=(), seed=0, video_id="v1", segment=None, **options):
    video = Video(
        id=video_id,
        digest="0" * 32,
        name="a.mp4",
        duration=duration,
        fps=30.0,
        width=64,
        height=36,
        codec="x",
    )
    boundaries = tuple(c if isinstance(c, Boundary) else Boundary(c, c) for c in cuts)
    watched = Watched(duration=duration, boundaries=boundaries, measures=tuple(measured))
    sidecar = Sidecar(format="coin", narrations=tuple(told)) if told else None
    segments, _ = make_segments(video, watched, sidecar, segment or SegmentOptions())
    narrations = aligned(video, watched, sidecar)
    captions = rule_captions(video, watched, segments, narrations, sidecar and sidecar.format)
    dialogues, rejected = rule_dialogues(
        video, segments, captions, narrations, DialogueOptions(**options), seed
    )
    return Made(segments, captions, narrations, dialogues, rejected)
