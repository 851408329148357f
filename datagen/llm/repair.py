"""Asking a model until its reply is right: parse, schema, checks, and at most two rounds of repair.

A reply that cannot be read is asked for again as a whole. Of one that can be read, only the faults go back:
path, code, offending text and what is allowed; the model returns replacements for these paths alone.
"""

import asyncio
import copy
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

from msgspec.structs import replace

from datagen.errors import Failure, Invalid, Refused
from datagen.llm.chat import ChatReply, ChatRequest, Message, Text
from datagen.llm.prompts import Prompt, load_prompt, make_messages, quoted
from datagen.llm.replies import check_schema, parse_reply
from datagen.llm.text import clean
from datagen.records import Call, Rejection

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
Trace = tuple[tuple[str, Call], ...]
"""The calls that a value comes from, each with the path to what it gave; empty: the whole."""
Role = Literal["wrote", "judged", "tightened"]


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


async def ask_traced(
    request: ChatRequest, check: Check, ask: Ask, role: Role = "wrote"
) -> tuple[Any, tuple[Fault, ...], Trace]:
    """The reply's value, the faults left in it after repair, and the calls that the value comes from.

    Of a round after which there are not fewer faults the replacements are not taken, and it is the last.
    Raises Invalid where no reply could be read, and Provider and Refused as `ask` does, all with the calls
    that led to it.
    """
    prompt = load_prompt("repair")
    trace: Trace = ()

    async def read(asked: ChatRequest) -> tuple[Any, tuple[Fault, ...], ChatReply]:
        nonlocal trace
        try:
            reply = await ask(asked)
        except Failure as failure:
            failure.calls = (*all_calls(trace), _call(asked, failure.call_id, "", role))
            raise
        trace = (*trace, ("", _call(asked, reply.id, reply.model, role)))
        try:
            value = parse_reply(reply.text, request.schema or "")
        except Invalid as failure:
            return None, (Fault("", "format", "", str(failure)),), reply
        return value, tuple(check(value)), reply

    value, faults, reply = await read(request)
    for _ in range(_ROUNDS):
        if not faults:
            break
        if value is None:
            retry = _follow_up(request, reply.text, prompt, faults, whole=True)
            if reply.finish_reason == "length":
                retry = replace(retry, max_tokens=2 * request.max_tokens)
            value, faults, reply = await read(retry)
            if value is None:
                break
            continue
        mended, given = await _mend(request, value, faults, prompt, ask, role)
        left = tuple(check(mended))
        if len(left) >= len(faults):
            break
        value, faults, trace = mended, left, (*trace, *given)
    if value is None:
        failure = Invalid(f"{request.prompt}: no readable reply after a repair: {faults[0].allowed}")
        failure.calls = all_calls(trace)
        raise failure
    return value, faults, trace


def calls_at(trace: Trace, path: str) -> tuple[Call, ...]:
    """The calls that a text comes from, by its path: those that gave it, what holds it or what is beside it.

    Beside it is what belongs to the same question or reply, such as its type or its evidence.
    """
    own = path.rpartition("/")[0] + "/"
    inner = (f"{own}answers/", f"{own}immediate/")

    def has_part(given: str) -> bool:
        beside = given.startswith(own) and not given.startswith(inner)
        return beside or f"{path}/".startswith(f"{given}/")

    return tuple(dict.fromkeys(call for given, call in trace if has_part(given)))


def all_calls(trace: Trace) -> tuple[Call, ...]:
    """All calls of a trace, each once."""
    return tuple(dict.fromkeys(call for _, call in trace))


def lost(stage: str, video_id: str, item: str, failure: Failure) -> Rejection:
    """The row for what could not be made, with the calls that led there."""
    return Rejection(stage, video_id, item, type(failure).__name__, str(failure), failed_calls(failure))


def failed_calls(failure: Failure) -> tuple[Call, ...]:
    """The calls that led to a failure."""
    return tuple(call for call in failure.calls if isinstance(call, Call))


def _call(request: ChatRequest, id: str, served: str, role: Role) -> Call:
    again = role == "wrote" and "+" in request.prompt
    return Call(
        id=id,
        role="repaired" if again else role,
        prompt=request.prompt,
        model=request.model,
        served=served,
    )


async def _mend(
    request: ChatRequest, value: Any, faults: tuple[Fault, ...], prompt: Prompt, ask: Ask, role: Role
) -> tuple[Any, Trace]:
    """The value with the replacements that the model gives for faulty places, those that fit the schema, and
    where these stand.
    """
    sent = faults[:_MOST_FAULTS]
    text = str(quoted(value))
    follow_up = replace(
        _follow_up(request, text, prompt, sent, whole=False),
        schema=prompt.schema,
        temperature=prompt.temperature,
        max_tokens=prompt.max_tokens + 100 * len(sent),
    )
    try:
        reply = await ask(follow_up)
        repairs = parse_reply(reply.text, prompt.schema)["repairs"]
    except (Invalid, Refused):
        return value, ()
    open_paths = {fault.path for fault in sent}
    given = []
    for repair in repairs:
        if repair["path"] in open_paths:
            open_paths.remove(repair["path"])
            changed = _replaced(value, repair["path"], repair["value"], request.schema or "")
            if changed is not value:
                given.append(repair["path"])
            value = changed
    call = _call(follow_up, reply.id, reply.model, role)
    return value, tuple((path, call) for path in given)


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
