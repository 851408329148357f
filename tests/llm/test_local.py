"""The queue in front of a model of this process: what it makes of a model that does as a test says."""

import asyncio
import threading
from pathlib import Path

import pytest

from datagen.errors import Corrupt, OutOfMemory, Provider, UsageError
from datagen.llm import local, local_transformers
from datagen.llm.chat import ChatRequest, Message, Picture, Text
from datagen.llm.local import Answer, LocalClient


def ask_for(text="hello", **fields):
    parts = (Text(text), *fields.pop("pictures", ()))
    return ChatRequest(
        **({"model": "tiny@1", "messages": (Message("user", parts),), "max_tokens": 8} | fields)
    )


def text_of(question):
    return question.request.messages[0].parts[0].text


class Model:
    """Says what `behave(questions)` returns, and remembers its batches and in which thread it was asked."""

    def __init__(self, behave):
        self.behave = behave
        self.batches = []
        self.threads = set()

    def answer(self, questions):
        self.batches.append([text_of(question) for question in questions])
        self.threads.add(threading.get_ident())
        return self.behave(questions)


def echo(questions):
    return [Answer(f"answer to {text_of(q)}", "stop", 7, 3) for q in questions]


@pytest.fixture
def run(monkeypatch):
    """Gives what `work(client)` gives with a model that behaves so."""

    def run(behave, work, config=None, **options):
        model = behave if isinstance(behave, Model) else Model(behave)
        monkeypatch.setattr(local, "check_local", lambda *_: config or {})
        monkeypatch.setattr(local_transformers, "TransformersModel", lambda *_: model)

        async def main():
            client = LocalClient("transformers", Path("tiny"), Path("frames"), **options)
            try:
                async with asyncio.timeout(20):
                    return await work(client)
            finally:
                await client.close()

        return asyncio.run(main())

    return run


def all_of(*requests):
    async def work(client):
        return await asyncio.gather(*map(client.ask, requests), return_exceptions=True)

    return work


def test_what_has_gathered_is_answered_at_once_and_beside_the_event_loop(run):
    gathered = threading.Event()

    def behave(questions):
        assert gathered.wait(15)
        return echo(questions)

    model = Model(behave)
    texts = [f"q{n}" for n in range(10)]

    async def work(client):
        first = asyncio.create_task(client.ask(ask_for("first")))
        while not model.batches:
            await asyncio.sleep(0.01)
        rest = [asyncio.create_task(client.ask(ask_for(text))) for text in texts]
        await asyncio.sleep(0)
        gathered.set()
        return await asyncio.gather(first, *rest)

    first, *replies = run(model, work, batch=4)
    assert first.text == "answer to first"
    assert [reply.text for reply in replies] == [f"answer to {text}" for text in texts]
    assert model.batches == [["first"], texts[:4], texts[4:8], texts[8:]]
    assert model.threads.isdisjoint({threading.get_ident()}) and len(model.threads) == 1
    (attempt,) = replies[0].attempts
    assert (replies[0].model, replies[0].prompt_tokens, replies[0].completion_tokens) == ("tiny@1", 7, 3)
    assert (attempt.prompt_tokens, attempt.completion_tokens, attempt.finish_reason) == (7, 3, "stop")


def test_the_event_loop_stays_free_while_the_model_works(run):
    released = threading.Event()

    def slow(questions):
        assert released.wait(15)
        return echo(questions)

    async def work(client):
        call = asyncio.create_task(client.ask(ask_for()))
        await asyncio.sleep(0.1)
        assert not call.done()
        released.set()
        return await call

    assert run(slow, work).text == "answer to hello"


def test_an_answer_cut_off_is_asked_for_once_more_with_twice_the_tokens(run):
    limits = []

    def cut(questions):
        limits.extend(question.max_tokens for question in questions)
        return [Answer("x" * question.max_tokens, "length", 5, question.max_tokens) for question in questions]

    (reply,) = run(cut, all_of(ask_for(max_tokens=8)))
    assert limits == [8, 16]
    assert (reply.text, reply.finish_reason) == ("x" * 16, "length")
    assert [attempt.completion_tokens for attempt in reply.attempts] == [8, 16]
    assert [attempt.fault for attempt in reply.attempts] == ["cut off at max_tokens 8", ""]


def test_a_cut_off_answer_is_better_than_none(run):
    def only_once(questions):
        if questions[0].max_tokens > 8:
            raise OutOfMemory("too long")
        return [Answer("begun", "length", 5, 8)]

    (reply,) = run(only_once, all_of(ask_for(max_tokens=8)))
    assert (reply.text, reply.finish_reason) == ("begun", "length")


def test_one_bad_request_costs_itself_alone(run):
    failures = {"q2": Corrupt("frame gone"), "q5": ValueError("what is\nthis?")}

    def picky(questions):
        for question in questions:
            if failure := failures.get(text_of(question)):
                raise failure
        return echo(questions)

    replies = run(picky, all_of(*(ask_for(f"q{n}") for n in range(8))))
    assert isinstance(replies[2], Corrupt) and str(replies[2]) == "frame gone"
    assert isinstance(replies[5], Provider) and str(replies[5]) == "tiny@1: ValueError: what is this?"
    assert [r.text for n, r in enumerate(replies) if n not in (2, 5)] == [
        f"answer to q{n}" for n in (0, 1, 3, 4, 6, 7)
    ]


def test_too_large_a_batch_is_halved_and_stays_small(run):
    def small(questions):
        if len(questions) > 2:
            raise OutOfMemory("no more memory")
        return echo(questions)

    model = Model(small)

    async def work(client):
        first = await all_of(*(ask_for(f"q{n}") for n in range(8)))(client)
        before = len(model.batches)
        second = await all_of(*(ask_for(f"p{n}") for n in range(4)))(client)
        return first + second, model.batches[before:]

    replies, later = run(model, work)
    assert [reply.text for reply in replies][-1] == "answer to p3" and len(replies) == 12
    assert max(map(len, later)) <= 2


def test_a_single_call_that_needs_too_much_memory_is_a_failure_of_its_own(run):
    def never(questions):
        raise OutOfMemory("no more memory")

    (failure,) = run(never, all_of(ask_for()))
    assert isinstance(failure, OutOfMemory)


def test_a_folder_that_cannot_be_loaded_stops_every_call(monkeypatch):
    loads = []

    def load(*_):
        loads.append(1)
        raise OSError("no weights\nin it")

    monkeypatch.setattr(local, "check_local", lambda *_: {})
    monkeypatch.setattr(local_transformers, "TransformersModel", load)

    async def main():
        client = LocalClient("transformers", Path("tiny"), Path("frames"), batch=2)
        try:
            return await all_of(*(ask_for(f"q{n}") for n in range(5)))(client)
        finally:
            await client.close()

    found = asyncio.run(main())
    assert [type(error) for error in found] == [UsageError] * 5
    assert str(found[0]) == "--llm-model tiny: cannot be loaded: OSError: no weights in it"
    assert len(loads) == 1


@pytest.mark.parametrize(("config", "fine"), [({}, False), ({"vision_config": {}}, True)])
def test_pictures_for_a_model_that_cannot_see_stop_the_run(run, config, fine):
    request = ask_for(pictures=[Picture("v1/000001.jpg", "0" * 32)])
    (found,) = run(echo, all_of(request), config, flag="--vlm-model")
    if fine:
        assert found.text == "answer to hello"
    else:
        assert isinstance(found, UsageError) and "--vlm-model tiny: cannot see pictures" in str(found)


def test_closing_ends_what_waits_and_what_comes_later(run):
    released = threading.Event()

    def slow(questions):
        assert released.wait(15)
        return echo(questions)

    model = Model(slow)

    async def work(client):
        calls = [asyncio.create_task(client.ask(ask_for(f"q{n}"))) for n in range(3)]
        while not model.batches:
            await asyncio.sleep(0.01)
        calls[0].cancel()
        closing = asyncio.create_task(client.close())
        await asyncio.sleep(0.01)
        released.set()
        await closing
        return await asyncio.gather(*calls, client.ask(ask_for("late")), return_exceptions=True)

    found = run(model, work, batch=1)
    assert [type(outcome) for outcome in found] == [asyncio.CancelledError] * 4
    assert model.batches == [["q0"]]
