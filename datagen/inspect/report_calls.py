"""What a model was asked and what it said, found again in the ledger of the build where it still lies there.

The ledger keeps replies under a hash of their requests. The writing of the dialogues is gone through once
more with the same captions: each request it makes is looked up, none is sent.
"""

import asyncio
import contextlib
import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from datagen.config import Config
from datagen.dialogue.synthesize import synthesize
from datagen.errors import FAILURES, Failure, Provider, UsageError
from datagen.ledger import FLOW, Known, Lost, key_of
from datagen.llm.chat import ChatReply, ChatRequest, Message, Text
from datagen.llm.text import normalised
from datagen.records import Built, Dialogue

_ASK = ("ask", 1)
"""Name and version of the step under which calls are kept; those of another version are not found."""


class Call(Struct, frozen=True):
    """A model call that had a part in a dialogue."""

    prompt: str
    """Names, versions and hashes of the prompt and its follow-ups."""
    model: str
    system: int
    """Number of its system message in Calls.systems."""
    user: str
    """All that follows the system message, with the names of pictures in place of them."""
    reply: str


class Calls:
    """The calls of a build, read from its ledger. Without a ledger there are none.

    They give no more than `most` characters in all: dialogues that come later go without.
    """

    def __init__(self, out: Path, config: Config, model: str | None, most: int) -> None:
        self.systems: dict[str, int] = {}
        """System messages with their numbers: few, though each stands in many calls."""
        self._left = most
        self._config, self._model = config, model
        self._database: sqlite3.Connection | None = None
        ledger = out / ".work" / "ledger.sqlite"
        if model and ledger.is_file():
            self._database = sqlite3.connect(f"{ledger.absolute().as_uri()}?mode=ro", uri=True)

    def of(self, dialogue: Dialogue) -> tuple[Call, ...]:
        """The calls whose replies a dialogue is made of: those that wrote one of its questions or answers."""
        if self._database is None or dialogue.provenance == "rule" or self._left <= 0:
            return ()
        try:
            for built, known in _candidates(self._database, dialogue):
                asked = asyncio.run(_again(built, known, self._config, self._model or ""))
                own = tuple(self._call(*one) for one in asked if _has_part(one[1].text, dialogue))
                if own:
                    self._left -= sum(len(call.user) + len(call.reply) for call in own)
                    return own
        except (sqlite3.Error, zlib.error, msgspec.MsgspecError):
            pass  # no ledger of ours, or a damaged one: the report does without
        return ()

    def _call(self, request: ChatRequest, reply: ChatReply) -> Call:
        first, *others = request.messages
        system = _text(first) if first.role == "system" else ""
        shown = [message for message in (first, *others) if message.role != "system"]
        heads = {"user": "", "assistant": "[the model said]\n"}
        user = "\n\n".join(heads[message.role] + _text(message) for message in shown)
        number = self.systems.setdefault(system, len(self.systems))
        return Call(request.prompt, reply.model, number, user, reply.text)


def wrote(reply: str, text: str) -> bool:
    """Whether a reply holds a text, but for case, spaces and punctuation."""
    return normalised(text) in normalised(_strings(reply))


def _has_part(reply: str, dialogue: Dialogue) -> bool:
    texts = [text for q in dialogue.questions for text in (q.text, *(a.text for a in q.answers))]
    return any(wrote(reply, text) for text in texts)


def _strings(reply: str) -> str:
    """All strings of a reply that is JSON, so that escapes do not hide a text; else the reply."""
    try:
        value = msgspec.json.decode(reply)
    except (msgspec.DecodeError, RecursionError):
        return reply
    found, left = [], [value]
    while left:
        one = left.pop()
        if isinstance(one, str):
            found.append(one)
        elif isinstance(one, dict | list):
            left += one.values() if isinstance(one, dict) else one
    return "\n".join(found)


def _candidates(database: sqlite3.Connection, dialogue: Dialogue) -> Iterator[tuple[Built, dict[str, Known]]]:
    """The outcomes of the dialogue's video that hold it, each with the calls made for that video."""
    flows = database.execute(
        "SELECT key, item, value FROM results WHERE key IN"
        " (SELECT key FROM flows WHERE video_id = ? AND code IS NULL) AND step = ? ORDER BY key",
        (dialogue.video_id, FLOW),
    ).fetchall()
    for _, item, value in flows:
        built = msgspec.json.decode(zlib.decompress(value), type=Built)
        if dialogue in built.dialogues:
            calls = database.execute(
                "SELECT key, code, value FROM results WHERE item = ? AND step = ?", (item, _ASK[0])
            )
            yield built, {key: Known(msgspec.Raw(zlib.decompress(v)), code) for key, code, v in calls}


async def _again(
    built: Built, known: dict[str, Known], config: Config, model: str
) -> list[tuple[ChatRequest, ChatReply]]:
    """The calls that lead from the captions of a video to its dialogues, as far as they are known."""
    found: list[tuple[ChatRequest, ChatReply]] = []

    async def ask(request: ChatRequest) -> ChatReply:
        answer = known.get(key_of(*_ASK, (request,)))
        if answer is None:
            raise Provider("not in the ledger")
        if answer.code is not None:
            detail = msgspec.json.decode(answer.value, type=Lost).detail
            raise FAILURES.get(answer.code, Provider)(detail)
        reply = msgspec.json.decode(answer.value, type=ChatReply)
        found.append((request, reply))
        return reply

    options, checks = config.dialogue, config.checks
    with contextlib.suppress(Failure, UsageError):
        await synthesize(
            built.video, built.segments, built.captions, options, config.seed, ask, model, checks
        )
    return found


def _text(message: Message) -> str:
    return "\n".join(part.text if isinstance(part, Text) else f"[{part.name}]" for part in message.parts)
