"""The pipeline of one video with scripted models, in this process: judging, tightening, being killed."""

import asyncio
import json
import re
import typing

import pytest

from datagen.config import Config, DialogueOptions, SegmentOptions
from datagen.errors import UsageError
from datagen.flow import flow
from datagen.llm.chat import ChatReply, ChatRequest
from datagen.llm.models import Models
from datagen.scratch import Scratch
from tests.llm.scripted import said, text_of
from tests.media.clips import counter, entry
from tests.model_server import reply_to

MODELS = Models(llm_url="http://x/v1", llm_model="m", vlm_url="http://x/v1", vlm_model="v")
SECONDS = 48


class Killed(BaseException):
    """The process dies here."""


class Memory:
    """A Step and its client: runs what it is given and forgets no finished call, also over a kill."""

    steps: typing.ClassVar[dict] = {}
    """What was made of the clip, by step: the same in all tests."""

    def __init__(self, reply, kill_after=None):
        self.reply = reply
        self.kill_after = kill_after
        self.known = {}
        self.calls: list[ChatRequest] = []

    async def __call__(self, function, *args, of=(), seconds):
        name = function.__name__
        if name not in self.steps:
            self.steps[name] = function(*args)
        return self.steps[name]

    async def call(self, function, request):
        if request not in self.known:
            self.known[request] = await function(request)
        return self.known[request]

    async def ask(self, request: ChatRequest) -> ChatReply:
        if self.kill_after is not None and len(self.calls) >= self.kill_after:
            raise Killed
        self.calls.append(request)
        return said(json.dumps(self.reply(request)))


def honest(request):
    """The loopback server's model."""
    urls = [part.digest for message in request.messages for part in message.parts if hasattr(part, "digest")]
    if request.schema == "caption":
        words = " and ".join(f"object{url[:6]}" for url in urls)
        return reply_to("caption", "", []) | {"seen": f"These shapes move slowly past one another: {words}."}
    return reply_to(request.schema, text_of(request, "user"), urls)


def leaking(request):
    """Tells with its first reply what only the last note knows."""
    value = honest(request)
    if request.schema == "n_qna":
        last = re.findall("object[0-9a-f]+", text_of(request, "user"))[-1]
        first = value["questions"][0]["answers"][0]
        first["reply"] = first["reply"].replace(re.findall("object[0-9a-f]+", first["reply"])[0], last)
    if request.schema == "repair":
        return {"repairs": []}
    return value


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "a.mp4"
    return counter(path, [n / 5 for n in range(5 * SECONDS)])


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    return tmp_path_factory.mktemp("frames")


def run(clip, frames, memory, models=MODELS, **dialogue):
    config = Config(
        name="t",
        segment=SegmentOptions(method="uniform", max_seconds=12.0, min_seconds=6.0),
        dialogue=DialogueOptions(seconds_per_question=20.0, **dialogue),
    )
    clients = {"llm": memory, "vlm": memory}
    return asyncio.run(flow(memory, entry(clip), config, frames, models, clients, Scratch(1)))


def schemas(memory):
    return {request.schema for request in memory.calls}


def test_a_model_that_leaks_on_purpose_does_not_get_past_the_judge(clip, frames):
    memory = Memory(leaking)
    built = run(clip, frames, memory)
    leaks = [row for row in built.rejected if row.code == "future_leak_answer"]
    assert leaks and all(row.stage == "verify" for row in leaks)
    assert built.dialogues and "judge" in schemas(memory)
    unjudged = Memory(honest)
    run(clip, frames, unjudged, judge=False)
    assert "judge" not in schemas(unjudged)


@pytest.mark.parametrize("writing", ["at_once", "incremental"])
def test_a_kill_at_any_call_pays_nothing_twice_and_changes_nothing(clip, frames, writing):
    options = {"writing": writing, "tighten": True, "type": "nqna"}
    whole = Memory(honest)
    built = run(clip, frames, whole, **options)
    assert built.dialogues and len(set(whole.calls)) == len(whole.calls)
    for kill_after in (1, 7, len(whole.calls) // 2, len(whole.calls) - 1):
        memory = Memory(honest, kill_after)
        with pytest.raises(Killed):
            run(clip, frames, memory, **options)
        memory.kill_after = None
        assert run(clip, frames, memory, **options) == built
        assert sorted(map(repr, memory.calls)) == sorted(map(repr, whole.calls))


def test_tightening_moves_replies_and_keeps_their_segments(clip, frames):
    plain = run(clip, frames, Memory(honest))
    memory = Memory(honest)
    tight = run(clip, frames, memory, tighten=True)
    assert "sufficient" in schemas(memory)
    moved = 0
    segments = {segment.id: segment for segment in tight.segments}
    for one, other in zip(plain.dialogues, tight.dialogues, strict=True):
        for question, same in zip(one.questions, other.questions, strict=True):
            for before, after in zip(question.answers, same.answers, strict=True):
                segment = segments[after.evidence[-1]]
                assert (after.text, after.evidence, after.reply_end) == (
                    before.text,
                    before.evidence,
                    before.reply_end,
                )
                assert segment.start < after.evidence_end <= segment.end
                assert after.evidence_end == before.evidence_end or after.reply_start == after.evidence_end
                moved += after != before
    assert moved


def test_tightening_needs_eyes(clip, frames):
    memory = Memory(honest)
    with pytest.raises(UsageError, match="--vlm-url"):
        run(clip, frames, memory, models=Models(llm_url="http://x/v1", llm_model="m"), tighten=True)
    assert memory.calls == []


def test_the_rules_need_no_judge(clip, frames):
    memory = Memory(honest)
    built = run(clip, frames, memory, models=Models())
    assert memory.calls == [] and (built.dialogues or built.rejected)
