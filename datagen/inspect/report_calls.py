"""What models were asked and what they said, found again in the build's ledger where that is still there.

The ledger keeps replies under a hash of their requests. The captions of a video, its dialogues and their
proofs are gone through once more with the same material: each request made is looked up, none is sent.
"""

import asyncio
import contextlib
from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

from datagen.config import Config
from datagen.dialogue.checks import check_dialogue
from datagen.dialogue.judge import judge_answers
from datagen.dialogue.synthesize import synthesize
from datagen.dialogue.tighten import tighten
from datagen.errors import FAILURES, Failure, Provider, UsageError
from datagen.inspect.lookup import Memory
from datagen.ledger import Known, Lost, key_of
from datagen.llm.captions import caption_segments
from datagen.llm.chat import ChatReply, ChatRequest, Message, Text
from datagen.records import Built, Dialogue, Sidecar
from datagen.segments import aligned

_ASK = ("ask", 1)
"""Name and version of the step under which calls are kept; those of another version are not found."""


class Said(Struct, frozen=True):
    """The texts of a model call."""

    system: int
    """Number of its system message in Calls.systems."""
    user: tuple[int, ...]
    """All that follows the system message, as numbers of lines; names of pictures stand in place of them."""
    reply: str
    """As it came; of a call that failed, why."""


_Asked = tuple[ChatRequest, str]
"""A request and its reply."""


class Calls:
    """The texts of a build's calls, read from its ledger. Without a ledger there are none.

    They have no more than `most` characters for the dialogues that come `first`, and as many for the others;
    those that come later go without.
    """

    def __init__(self, out: Path, config: Config, models: dict[str, str], most: int, first: set[str]) -> None:
        self.systems: dict[str, int] = {}
        """System messages with their numbers: few, though each stands in many calls."""
        self._left = {True: most, False: most}
        self._first = first
        self._out, self._config, self._models = out, config, models
        self._last: tuple[Built, dict[str, _Asked]] | None = None
        self._memory = Memory(out)
        self.missing = (
            "Its texts are not in the build's ledger, or more than this report holds."
            if models and self._memory.is_there
            else "Its texts lay in the build's ledger (.work), which is not here any more."
        )
        """Why a call has no texts, for a reader."""

    def texts(self, dialogue: Dialogue, wanted: Iterable[str]) -> tuple[dict[str, Said], tuple[str, ...]]:
        """The texts of the calls with these ids, as far as they are known, and the lines they are made of."""
        first = dialogue.id in self._first
        wanted = list(wanted)
        if not (wanted and self._models) or self._left[first] <= 0:
            return {}, ()
        try:
            asked = self._asked(dialogue)
        except msgspec.MsgspecError:
            return {}, ()  # no ledger of ours, or a damaged one: the report does without
        lines: dict[str, int] = {}
        found = {id: self._said(*asked[id], lines) for id in wanted if id in asked}
        self._left[first] -= sum(map(len, lines)) + sum(len(said.reply) for said in found.values())
        return found, tuple(lines)

    def _asked(self, dialogue: Dialogue) -> dict[str, _Asked]:
        """All calls made for the dialogue's video, by id."""
        if self._last is None or dialogue.id not in {one.id for one in self._last[0].dialogues}:
            self._last = None
            for item, built in self._memory.outcomes(dialogue.video_id):
                if dialogue.id in {one.id for one in built.dialogues}:
                    known = self._memory.results(item, "ask")
                    read = self._memory.results(item, "read_sidecar").values()
                    told = [msgspec.json.decode(one.value, type=Sidecar) for one in read if one.code is None]
                    self._last = built, self._again(built, known, [None, *told])
                    break
        return self._last[1] if self._last else {}

    def _said(self, request: ChatRequest, reply: str, lines: dict[str, int]) -> Said:
        first, *others = request.messages
        system = _text(first) if first.role == "system" else ""
        shown = [message for message in (first, *others) if message.role != "system"]
        heads = {"user": "", "assistant": "[the model said]\n"}
        user = "\n\n".join(heads[message.role] + _text(message) for message in shown)
        numbers = tuple(lines.setdefault(line, len(lines)) for line in user.split("\n"))
        return Said(self.systems.setdefault(system, len(self.systems)), numbers, reply)

    def _again(
        self, built: Built, known: dict[str, Known], sidecars: list[Sidecar | None]
    ) -> dict[str, _Asked]:
        """The calls that led to the captions of a video and to its dialogues, in the order of the flow."""
        found: dict[str, _Asked] = {}
        config, options, frames = self._config, self._config.dialogue, self._out / "frames"
        vlm, llm, interval = self._models.get("vlm"), self._models.get("llm"), config.frames.interval

        async def ask(request: ChatRequest) -> ChatReply:
            key = key_of(*_ASK, (request,))
            answer = known.get(key)
            if answer is None:
                raise Provider("not in the ledger")
            if answer.code is not None:
                detail = msgspec.json.decode(answer.value, type=Lost).detail
                found[key] = request, f"{answer.code}: {detail}"
                raise FAILURES.get(answer.code, Provider)(detail)
            reply = msgspec.json.decode(answer.value, type=ChatReply)
            found[key] = request, reply.text
            return reply

        async def again() -> None:
            video, watched, segments, captions = built.video, built.watched, built.segments, built.captions
            for sidecar in sidecars if vlm else ():
                told = aligned(video, watched, sidecar)
                with contextlib.suppress(Failure, UsageError):
                    await caption_segments(video, watched, segments, told, ask, vlm or "", frames, interval)
            if not llm:
                return
            with contextlib.suppress(Failure, UsageError):
                written, _ = await synthesize(
                    video, segments, captions, options, config.seed, ask, llm, config.checks
                )
                most = options.max_reply_words
                for dialogue in written:
                    kept, _ = check_dialogue(dialogue, segments, captions, most, config.checks)
                    if kept and options.judge:
                        kept, _ = await judge_answers(kept, segments, captions, ask, llm)
                    if kept and options.tighten and vlm:
                        await tighten(kept, segments, watched, ask, vlm, frames, interval)

        asyncio.run(again())
        return found


def _text(message: Message) -> str:
    return "\n".join(part.text if isinstance(part, Text) else f"[{part.name}]" for part in message.parts)
