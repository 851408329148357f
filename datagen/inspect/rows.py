"""What must hold of every SFT and RL row: the lines of the trainers' contracts, one message a fault."""

import math
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from datagen.dialogue.lexicon import spells_silence
from datagen.errors import Invalid
from datagen.export.content import IMAGE, text_fault
from datagen.inspect.dataset import Block, Frames, UserTurn, one_line
from datagen.records import NO_REPLY, SYSTEM_PROMPT

_JPEG = b"\xff\xd8\xff"
_MARKS = re.compile(rf"(?:{IMAGE})*")
_Row = TypeVar("_Row")


class Message(Struct, frozen=True):
    """A message with one <image> for each of its frames."""

    role: str
    content: str


class TextBlock(Struct, frozen=True):
    """A frame (no text) or a text."""

    type: str
    text: str | None


class BlockMessage(Struct, frozen=True):
    """The same message as blocks."""

    role: str
    content: tuple[TextBlock, ...]


class SftRecord(Struct, frozen=True):
    """An SFT row as read."""

    messages: tuple[Message, ...]
    messages_blocks: tuple[BlockMessage, ...]
    question_id: str
    video_id: str
    start: float
    turn_times: tuple[float, ...]
    frame_interval: float
    images: tuple[str, ...] = ()
    frame_times: tuple[tuple[float, ...], ...] | None = None
    """Of each user turn, where the rows hold no frames."""


class TrueAnswer(Struct, frozen=True):
    """An answer that a window can earn."""

    role: str
    content: str
    question: str
    reply_timespan: tuple[float, float]


class GroundTruth(Struct, frozen=True):
    """What the reward knows of a window."""

    question_id: str
    answer: tuple[TrueAnswer, ...]
    model_pred_timestamps: tuple[float, ...]
    prev_assistant_replies: tuple[str, ...]


class RewardModel(Struct, frozen=True):
    """Style and ground truth."""

    style: str
    ground_truth: GroundTruth


class ExtraInfo(Struct, frozen=True):
    """How the trainer finds a row's user turns."""

    split: str
    question_id: str
    video_id: str
    num_images: int
    tools_kwargs: dict[str, dict[str, dict[str, str]]]


class RlRecord(Struct, frozen=True):
    """An RL row as read."""

    prompt: tuple[Message, ...]
    reward_model: RewardModel
    extra_info: ExtraInfo
    images: tuple[Block, ...] = ()
    frame_times: tuple[tuple[float, ...], ...] | None = None
    """Of each user turn of the prompt, where the rows hold no frames."""


def read_row(row: dict[str, Any], kind: type[_Row]) -> _Row:
    """A row as a typed record; raises Invalid naming the column."""
    try:
        return msgspec.convert(row, kind)
    except msgspec.ValidationError as error:
        raise Invalid(one_line(error)) from None


def take_pictures_out(row: dict[str, Any], table: str) -> Iterator[str]:
    """Put paths in the place of embedded pictures, as rows by path have them; yields what is wrong."""
    images = row.get("images")
    if not images or not isinstance(images[0], dict) or "bytes" not in images[0]:
        return
    for image in images:
        if not (image["bytes"] or b"").startswith(_JPEG):
            yield f"images: {str(image['path'])[:200]!r} holds no JPEG picture"
            break
    paths = [image["path"] or "" for image in images]
    row["images"] = paths if table == "sft" else [{"type": "image", "image": path} for path in paths]


def sft_faults(row: SftRecord, frames: Frames) -> Iterator[str]:
    """What is wrong with an SFT row."""
    yield from _roles(row.messages, "assistant")
    yield from _texts(row.messages)
    marks = sum(message.content.count(IMAGE) for message in row.messages)
    if marks != len(row.images):
        yield f"{marks} <image> in messages for {len(row.images)} images"
    yield from frames.faults(row.images, row.video_id)
    spelled = tuple(_spelled(message) for message in row.messages_blocks)
    if spelled != row.messages:
        yield "messages_blocks says something else than messages"
    users = [message for message in row.messages if message.role == "user"]
    if len(users) != len(row.turn_times):
        yield f"{len(row.turn_times)} turn_times for {len(users)} user turns"
        return
    if not (math.isfinite(row.start) and 0 < row.frame_interval < math.inf):
        yield f"start {row.start:g} and frame_interval {row.frame_interval:g} are no times"
        return
    seen = round(row.start / row.frame_interval)
    counts = [message.content.count(IMAGE) for message in users]
    if row.frame_times is not None:
        counts = [len(times) for times in row.frame_times]
        wanted = [(seen + k) * row.frame_interval for k in range(1, sum(counts) + 1)]
        found = [time for times in row.frame_times for time in times]
        if len(counts) != len(users) or not all(
            math.isclose(a, b, abs_tol=1e-5) for a, b in zip(found, wanted, strict=True)
        ):
            yield "frame_times are not the times of the frames of each turn"
            return
    for count, time in zip(counts, row.turn_times, strict=True):
        seen += count
        if not math.isclose(time, seen * row.frame_interval, abs_tol=1e-5):
            yield f"turn_times: {time:g} s is not the time of frame {seen}"
            return


def rl_faults(row: RlRecord, turns: Sequence[UserTurn], split: str, frames: Frames) -> Iterator[str]:
    """What is wrong with an RL row and its user turns."""
    truth, info = row.reward_model.ground_truth, row.extra_info
    yield from _roles(row.prompt, "user")
    yield from _texts(row.prompt)
    marks = sum(message.content.count(IMAGE) for message in row.prompt)
    if not marks == len(row.images) == info.num_images:
        yield f"{marks} <image> in prompt for {len(row.images)} images and num_images {info.num_images}"
    if any(image.type != "image" for image in row.images):
        yield "images: type is not `image`"
    named = [kwargs.get("question_id") for tool in info.tools_kwargs.values() for kwargs in tool.values()]
    if any(name != info.question_id for name in (truth.question_id, *named)):
        yield "question_id differs between extra_info, ground_truth and tools_kwargs"
    if info.split != split:
        yield f"extra_info.split is {info.split!r} in a shard of {split}"
    shown = [block.image for turn in turns for block in turn.content if block.type == "image"]
    yield from frames.faults(shown, info.video_id)
    if shown[: len(row.images)] != [image.image for image in row.images]:
        yield "images are not the first frames of the user turns"
    if row.frame_times is not None:
        users = sum(message.role == "user" for message in row.prompt)
        if row.frame_times != tuple(turn.frame_times for turn in turns[:users]):
            yield "frame_times are not those of the user turns"
        if any(turn.frame_times[-1:] != (turn.time,) for turn in turns):
            yield "user turns: a turn's last frame is not of the turn's time"
    yield from _turns(row.prompt, truth, turns)
    yield from _spans(truth)


def _turns(prompt: Sequence[Message], truth: GroundTruth, turns: Sequence[UserTurn]) -> Iterator[str]:
    users = [message.content for message in prompt if message.role == "user"]
    times = truth.model_pred_timestamps
    if len(times) != len(turns) - len(users) + 1:
        yield (
            f"{len(times)} model_pred_timestamps for {len(turns)} user turns, "
            f"{len(users)} of them in the prompt"
        )
    elif list(times) != [turn.time for turn in turns[len(users) - 1 :]]:
        yield "model_pred_timestamps are not the times of the user turns"
    if not all(a.time < b.time for a, b in pairwise(turns)):
        yield "the times of the user turns do not ascend"
    if any(turn.role != "user" for turn in turns):
        yield "user turns: a role is not `user`"
    spelled = ["".join(IMAGE if b.type == "image" else b.text for b in turn.content) for turn in turns]
    if users != spelled[: len(users)]:
        yield "the prompt's user turns differ from those the trainer fetches"
    for turn in turns[len(users) :]:
        for block in turn.content:
            if block.type != "image" and (fault := text_fault(block.text)):
                yield f"user turns: the question at {turn.time:g} s {fault}"
    said = [m.content for m in prompt if m.role == "assistant" and m.content != NO_REPLY]
    if said != list(truth.prev_assistant_replies):
        yield "prev_assistant_replies are not the replies of the prompt"


def _spans(truth: GroundTruth) -> Iterator[str]:
    times = truth.model_pred_timestamps
    if not truth.answer:
        yield "no answer is due"
    for answer in truth.answer:
        start, end = answer.reply_timespan
        at = f"reply_timespan [{start:g}, {end:g}]"
        if not (math.isfinite(start) and math.isfinite(end) and start < end):
            yield f"{at} is empty"
        elif not any(start <= time <= end for time in times):
            yield f"{at} holds no turn: it cannot be earned"
        if fault := _reply_fault(answer.content):
            yield f"answer at {at} {fault}"
    spans = sorted(answer.reply_timespan for answer in truth.answer)
    for (_, end), (start, _) in pairwise(spans):
        if start <= end:
            yield f"reply spans touch: one ends at {end:g}, the next starts at {start:g}, both inclusive"


def _roles(messages: Sequence[Message], last: str) -> Iterator[str]:
    roles = [message.role for message in messages]
    wanted = ["system", *(("user", "assistant") * len(roles))][: len(roles)]
    if roles != wanted:
        yield "roles do not alternate system, user, assistant, user, ..."
    elif not roles or roles[-1] != last:
        yield f"the last message is not the {last}'s"
    if messages and messages[0].content != SYSTEM_PROMPT:
        yield "the first message is not the system prompt of the contract"


def _texts(messages: Sequence[Message]) -> Iterator[str]:
    for number, message in enumerate(messages):
        fault = None
        if message.role == "assistant" and message.content != NO_REPLY:
            fault = _reply_fault(message.content)
        elif message.role == "user":
            said = message.content[_MARKS.match(message.content).end() :]  # type: ignore[union-attr]
            fault = text_fault(said) if said else None
        if fault:
            yield f"message {number} ({message.role}) {fault}"


def _reply_fault(text: str) -> str | None:
    if spells_silence(text):
        return f"is {text[:40]!r}: silence is exactly {NO_REPLY!r}, and no reply holds it"
    return text_fault(text)


def _spelled(message: BlockMessage) -> Message:
    texts = (IMAGE if block.type == "image" else block.text or "" for block in message.content)
    return Message(message.role, "".join(texts))
