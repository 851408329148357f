"""The reward of a rollout for verl: PAUC less three penalties, judged by a model behind an endpoint."""

import asyncio
import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import msgspec

from datagen.errors import Failure, Provider
from datagen.export.pauc import PAPER, SETTINGS, Reward, Settings, Span, reward, truth_spans
from datagen.llm.chat import ChatReply, ChatRequest
from datagen.llm.client import Client, ClientLimits
from datagen.llm.client_address import KEY_VARIABLE
from datagen.llm.repair import Ask
from datagen.llm.scores import repeats, score
from datagen.records import NO_REPLY

MOST_REMEMBERED = 50_000
"""Verdicts that a process keeps, so that the samples of one prompt share them."""

_LOG = logging.getLogger(__name__)


async def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Mapping[str, Any],
    extra_info: Mapping[str, Any],
    *,
    judge_url: str,
    judge_model: str,
    settings: str | Mapping[str, Any] = "paper",
) -> dict[str, float]:
    """verl's custom reward function for rollouts of `datagen.training.agent_loop`.

    The judge is any chat endpoint that speaks the OpenAI protocol; its key comes from OPENAI_API_KEY.
    `settings` is paper, released or benchmark, or a mapping of what differs from paper (the fields of
    `export.pauc.Settings`). Returns the `score` and its parts, with `judge_failures`, the number of verdicts
    that could not be had: these replies count as not given, never as wrong.

    Raises ValueError for settings there are none of and for a rollout without its replies, Provider where
    no verdict of the rollout could be had, UsageError for a wrong address, key or model.
    """
    chosen = read_settings(settings)
    replies = parse_replies(solution_str) if chosen.released_faults else extra_info.get("replies")
    if replies is None:
        raise ValueError("extra_info: has no `replies`; they come from the agent loop named proactive")
    earned, failures = await judged_reward(
        _judge(judge_url),
        judge_model,
        truth_spans(ground_truth),
        list(ground_truth["model_pred_timestamps"]),
        list(replies),
        list(ground_truth["prev_assistant_replies"]),
        chosen,
    )
    return {
        "score": earned.total,
        "pauc": earned.pauc,
        "repetition": earned.repetition,
        "out_of_span": earned.out_of_span,
        "common_prefix": earned.common_prefix,
        "spoken": sum(reply.strip() != NO_REPLY for reply in replies) / max(1, len(replies)),
        "judge_failures": float(failures),
    }


def read_settings(given: str | Mapping[str, Any]) -> Settings:
    """The settings of a name, or the paper's with changes. Raises ValueError naming the key that is wrong."""
    if isinstance(given, str):
        if given not in SETTINGS:
            raise ValueError(f"settings: {given!r} is none of {', '.join(SETTINGS)}")
        return SETTINGS[given]
    try:
        chosen = msgspec.convert(msgspec.to_builtins(PAPER) | dict(given), Settings)
    except msgspec.ValidationError as error:
        raise ValueError(f"settings: {error}") from None
    if chosen.top not in (2, 4):
        raise ValueError(f"settings: top: {chosen.top} is neither 2 nor 4, the grades that the judge knows")
    return chosen


def parse_replies(solution: str) -> list[str]:
    """Replies as the released code finds them in a rollout's text: by lines that name a role.

    A reply that holds such a line itself is cut there, and all after it may move: a fault, for comparison.
    """
    return [
        reply.strip()
        for reply in re.findall(r"assistant\n(.*?)(?:\nuser|\Z)", f"assistant\n{solution}", re.S)
    ]


async def judged_reward(
    ask: Ask,
    model: str,
    spans: Sequence[Span],
    times: Sequence[float],
    replies: Sequence[str],
    earlier: Sequence[str],
    settings: Settings,
) -> tuple[Reward, int]:
    """`export.pauc.reward` with `model` as the judge, and how many of its verdicts could not be had.

    Raises what `reward` does, and Provider where no verdict at all could be had.
    """
    scores: dict[tuple[str, str, str], float | None] = {}
    repeated: dict[tuple[tuple[str, ...], str], bool | None] = {}

    def earn() -> Reward:
        return reward(
            spans,
            times,
            replies,
            earlier,
            lambda question, reply, truth: scores.setdefault((question, reply, truth), None),
            lambda known, reply: repeated.setdefault((tuple(known), reply), None),
            settings,
        )

    earn()  # Finds out which verdicts it takes: these do not depend on one another.
    found = await asyncio.gather(
        *(score(ask, model, question, truth, reply, settings.top) for question, reply, truth in scores),
        *(repeats(ask, model, known, reply) for known, reply in repeated),
        return_exceptions=True,
    )
    failures = [verdict for verdict in found if isinstance(verdict, BaseException)]
    for failure in failures:
        if not isinstance(failure, Failure):
            raise failure
        _LOG.warning("no verdict of the judge: %s: %s", type(failure).__name__, failure)
    if failures and len(failures) == len(found) and all(isinstance(f, Provider) for f in failures):
        raise failures[0]
    verdicts = [None if isinstance(verdict, BaseException) else verdict for verdict in found]
    scores.update(zip(scores, verdicts, strict=False))
    repeated.update(
        (key, None if verdict is None else bool(verdict))
        for key, verdict in zip(repeated, verdicts[len(scores) :], strict=True)
    )
    return earn(), len(failures)


_judges: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Ask]] = WeakKeyDictionary()


def _judge(url: str) -> Ask:
    """The judge at an address: one for each event loop, as a client belongs to one."""
    here = _judges.setdefault(asyncio.get_running_loop(), {})
    if url not in here:
        here[url] = remembered(Client(url, os.environ.get(KEY_VARIABLE), Path(), ClientLimits()).ask)
    return here[url]


def remembered(ask: Ask) -> Ask:
    """The same, but a request is made once, also while its reply is awaited. Failures are forgotten."""
    tasks: dict[ChatRequest, asyncio.Task[ChatReply]] = {}

    async def once(request: ChatRequest) -> ChatReply:
        if request not in tasks:
            if len(tasks) >= MOST_REMEMBERED:
                del tasks[next(iter(tasks))]
            tasks[request] = asyncio.ensure_future(ask(request))
        task = tasks[request]
        try:
            return await asyncio.shield(task)
        finally:
            if task.done() and (task.cancelled() or task.exception()):
                tasks.pop(request, None)

    return once
