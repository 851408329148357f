"""The pipeline as one async function: what becomes of one video."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from msgspec import UNSET
from msgspec.structs import replace

from datagen.config import Config
from datagen.dialogue.checks import check_dialogue
from datagen.dialogue.judge import judge_answers
from datagen.dialogue.synthesize import synthesize
from datagen.dialogue.tighten import tighten
from datagen.errors import Failure, Invalid, Rejected, UsageError
from datagen.ledger import key_of
from datagen.llm.captions import caption_segments
from datagen.llm.chat import Asks, ChatReply, ChatRequest
from datagen.llm.models import Models, models_key
from datagen.llm.repair import Ask, all_of
from datagen.llm.rule_captions import rule_captions
from datagen.llm.rule_dialogues import rule_dialogues
from datagen.media.probe import probe
from datagen.media.watch import watch
from datagen.records import (
    Built,
    Caption,
    Dialogue,
    Entry,
    Location,
    Narration,
    Rejection,
    Segment,
    Sidecar,
    Video,
    Watched,
    calls_by_item,
)
from datagen.remote import SLOWEST, is_remote
from datagen.runner import Step
from datagen.scratch import Scratch
from datagen.segments import aligned, make_segments
from datagen.sources.sidecar import read_sidecar

VERSIONS = {"probe": 2, "watch": 5, "read_sidecar": 1, "ask": 1, "flow": 4}
"""Raise a step's number when its results change; `flow` stands for all that is not a step of its own."""


def flow_keys(entries: Iterable[Entry], config: Config, models: Models) -> list[str]:
    """Key of each video's outcome: everything that it depends on. The export's options are not among it."""
    made = (config.scenes, config.frames, config.segment, config.dialogue, config.checks)
    options = (*made, config.limits.max_seconds, config.seed, *_no_frames(config))
    versions = sorted(VERSIONS.items())
    same = key_of("flow", VERSIONS["flow"], (*options, versions, models_key(models)))
    return [key_of("flow", VERSIONS["flow"], (replace(entry, signed=UNSET), same)) for entry in entries]


def frames_key(config: Config) -> str:
    """Key of the frames on disk: they are files, so only one set of options holds at a time."""
    return key_of("frames", VERSIONS["watch"], (config.frames, *_no_frames(config)))


def _no_frames(config: Config) -> tuple[str, ...]:
    """What belongs into a key where nobody wants frames; nothing where somebody does."""
    return ("no frames",) if config.export.frames == "none" else ()


async def flow(
    step: Step,
    entry: Entry,
    config: Config,
    frames: Path,
    models: Models,
    clients: dict[str, Asks],
    scratch: Scratch,
) -> Built:
    """Make segments, captions and checked dialogues of one video; its frames go below `frames`."""
    if config.dialogue.tighten and not models.vlm_model:
        raise UsageError("dialogue.tighten: needs a model that sees: --vlm-url and --vlm-model")
    video, watched = await _look(step, entry, config, frames, models, scratch)
    sidecar, rejected = await _sidecar(step, entry, video, config.limits.step_seconds, scratch)
    if sidecar and entry.sidecar:
        video = replace(
            video,
            language=video.language or sidecar.language,
            sidecar=Path(entry.sidecar).name,
            sidecar_format=sidecar.format,
            sidecar_licence=entry.sidecar_licence or "",
        )
    segments, unusable = make_segments(video, watched, sidecar, config.segment)
    material = _Material(video, watched, sidecar, segments, aligned(video, watched, sidecar))
    captions, uncaptioned = await _captions(step, material, config, frames, models, clients)
    dialogues, unwritten = await _dialogues(step, material, captions, config, models, clients)
    checked, faults = _check(dialogues, segments, captions, config)
    proved, unproved = await _judge(step, checked, segments, captions, config, models, clients)
    timed = await _tighten(step, proved, material, config, frames, models, clients)
    return Built(
        video=video,
        watched=replace(watched, measures=()),  # two thirds of all there is, and done with
        segments=segments,
        captions=captions,
        dialogues=timed,
        rejected=(*rejected, *unusable, *uncaptioned, *unwritten, *faults, *unproved),
    )


async def _look(
    step: Step, entry: Entry, config: Config, frames: Path, models: Models, scratch: Scratch
) -> tuple[Video, Watched]:
    """The steps that open the video: whichever of them comes first fetches it, where it is remote."""
    limits = config.limits
    fetching = entry.size / SLOWEST if is_remote(entry.path) else 0.0
    async with scratch.copy_of(entry.signed or entry.path, entry.size) as place:
        if not place.copy:
            place = replace(place, changed_ns=entry.mtime_ns)
        listed = replace(entry, signed=UNSET)
        seconds = limits.step_seconds + entry.size / 20e6 + fetching
        video = await step(probe, place, listed, seconds=seconds)
        if video.duration > limits.max_seconds:
            raise Rejected(
                f"{video.duration:.0f} s is longer than limits.max_seconds ({limits.max_seconds:.0f} s)"
            )
        seconds = limits.watch_seconds + limits.watch_ratio * (video.duration or limits.max_seconds)
        watched = await step(
            watch,
            place,
            Location(str(frames / video.id)),
            entry.start or 0.0,
            entry.end,
            config.scenes,
            config.frames,
            # A model that sees needs them, whatever the dataset holds.
            config.export.frames != "none" or bool(models.vlm_model),
            limits.gpu,
            of=(video.id, video.digest),
            seconds=seconds + fetching,
        )
    if watched.duration < config.frames.interval:
        raise Rejected(
            f"{watched.duration:.2f} s is shorter than one frame interval ({config.frames.interval:g} s)"
        )
    return video, watched


async def _sidecar(
    step: Step, entry: Entry, video: Video, seconds: float, scratch: Scratch
) -> tuple[Sidecar | None, tuple[Rejection, ...]]:
    """A sidecar that cannot be read is rejected; the video goes on without."""
    if entry.sidecar is None:
        return None, ()
    names = (video.id, entry.name)
    stamp = (entry.sidecar_size, entry.sidecar_mtime_ns)
    called = Path(entry.sidecar).name
    # One that is not named after the video may speak of thousands.
    own = called.startswith(Path(entry.path).stem)
    copy_of = scratch.copy_of if own else scratch.kept
    seconds += entry.sidecar_size / SLOWEST if is_remote(entry.sidecar) else 0.0
    try:
        async with copy_of(entry.sidecar, entry.sidecar_size) as place:
            sidecar = await step(read_sidecar, place, stamp, names, of=(called,), seconds=seconds)
    except Invalid as failure:
        return None, (Rejection("sidecar", video.id, called, "Invalid", str(failure)),)
    return sidecar, sidecar.rejected


def _ask(step: Step, client: Asks) -> Ask:
    """The one place where model calls become durable: a finished one is never made again.

    Replies and failures get the key under which the ledger has them.
    """

    async def ask(request: ChatRequest) -> ChatReply:
        id = key_of("ask", VERSIONS["ask"], (request,))
        try:
            return replace(await step.call(client.ask, request), id=id)
        except Failure as failure:
            failure.call_id = id
            raise

    return ask


class _Material(NamedTuple):
    """What there is to write from."""

    video: Video
    watched: Watched
    sidecar: Sidecar | None
    segments: tuple[Segment, ...]
    narrations: tuple[Narration, ...]


async def _captions(
    step: Step,
    material: _Material,
    config: Config,
    frames: Path,
    models: Models,
    clients: dict[str, Asks],
) -> tuple[tuple[Caption, ...], tuple[Rejection, ...]]:
    video, watched, sidecar, segments, narrations = material
    if not models.vlm_model:
        found = rule_captions(video, watched, segments, narrations, sidecar.format if sidecar else None)
        return found, ()
    ask = _ask(step, clients["vlm"])
    interval = config.frames.interval
    return await caption_segments(
        video, watched, segments, narrations, ask, models.vlm_model, frames, interval
    )


async def _dialogues(
    step: Step,
    material: _Material,
    captions: tuple[Caption, ...],
    config: Config,
    models: Models,
    clients: dict[str, Asks],
) -> tuple[tuple[Dialogue, ...], tuple[Rejection, ...]]:
    video, _, _, segments, narrations = material
    if not models.llm_model:
        return rule_dialogues(video, segments, captions, narrations, config.dialogue, config.seed)
    ask = _ask(step, clients["llm"])
    options, checks = config.dialogue, config.checks
    return await synthesize(video, segments, captions, options, config.seed, ask, models.llm_model, checks)


def _check(
    dialogues: tuple[Dialogue, ...],
    segments: tuple[Segment, ...],
    captions: tuple[Caption, ...],
    config: Config,
) -> tuple[tuple[Dialogue, ...], tuple[Rejection, ...]]:
    good: list[Dialogue] = []
    faults: list[Rejection] = []
    most = config.dialogue.max_reply_words
    for dialogue in dialogues:
        checked, found = check_dialogue(dialogue, segments, captions, most, config.checks)
        calls = calls_by_item(dialogue)
        faults.extend(replace(fault, calls=calls.get(fault.item_id, ())) for fault in found)
        if checked is not None:
            good.append(checked)
    return tuple(good), tuple(faults)


async def _judge(
    step: Step,
    dialogues: tuple[Dialogue, ...],
    segments: tuple[Segment, ...],
    captions: tuple[Caption, ...],
    config: Config,
    models: Models,
    clients: dict[str, Asks],
) -> tuple[tuple[Dialogue, ...], tuple[Rejection, ...]]:
    """What a model wrote is proved; the rules say only what is known by then."""
    model = models.llm_model
    if not (config.dialogue.judge and model):
        return dialogues, ()
    ask = _ask(step, clients["llm"])
    judged = await all_of([judge_answers(one, segments, captions, ask, model) for one in dialogues])
    return tuple(kept for kept, _ in judged if kept), tuple(row for _, rows in judged for row in rows)


async def _tighten(
    step: Step,
    dialogues: tuple[Dialogue, ...],
    material: _Material,
    config: Config,
    frames: Path,
    models: Models,
    clients: dict[str, Asks],
) -> tuple[Dialogue, ...]:
    model = models.vlm_model
    if not (config.dialogue.tighten and model):
        return dialogues
    ask, interval = _ask(step, clients["vlm"]), config.frames.interval
    segments, watched = material.segments, material.watched
    timed = [tighten(one, segments, watched, ask, model, frames, interval) for one in dialogues]
    return tuple(await all_of(timed))
