"""For benchmarks.scale: a build whose videos and models are made up, and all the rest is the real thing.

    python -c "from benchmarks.scale_fakes import main; main()" --videos FOLDER --out OUT ...

Takes the command line of a build. Steps run in children and calls in the runner as ever, but probing and
watching read nothing, and the model answers at once. What they return is as large as the real thing: a video
of about 150 s with a measure for each second, 19 segments with captions of 35 words, and one dialogue of six
answers. One video in a hundred is damaged.
"""

import asyncio
import functools
import random
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from datagen import build
from datagen.config import Config, FrameOptions, SceneOptions
from datagen.dialogue.checks import check_dialogue
from datagen.errors import Corrupt
from datagen.export import export as export_module
from datagen.flow import VERSIONS
from datagen.llm.chat import Attempt, ChatReply, ChatRequest, Message, Picture, Text
from datagen.llm.models import Models
from datagen.llm.prices import picture_tokens
from datagen.money import cost_of
from datagen.records import (
    Answer,
    Boundary,
    Built,
    Caption,
    Dialogue,
    Entry,
    Location,
    Measure,
    Question,
    Segment,
    Video,
    Watched,
)
from datagen.runner import Runner, Step

SEGMENTS = 19
_MODEL = "made-up"
_ASKED_AT = {0: (1, 4, 7), 9: (10, 13, 17)}
"""Segments before which a question is asked, and those that answer it."""
_INSTRUCTIONS = "Describe what can be seen in these pictures, in plain words and nothing beyond it. " * 8
_SUBJECTS = "a woman, the man beside her, a child, an old man, somebody in gloves, the cook"
_VERBS = "lifts, turns, places, wipes, opens, closes, holds, moves, cuts, presses, pulls"
_LOOKS = "red, blue, small, large, wooden, metal, round, flat, wet, dry, old, new"
_THINGS = (
    "pot, knife, board, onion, spoon, towel, bottle, window, chair, table, cup, lid, stove, sink, bowl, lamp"
)
_OPENINGS = "Please tell me, Let me know, Keep me posted on, I want to hear, Say, Could you describe"
_MATTERS = "what happens, what is done, each new thing, every step, whatever changes, what comes"
_MANNERS = "as it goes on, from here, bit by bit, in order, while you watch, for me, live, aloud"


def _one(rng: random.Random, words: str) -> str:
    return rng.choice(words.split(", "))


def probe(path: Location, entry: Entry) -> Video:
    """In place of media.probe. Raises Corrupt for one video in a hundred."""
    rng = random.Random(entry.name)
    if rng.random() < 0.01:
        raise Corrupt(f"{entry.name}: no picture can be read")
    return Video(
        id=f"v{rng.getrandbits(64):016x}",
        digest=f"{rng.getrandbits(128):032x}",
        name=entry.name,
        duration=round(rng.uniform(100, 200), 3),
        fps=29.97,
        width=640,
        height=360,
        codec="h264",
        has_audio=True,
    )


def watch(
    path: Location,
    frames: Location,
    start: float,
    end: float | None,
    scenes: SceneOptions,
    options: FrameOptions,
    duration: float,
) -> Watched:
    """In place of media.watch; the frames are an empty folder."""
    Path(frames.path).mkdir(parents=True, exist_ok=True)
    rng = random.Random(duration)
    measures = [
        Measure(
            float(second),
            second + 1.0,
            round(rng.random(), 4),
            round(rng.random(), 4),
            _one(rng, _LOOKS),
            round(rng.random(), 4),
            round(rng.random(), 4),
        )
        for second in range(int(duration))
    ]
    cuts = [Boundary(time, time, "cut", round(rng.random(), 4)) for time in _times(duration)[1:-1]]
    return Watched(
        duration=duration,
        boundaries=tuple(cuts),
        measures=tuple(measures),
        frame_count=int(duration / options.interval),
    )


def _times(duration: float) -> list[float]:
    return [round(number * duration / SEGMENTS, 3) for number in range(SEGMENTS + 1)]


class Model:
    """In place of an endpoint."""

    async def ask(self, request: ChatRequest) -> ChatReply:
        """A caption, or the questions of a dialogue, that no other request gets."""
        prompt = "".join(part.text for part in request.messages[-1].parts if isinstance(part, Text))
        rng = random.Random(prompt)
        text = _questions(prompt, rng) if request.schema == "n_qna" else _caption(rng)
        attempt = Attempt(
            status=200,
            seconds=rng.random(),
            prompt_tokens=900,
            completion_tokens=len(text) // 4,
            finish_reason="stop",
        )
        return ChatReply(
            text=text,
            finish_reason="stop",
            model=_MODEL,
            prompt_tokens=900,
            completion_tokens=len(text) // 4,
            attempts=(attempt,),
        )


def _caption(rng: random.Random) -> str:
    said = [
        f"{_one(rng, _SUBJECTS)} {_one(rng, _VERBS)} the {_one(rng, _LOOKS)} {_one(rng, _THINGS)}"
        f" near the {_one(rng, _THINGS)}"
        for _ in range(4)
    ]
    return ". ".join(said) + "."


def _questions(prompt: str, rng: random.Random) -> str:
    segments = [line.split("\t") for line in prompt.splitlines()[1:]]
    questions = []
    for first, answering in _ASKED_AT.items():
        answers = [_answer(*segments[at]) for at in answering if rng.random() < 0.95]
        parts = (_OPENINGS, _MATTERS, _MANNERS, _MANNERS, _MANNERS, _OPENINGS)
        text = " ".join(_one(rng, words) for words in parts)
        asked = float(segments[first][1])
        questions.append(Question(text=f"{text}?", ask_time=asked, kind="narrate", answers=tuple(answers)))
    return msgspec.json.encode(questions).decode()


def _answer(segment: str, start: str, end: str, caption: str) -> Answer:
    return Answer(
        text=caption.split(". ")[0].capitalize() + ".",
        evidence=(segment,),
        evidence_start=float(start),
        evidence_end=float(end),
        reply_start=float(start),
        reply_end=float(end),
    )


async def flow(step: Step, entry: Entry, config: Config, frames: Path, model: Model) -> Built:
    """In place of flow.flow: the same steps and, at 20 a video, about as many calls."""
    place, options = Location(entry.path), (config.scenes, config.frames)
    video = await step(probe, place, entry, seconds=60)
    folder = Location(str(frames / video.id))
    watched = await step(
        watch, place, folder, 0.0, None, *options, video.duration, of=(video.id, video.digest), seconds=60
    )
    times = _times(watched.duration)
    segments = tuple(
        Segment(
            id=f"{video.id}:{round(1000 * start):07d}-{round(1000 * end):07d}",
            video_id=video.id,
            start=start,
            end=end,
            method="scenes",
            boundary="cut" if start else None,
        )
        for start, end in pairwise(times)
    )
    captions = tuple(await asyncio.gather(*(_captioned(step, segment, model) for segment in segments)))
    request = _request("n_qna", _listed(segments, captions))
    reply = await step.call(model.ask, request)
    questions = msgspec.json.decode(reply.text, type=tuple[Question, ...])
    written = Dialogue(
        id=f"{video.id}#{video.digest[:8]}",
        video_id=video.id,
        type="nQnA",
        questions=questions,
        provenance=_MODEL,
    )
    most = config.dialogue.max_reply_words
    dialogue, faults = check_dialogue(written, segments, captions, most, config.checks)
    return Built(
        video=video,
        watched=replace(watched, measures=()),
        segments=segments,
        captions=captions,
        dialogues=(dialogue,) if dialogue else (),
        rejected=tuple(faults),
    )


async def _captioned(step: Step, segment: Segment, model: Model) -> Caption:
    pictures = [Picture(f"{segment.video_id}/{n:06d}.jpg", f"{n:032x}") for n in range(3)]
    reply = await step.call(model.ask, _request("caption", f"{_INSTRUCTIONS}{segment.id}", *pictures))
    return Caption(
        segment_id=segment.id,
        seen=reply.text,
        heard=None,
        provenance=_MODEL,
        traits={"colour": "red", "light": "bright", "motion": "calm"},
    )


def _listed(segments: Sequence[Segment], captions: Sequence[Caption]) -> str:
    lines = [f"{s.id}\t{s.start}\t{s.end}\t{c.seen}" for s, c in zip(segments, captions, strict=True)]
    return "\n".join([_INSTRUCTIONS, *lines])


def _request(schema: str, text: str, *pictures: Picture) -> ChatRequest:
    message = Message("user", (Text(text), *pictures))
    return ChatRequest(model=_MODEL, messages=(message,), schema=schema, prompt=f"{schema}/v1:00000000")


def make_runner(
    config: Config, models: Models, out: Path, workers: int, purse: Path | None, name: str, of: int
) -> Runner:
    """In place of build.make_runner."""
    run = functools.partial(flow, config=config, frames=out / "frames", model=Model())
    spool = out / ".work" / "spool" / f"{name}.jsonl"
    costs = functools.partial(cost_of, picture_tokens(config.frames.max_pixels), models.batch)
    return Runner(run, VERSIONS, spool, workers, config.limits.memory_mb, (), costs)


async def _answers_unasked(models: Models, key: str | None) -> list[Any]:
    return []


def export(*args: Any) -> dict[str, Any]:
    """In place of export.export: says how long that took."""
    began = time.monotonic()
    report = export_module.export(*args)
    print(f"{time.monotonic() - began:.1f}")
    return report


def main() -> None:
    """Run a build of made-up videos; says how long its export took, all of it beyond imports, and whether Ray
    was started.
    """
    began = time.monotonic()
    build.export = export  # type: ignore[attr-defined]
    build.make_runner = make_runner
    build.preflight = _answers_unasked  # type: ignore[attr-defined]
    models = ["--llm-url", "http://localhost:1", "--llm-model", _MODEL]
    status = build.main([*sys.argv[1:], *models])
    ray = "with" if "ray" in sys.modules else "without"
    print(f"{time.monotonic() - began:.2f} s beyond imports, {ray} Ray")
    sys.exit(status)
