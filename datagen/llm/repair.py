"""Asking a model until its reply is right: parse, schema, checks, and at most two rounds of repair.

A reply that cannot be read is asked for again as a whole. Of one that can be read, only the faults go back:
path, code, offending text and what is allowed; the model returns replacements for these paths alone.
"""

import asyncio
import copy
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

from msgspec.structs import replace

from datagen.errors import Invalid, Refused
from datagen.llm.chat import ChatReply, ChatRequest, Message, Text
from datagen.llm.prompts import Prompt, load_prompt, make_messages, quoted
from datagen.llm.replies import check_schema, parse_reply
from datagen.llm.text import clean

T = TypeVar("T")
Ask = Callable[[ChatRequest], Awaitable[ChatReply]]
"""Makes a model call, or remembers its reply. Raises Provider and Refused."""

_ROUNDS = 2
_MOST_FAULTS = 40
"""Faults that are sent back at once."""
_MOST_ECHO = 4000
"""Characters of an unreadable reply that the model is shown again."""


class Fault(NamedTuple):
    """What is wrong with one place of a reply."""

    path: str
    """JSON pointer to a value that can be replaced; empty for the whole reply."""
    code: str
    """From the table of failure modes in the design notes."""
    text: str
    """The offending text."""
    allowed: str
    """What may stand there instead; empty where nothing can: the thing has to go."""


Check = Callable[[Any], Sequence[Fault]]


async def all_of(tasks: Iterable[Awaitable[T]]) -> list[T]:
    """The results of all tasks; if any fails, its exception, but only when all have come to an end.

    So no call that was begun is lost to the ledger.
    """
    results = await asyncio.gather(*tasks, return_exceptions=True)
    done: list[T] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        done.append(result)
    return done


async def ask_checked(request: ChatRequest, check: Check, ask: Ask) -> tuple[Any, tuple[Fault, ...]]:
    """The reply's value and the faults that are left in it after repair.

    Of a round after which there are not fewer faults the replacements are not taken, and it is the last.
    Raises Invalid where no reply could be read, and Provider and Refused as `ask` does.
    """
    prompt = load_prompt("repair")
    value, faults, reply = await _ask(request, check, ask)
    for _ in range(_ROUNDS):
        if not faults:
            break
        if value is None:
            retry = _follow_up(request, reply.text, prompt, faults, whole=True)
            if reply.finish_reason == "length":
                retry = replace(retry, max_tokens=2 * request.max_tokens)
            value, faults, reply = await _ask(retry, check, ask)
            if value is None:
                break
            continue
        mended = await _mend(request, value, faults, prompt, ask)
        left = tuple(check(mended))
        if len(left) >= len(faults):
            break
        value, faults = mended, left
    if value is None:
        raise Invalid(f"{request.prompt}: no readable reply after a repair: {faults[0].allowed}")
    return value, faults


async def _ask(request: ChatRequest, check: Check, ask: Ask) -> tuple[Any, tuple[Fault, ...], ChatReply]:
    reply = await ask(request)
    try:
        value = parse_reply(reply.text, request.schema or "")
    except Invalid as failure:
        return None, (Fault("", "format", "", str(failure)),), reply
    return value, tuple(check(value)), reply


async def _mend(request: ChatRequest, value: Any, faults: tuple[Fault, ...], prompt: Prompt, ask: Ask) -> Any:
    """The value with the replacements that the model gives for faulty places, those that fit the schema."""
    sent = faults[:_MOST_FAULTS]
    text = str(quoted(value))
    follow_up = replace(
        _follow_up(request, text, prompt, sent, whole=False),
        schema=prompt.schema,
        temperature=prompt.temperature,
        max_tokens=prompt.max_tokens + 100 * len(sent),
    )
    try:
        repairs = parse_reply((await ask(follow_up)).text, prompt.schema)["repairs"]
    except (Invalid, Refused):
        return value
    open_paths = {fault.path for fault in sent}
    for repair in repairs:
        if repair["path"] in open_paths:
            open_paths.remove(repair["path"])
            value = _replaced(value, repair["path"], repair["value"], request.schema or "")
    return value


def _follow_up(
    request: ChatRequest, text: str, prompt: Prompt, faults: Sequence[Fault], whole: bool
) -> ChatRequest:
    """The conversation so far, so that its beginning is cached, and what is wrong with the reply."""
    shown = clean(text[:_MOST_ECHO]) if whole else text
    values = {"whole": whole, "faults": [_sent(fault) for fault in faults]}
    said = Message("assistant", (Text(shown or "(nothing)"),))
    return replace(
        request,
        messages=(*request.messages, said, *make_messages(prompt, values)),
        prompt=f"{request.prompt}+{prompt.id}",
    )


def _sent(fault: Fault) -> dict[str, str]:
    sent = {"path": fault.path, "code": fault.code, "text": fault.text[:500], "allowed": fault.allowed}
    return {key: text for key, text in sent.items() if text}


def _replaced(value: Any, path: str, new: Any, schema: str) -> Any:
    """A copy of a value with another one at a path; the value itself if it would break the schema."""
    changed = copy.deepcopy(value)
    *parents, last = path.split("/")[1:]
    place = changed
    for step in parents:
        place = place[int(step)] if isinstance(place, list) else place[step]
    place[int(last) if isinstance(place, list) else last] = new
    try:
        check_schema(changed, schema)
    except Invalid:
        return value
    return changed
