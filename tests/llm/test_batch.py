"""Batches through an endpoint that misbehaves: each call ends, in its own reply or a failure, paid once."""

import asyncio
import json
from hashlib import blake2b
from pathlib import Path

import pytest
from msgspec import structs

from datagen.errors import Corrupt, Invalid, Provider, Refused, UsageError
from datagen.llm.batch import BatchClient, open_batch_client
from datagen.llm.batch_files import BatchLimits
from datagen.llm.chat import ChatRequest, Message, Picture, Text
from tests.llm.batch_server import KEY, BatchServer, bad, body_for, complete, expired, good, read_strictly

QUICK = BatchLimits(
    quiet_seconds=0.05,
    poll_seconds=0.02,
    folder_poll_seconds=0.02,
    patience_seconds=60.0,
    backoff_seconds=0.02,
    max_backoff_seconds=0.05,
    settle_seconds=0.05,
    call_seconds=30.0,
)


def ask_for(text="hello", **fields):
    message = Message("user", (Text(text),))
    return ChatRequest(**({"model": "tiny", "messages": (message,), "max_tokens": 16} | fields))


def run(state: Path, work, server: BatchServer | None = None, key=KEY, limits=QUICK, url=None, said=None):
    """What `work(client, server)` gives, within two minutes."""

    async def main():
        async with server or BatchServer() as here:
            say = (said if said is not None else []).append
            client = open_batch_client(url or here.url, key, state, state / "state", limits, say=say)
            try:
                async with asyncio.timeout(120):
                    return await work(client, here)
            finally:
                await client.close()

    return asyncio.run(main())


async def ask_all(client: BatchClient, count: int, **fields):
    asks = (client.ask(ask_for(f"question {i}", **fields)) for i in range(count))
    return await asyncio.gather(*asks, return_exceptions=True)


def many(state, server=None, count=6, **options):
    """Replies, or failures, to so many questions."""

    async def work(client, server):
        return await ask_all(client, count)

    return run(state, work, server, **options)


def texts(replies):
    return [reply.text if not isinstance(reply, Exception) else reply for reply in replies]


ANSWERS = [f"answer to question {i}" for i in range(6)]


def left(state: Path) -> list[str]:
    folder = state / "state"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_calls_go_out_together_and_each_gets_its_own_reply(tmp_path):
    server, said = BatchServer(), []
    replies = many(tmp_path, server, said=said)
    assert texts(replies) == ANSWERS
    assert len(server.batches) == 1 and server.calls["upload"] == 1
    assert (replies[0].prompt_tokens, replies[0].completion_tokens, replies[0].model) == (7, 3, "tiny")
    assert replies[0].finish_reason == "stop" and [a.status for a in replies[0].attempts] == [200]
    assert len(said) == 1 and "6 requests sent as batch batch_0" in said[0]
    assert left(tmp_path) == [] and server.deleted == ["file-0"]


def test_lines_in_another_order_doubled_unknown_torn_or_html_harm_nobody(tmp_path):
    def finish(batch, requests, lines):
        stranger = {**lines[0], "custom_id": "dg-" + "0" * 32}
        twice = {
            **lines[2],
            "response": {"status_code": 200, "body": body_for(requests[2], "a second answer")},
        }
        complete(batch, requests, [*lines[::-1], twice, stranger])
        batch["output"] += [b"<html>\n", b'{"custom_id": "torn', b"\n[1]\n"]

    server, said = BatchServer(), []
    server.finish = finish
    assert texts(many(tmp_path, server, said=said)) == ANSWERS
    assert "lines ignored: 3 unreadable, 1 unknown, 1 doubled" in said[-1]
    assert len(server.batches) == 1 and server.calls["content"] == 3


def test_a_batch_that_expires_half_done_is_used_and_completed_by_another(tmp_path):
    def finish(batch, requests, lines):
        if batch["id"] == "batch_0":
            lines = lines[:3] + [expired(request) for request in requests[3:5]]
        complete(batch, requests, lines)
        batch["status"] = "expired" if batch["id"] == "batch_0" else "completed"

    server = BatchServer()
    server.finish = finish
    replies = many(tmp_path, server)
    assert texts(replies) == ANSWERS
    assert set(server.paid.values()) == {1} and len(server.batches) == 2
    assert len(read_strictly(server.files[server.batches["batch_1"]["input_file_id"]])) == 3
    assert "could not be executed in time" in replies[4].attempts[0].fault
    assert "expired without a reply" in replies[5].attempts[0].fault
    assert left(tmp_path) == []


def test_what_is_missing_again_and_again_ends_as_provider(tmp_path):
    server = BatchServer()
    server.answer = lambda request: None if "question 5" in json.dumps(request) else good(request)
    replies = many(tmp_path, server)
    assert texts(replies[:5]) == ANSWERS[:5]
    assert isinstance(replies[5], Provider) and "completed without a reply" in str(replies[5])
    assert len(server.batches) == QUICK.rounds == len(replies[5].attempts)
    assert left(tmp_path) == []


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_batch_that_ends_with_nothing_is_made_again(tmp_path, status):
    def finish(batch, requests, lines):
        if batch["id"] == "batch_0":
            batch["status"] = status
        else:
            complete(batch, requests, lines)

    server = BatchServer()
    server.finish = finish
    assert texts(many(tmp_path, server)) == ANSWERS and len(server.batches) == 2


def test_requests_for_which_a_batch_was_turned_away_end_and_the_others_go_on(tmp_path):
    def finish(batch, requests, lines):
        wrong = [n for n, request in enumerate(requests, 1) if "question 3" in json.dumps(request)]
        if not wrong:
            return complete(batch, requests, lines)
        batch["status"] = "failed"
        batch["errors"] = {"data": [{"code": "invalid_request", "message": "is bad", "line": wrong[0]}]}
        return None

    server = BatchServer()
    server.finish = finish
    replies = many(tmp_path, server)
    assert isinstance(replies[3], Provider) and "is bad" in str(replies[3]) and len(server.batches) == 2
    assert texts(replies[:3] + replies[4:]) == ANSWERS[:3] + ANSWERS[4:]


def test_a_queue_limit_makes_batches_smaller_until_they_are_taken(tmp_path):
    def finish(batch, requests, lines):
        if len(requests) <= 2:
            return complete(batch, requests, lines)
        error = {"code": "token_limit_exceeded", "message": "Enqueued token limit reached", "line": None}
        batch.update(status="failed", errors={"data": [error]})
        return None

    server = BatchServer()
    server.finish = finish
    replies = many(tmp_path, server)
    assert texts(replies) == ANSWERS and all(len(reply.attempts) == 1 for reply in replies)
    assert set(server.paid.values()) == {1}


def test_a_line_with_an_error_is_read_as_the_response_it_was(tmp_path):
    server = BatchServer()
    tried = []

    def answer(request):
        text = request["body"]["messages"][-1]["content"]
        tried.append((text, "seed" in request["body"]))
        if text == "question 0":
            return bad(request, 400, "This was flagged", "content_policy_violation")
        if text == "question 1":
            return bad(request, 400, "maximum context length is 8", "context_length_exceeded")
        if text == "question 2" and len(tried) < 7:
            return bad(request, 500, "something broke")
        if text == "question 3" and "seed" in request["body"]:
            return bad(request, 400, "Unsupported parameter: 'seed'")
        if text == "question 4":
            return good(request, text="withheld", finish="content_filter")
        return good(request)

    server.answer = answer

    async def work(client, server):
        return await ask_all(client, 6, seed=1)

    replies = run(tmp_path, work, server)
    assert isinstance(replies[0], Refused) and isinstance(replies[4], Refused)
    assert isinstance(replies[1], Provider) and "context length" in str(replies[1])
    assert [a.status for a in replies[1].attempts] == [400]
    assert texts([replies[2], replies[3], replies[5]]) == [ANSWERS[2], ANSWERS[3], ANSWERS[5]]
    assert [a.status for a in replies[2].attempts] == [500, 200] and ("question 3", False) in tried


def test_a_reply_cut_off_is_asked_for_once_more_with_twice_the_room(tmp_path):
    server = BatchServer()
    asked = []

    def answer(request):
        asked.append(request["body"]["max_tokens"])
        return good(request, finish="length" if asked[-1] == 16 or "1" in str(request) else "stop")

    server.answer = answer
    replies = many(tmp_path, server, count=1)
    assert asked == [16, 32] and [a.finish_reason for a in replies[0].attempts] == ["length", "length"]
    assert replies[0].text == ANSWERS[0] and "cut off at max_tokens 16" in replies[0].attempts[0].fault


@pytest.mark.parametrize("what", ["upload", "create", "retrieve", "content", "list"])
def test_faults_of_the_endpoint_are_outlasted_and_nothing_is_paid_twice(tmp_path, what):
    server = BatchServer()
    server.faults = {"create": ["lost"]} if what == "list" else {}
    server.faults[what] = [429, 500, 503, "reset", "html", "lost"]
    assert texts(many(tmp_path, server)) == ANSWERS
    assert not server.faults[what]
    assert set(server.paid.values()) == {1} and len(server.batches) == 1


def test_an_endpoint_that_restarts_meanwhile_is_waited_for(tmp_path):
    server = BatchServer()
    server.polls = 3

    async def work(client, server):
        asking = asyncio.create_task(ask_all(client, 6))
        while server.calls["retrieve"] < 1:
            await asyncio.sleep(0.01)
        await server.__aexit__()
        await asyncio.sleep(0.2)
        await server.__aenter__()
        return await asking

    assert texts(run(tmp_path, work, server)) == ANSWERS and len(server.batches) == 1


def test_an_outage_longer_than_patience_ends_as_provider_and_the_batch_is_fetched_later(tmp_path):
    server = BatchServer()
    server.faults["retrieve"] = [503] * 1000
    replies = many(tmp_path, server, limits=structs.replace(QUICK, patience_seconds=0.2))
    assert all(isinstance(reply, Provider) and "look at batch" in str(reply) for reply in replies)
    server.faults.clear()
    assert texts(many(tmp_path, server)) == ANSWERS
    assert len(server.batches) == 1 and left(tmp_path) == []


@pytest.mark.parametrize(
    ("faults", "key", "words"),
    [
        ({"upload": [404]}, KEY, "no Batch API"),
        ({"create": [405]}, KEY, "no Batch API"),
        ({"upload": [403]}, KEY, "OPENAI_API_KEY"),
        ({}, "sk-wrong", "OPENAI_API_KEY"),
    ],
)
def test_what_no_batch_can_cure_stops_the_run_and_tells_no_key(tmp_path, faults, key, words):
    server = BatchServer()
    server.faults = faults
    replies = many(tmp_path, server, key=key)
    assert all(isinstance(reply, UsageError) and words in str(reply) for reply in replies)
    assert all("sk-" not in str(reply) for reply in replies) and not server.paid


def test_an_unknown_model_stops_the_run(tmp_path):
    def finish(batch, requests, lines):
        error = {"code": "model_not_found", "message": "The model `tiny` does not exist", "line": 1}
        batch.update(status="failed", errors={"data": [error]})

    server = BatchServer()
    server.finish = finish
    replies = many(tmp_path, server)
    assert all(isinstance(reply, UsageError) and "tiny" in str(reply) for reply in replies)


def test_an_address_where_nobody_is_stops_the_run(tmp_path):
    replies = many(tmp_path, url="http://127.0.0.1:1/v1")
    assert all(isinstance(reply, UsageError) and "check the URL" in str(reply) for reply in replies)


def test_files_keep_to_their_limits_and_to_one_model(tmp_path):
    async def work(client, server):
        a, b = await asyncio.gather(ask_all(client, 6), ask_all(client, 6, model="other"))
        return a + b

    server = BatchServer()
    few = structs.replace(QUICK, most_requests=4)
    assert texts(run(tmp_path / "few", work, server, limits=few)) == ANSWERS * 2
    sizes = [len(read_strictly(server.files[b["input_file_id"]])) for b in server.batches.values()]
    assert sorted(sizes) == [2, 2, 4, 4]

    server = BatchServer()
    small = structs.replace(QUICK, most_bytes=400)
    assert texts(run(tmp_path / "small", work, server, limits=small)) == ANSWERS * 2
    uploaded = [len(server.files[batch["input_file_id"]]) for batch in server.batches.values()]
    assert max(uploaded) <= 400 and len(uploaded) > 4

    none = structs.replace(QUICK, most_bytes=50)
    assert all(isinstance(r, Invalid) for r in many(tmp_path / "none", limits=none))


def test_pictures_travel_inside_the_file_and_a_missing_one_concerns_its_call_alone(tmp_path):
    (tmp_path / "v").mkdir()
    data = b"\xff\xd8 a picture \xff\xd9"
    (tmp_path / "v" / "1.jpg").write_bytes(data)

    def picture(name):
        parts = (Picture(name, blake2b(data, digest_size=16).hexdigest()), Text("what is it?"))
        return ChatRequest(model="tiny", messages=(Message("user", parts),), schema="caption")

    async def work(client, server):
        asks = (client.ask(picture(f"v/{i}.jpg")) for i in (1, 2))
        return await asyncio.gather(*asks, return_exceptions=True)

    server = BatchServer()
    found, missing = run(tmp_path, work, server)
    assert found.text == "answer to what is it?" and isinstance(missing, Corrupt)
    (request,) = read_strictly(server.files["file-0"])
    assert request["body"]["messages"][0]["content"][0]["image_url"]["url"].startswith("data:image/jpeg")
    assert request["body"]["response_format"]["json_schema"]["name"] == "caption"


def test_two_calls_that_ask_the_same_are_sent_as_one(tmp_path):
    async def work(client, server):
        return await asyncio.gather(*(client.ask(ask_for("the same")) for _ in range(3)))

    server = BatchServer()
    assert texts(run(tmp_path, work, server)) == ["answer to the same"] * 3
    assert server.paid.total() == 1


def test_text_that_is_no_text_concerns_its_call_alone(tmp_path):
    async def work(client, server):
        asks = (client.ask(ask_for(text)) for text in ("\ud800", "fine"))
        return await asyncio.gather(*asks, return_exceptions=True)

    wrong, fine = run(tmp_path, work)
    assert isinstance(wrong, Invalid) and fine.text == "answer to fine"
