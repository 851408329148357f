"""The client against an endpoint that misbehaves: every call ends, done or with a failure, and in time."""

import asyncio
import json
import threading
import time
from email.utils import formatdate
from pathlib import Path

import pytest

from datagen.errors import Corrupt, Provider, Refused, UsageError
from datagen.llm.chat import ChatReply, ChatRequest, Message, Picture, Text
from datagen.llm.client import Client, ClientLimits
from datagen.llm.replies import schema_text
from tests.llm.bad_server import BadServer, completion, good, http, reset

FRAMES = Path("no-frames")
KEY = "sk-secret-0123456789"
QUICK = ClientLimits(
    call_seconds=1.0,
    budget_seconds=5.0,
    tries=3,
    backoff_seconds=0.02,
    max_backoff_seconds=0.2,
    connect_seconds=1,
)


def ask_for(text="hello", **fields):
    message = Message("user", (Text(text),))
    return ChatRequest(**({"model": "tiny", "messages": (message,), "max_tokens": 16} | fields))


def run(behave, work, limits=QUICK, key=KEY, **options):
    """What `work(client, server)` gives against a server that behaves so, within a minute."""

    async def main():
        async with BadServer(behave) as server:
            client = Client(server.url, key, FRAMES, limits, **options)
            try:
                async with asyncio.timeout(60):
                    return await work(client, server)
            finally:
                await client.close()

    return asyncio.run(main())


def one(behave, **options):
    """The reply to a single call, and the server's record of its calls."""

    async def work(client, server):
        return await client.ask(ask_for()), server.calls

    return run(behave, work, **options)


def first(bad):
    """Behaviour that is bad to the first request and good from then on."""

    async def behave(call):
        if call.number == 0:
            return await bad(call) if callable(bad) else bad
        return good(call)

    return behave


async def hang(call):
    await asyncio.sleep(60)


async def slow_drip(call):
    for byte in good(call):
        call.send.write(bytes([byte]))
        await call.send.drain()
        await asyncio.sleep(0.05)


async def resetting(call):
    await reset(call)


async def closing(call):
    return None


async def within_the_body(call):
    call.send.write(good(call)[:-20])
    return


def chunked(*chunks, end=b"0\r\n\r\n"):
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in chunks) + end


async def within_a_chunk(call):
    call.send.write(chunked(b'{"choices": [', end=b""))
    return


TRANSIENT = {
    "429": http(429, {"error": {"message": "slow down"}}),
    "503": http(503, "busy"),
    "500": http(500, {"error": "boom"}),
    "502 page": http(502, "<html>Bad Gateway</html>"),
    "408": http(408, ""),
    "reset": resetting,
    "closed unanswered": closing,
    "closed within the body": within_the_body,
    "closed within a chunk": within_a_chunk,
    "hang": hang,
    "slow drip": slow_drip,
    "truncated JSON": http(200, json.dumps(completion("x"))[:-9]),
    "invalid JSON": http(200, "{'choices': []}"),
    "invalid UTF-8": http(200, b'{"choices":[{"message":{"content":"\xff"}}]}'),
    "deep JSON": http(200, '{"choices":' + "[" * 200_000),
    "empty body": http(200, ""),
    "no choices": http(200, {"choices": []}),
    "two choices": http(200, {"choices": completion("x")["choices"] * 2}),
    "no content": http(200, {"choices": [{"message": {"role": "assistant"}}]}),
    "null": http(200, "null"),
    "200 with an error": http(200, {"error": {"message": "overloaded", "code": 500}}),
    "200 with an error and null choices": http(200, {"error": "overloaded", "choices": None}),
    "HTML": http(200, "<!doctype html><title>Welcome</title>"),
    "10 MB": http(200, completion("x" * 10_000_000)),
    "10 MB in chunks": chunked(*[b"x" * 100_000] * 100),
    "not HTTP": b"SSH-2.0-OpenSSH_9.0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "endless head": b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 20_000,
    "compressed": http(200, b"\x1f\x8b", "Content-Encoding: gzip"),
}


@pytest.mark.parametrize("fault", TRANSIENT)
def test_a_passing_fault_costs_one_more_try(fault):
    reply, calls = one(first(TRANSIENT[fault]))
    assert reply.text == "answer to hello"
    assert len(calls) == 2
    failed, last = reply.attempts
    assert failed.fault and failed.seconds < 2
    assert (last.status, last.fault, last.prompt_tokens, last.completion_tokens) == (200, "", 7, 3)
    assert KEY not in repr(reply)


@pytest.mark.parametrize("fault", sorted(set(TRANSIENT) - {"hang", "slow drip", "429", "503", "502 page"}))
def test_a_lasting_fault_ends_after_the_tries_allowed(fault):
    async def behave(call):
        bad = TRANSIENT[fault]
        return await bad(call) if callable(bad) else bad

    async def work(client, server):
        with pytest.raises(Provider, match="3 tries, last: ") as caught:
            await client.ask(ask_for())
        assert len(server.calls) == 3
        assert len(caught.value.attempts) == 3 and all(a.fault for a in caught.value.attempts)
        assert KEY not in str(caught.value) + repr(caught.value.attempts)

    run(behave, work)


@pytest.mark.parametrize("fault", ["hang", "slow drip", "429", "503", "502 page"])
def test_hanging_and_overload_end_with_the_time_allowed(fault):
    async def behave(call):
        bad = TRANSIENT[fault]
        return await bad(call) if callable(bad) else bad

    async def work(client, server):
        began = time.monotonic()
        with pytest.raises(Provider):
            await client.ask(ask_for())
        assert time.monotonic() - began < 1.9

    limits = ClientLimits(
        call_seconds=0.3, budget_seconds=1.0, tries=3, backoff_seconds=0.01, max_backoff_seconds=0.1
    )
    run(behave, work, limits)


@pytest.mark.parametrize(
    ("header", "least"),
    [
        ("Retry-After: 1", 0.95),
        ("Retry-After: 0.4", 0.38),
        ("retry-after-ms: 400", 0.38),
        ("x-ratelimit-remaining-requests: 0\r\nx-ratelimit-reset-requests: 400ms", 0.38),
        ("x-ratelimit-remaining-tokens: 0\r\nx-ratelimit-reset-tokens: 0.4s", 0.38),
        ("Retry-After: soon", 0.0),
        ("Retry-After: 0", 0.0),
    ],
)
def test_nobody_calls_before_the_endpoint_wants_it(header, least):
    times = []

    async def behave(call):
        times.append(time.monotonic())
        if call.number == 0:
            return http(429, "", header)
        return good(call)

    async def work(client, server):
        async def later():
            await asyncio.sleep(0.1)
            return await client.ask(ask_for("other"))

        return await asyncio.gather(client.ask(ask_for()), later())

    mine, others = run(behave, work)
    assert (mine.text, others.text) == ("answer to hello", "answer to other")
    assert min(times[1:]) - times[0] >= least
    assert max(times) - times[0] < least + 0.5


def test_retry_after_may_be_a_date():
    async def behave(call):
        return (
            good(call)
            if call.number
            else http(503, "", f"Retry-After: {formatdate(time.time() + 2, usegmt=True)}")
        )

    began = time.monotonic()
    one(behave)
    assert 0.9 < time.monotonic() - began < 2.5


def test_a_call_does_not_wait_for_a_gate_beyond_its_budget():
    async def behave(call):
        return http(429, "", "Retry-After: 86400")

    async def work(client, server):
        began = time.monotonic()
        results = await asyncio.gather(*(client.ask(ask_for()) for _ in range(50)), return_exceptions=True)
        assert {type(r) for r in results} == {Provider}
        with pytest.raises(Provider, match=r"86[34]\d\d s"):
            await client.ask(ask_for())
        assert time.monotonic() - began < 1

    run(behave, work)


def test_a_refusal_is_final():
    body = completion(None)
    body["choices"][0]["message"]["refusal"] = "I cannot help with that."
    for bad in (
        http(200, body),
        http(200, completion("", finish="content_filter")),
        http(400, {"error": {"code": "content_filter", "message": "The prompt was filtered"}}),
        http(403, {"error": {"message": "Your input was flagged"}}),
    ):

        async def work(client, server):
            with pytest.raises(Refused) as caught:
                await client.ask(ask_for())
            assert len(server.calls) == len(caught.value.attempts) == 1

        run(first(bad), work)


@pytest.mark.parametrize(
    "bad",
    [
        http(401, {"error": {"message": f"Incorrect API key provided: {KEY}"}}),
        http(403, {"error": "forbidden"}),
        http(404, {"error": {"message": "The model `tiny` does not exist", "code": "model_not_found"}}),
        http(400, {"error": {"message": "no", "code": "model_not_found"}}),
        http(404, "<html>"),
        http(402, {"error": "Insufficient credits"}),
        http(429, {"error": {"code": "insufficient_quota", "message": "You exceeded your quota"}}),
        http(308, "", "Location: https://elsewhere.example/v1?token=1"),
    ],
)
def test_a_wrong_key_or_model_stops_all_calls_at_once(bad, capfd, caplog):
    async def behave(call):
        return bad

    async def work(client, server):
        results = await asyncio.gather(
            *(client.ask(ask_for(str(n))) for n in range(200)), return_exceptions=True
        )
        assert {type(r) for r in results} == {UsageError}
        assert len(server.calls) <= 64
        with pytest.raises(UsageError, match="OPENAI_API_KEY") as caught:
            await client.ask(ask_for())
        text = str(caught.value)
        assert server.url in text and "model tiny" in text and "\n" not in text
        assert KEY not in text and KEY not in repr(client) and KEY not in repr(caught.value)

    run(behave, work)
    assert KEY not in "".join(capfd.readouterr()) + caplog.text


def test_a_client_error_is_not_tried_again():
    async def work(client, server):
        with pytest.raises(Provider, match="1 try, last: status 413: too large"):
            await client.ask(ask_for())
        assert (await client.ask(ask_for())).text == "answer to hello"

    run(first(http(413, {"error": {"message": "too large"}})), work)


def test_an_address_without_a_server_ends_in_provider_and_one_without_a_host_in_usage_error():
    async def main():
        async with BadServer(closing) as server:
            url = server.url
        client = Client(url, None, FRAMES, QUICK)
        with pytest.raises(Provider, match="3 tries, last: no connection"):
            await client.ask(ask_for())
        await client.close()

    asyncio.run(main())


def test_length_raises_max_tokens_once_and_whitespace_is_returned_as_it_is():
    async def behave(call):
        return http(200, completion(" " * call.body["max_tokens"], finish="length"))

    reply, calls = one(behave)
    assert [c.body["max_tokens"] for c in calls] == [16, 32]
    assert (reply.text, reply.finish_reason) == (" " * 32, "length")
    assert [(a.finish_reason, a.completion_tokens) for a in reply.attempts] == [("length", 3)] * 2


def test_a_reply_cut_off_is_better_than_none():
    async def behave(call):
        return http(400, "too long") if call.number else http(200, completion("The", finish="length"))

    reply, _ = one(behave)
    assert (reply.text, reply.finish_reason) == ("The", "length")
    assert [a.status for a in reply.attempts] == [200, 400]


def test_response_format_is_left_out_where_it_is_not_supported_and_that_is_remembered():
    async def behave(call):
        if "response_format" in call.body:
            return http(400, {"error": {"message": "Unknown field", "param": "response_format"}})
        return good(call)

    async def work(client, server):
        await asyncio.gather(*(client.ask(ask_for(schema="score")) for _ in range(5)))
        before = len(server.calls)
        reply = await client.ask(ask_for(schema="score"))
        assert len(server.calls) == before + 1 and len(reply.attempts) == 1
        form = server.calls[0].body["response_format"]
        assert form == {
            "type": "json_schema",
            "json_schema": {"name": "score", "schema": json.loads(schema_text("score")), "strict": True},
        }

    run(behave, work)


def test_max_completion_tokens_is_used_where_it_is_asked_for():
    async def behave(call):
        if "max_tokens" in call.body:
            text = (
                "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
            )
            return http(400, {"error": {"message": text, "code": "unsupported_parameter"}})
        assert call.body["max_completion_tokens"] == 16
        return good(call)

    assert one(behave)[0].text == "answer to hello"


def test_a_field_refused_for_ever_does_not_loop():
    async def behave(call):
        return http(400, "response_format seed temperature max_tokens")

    async def work(client, server):
        with pytest.raises(Provider):
            await client.ask(ask_for(schema="score"))
        assert len(server.calls) == 2

    run(behave, work)


@pytest.mark.parametrize("pause", [None, 0.0, 0.02])
@pytest.mark.parametrize("ids", ["chatcmpl-{:032x}", "same"])
def test_a_doubled_response_never_answers_another_request(pause, ids):
    async def behave(call):
        data = http(200, completion(f"answer to {call.text}", id=ids.format(call.number)))
        if call.number % 3 == 0:
            call.send.write(data)
            if pause is not None:
                await asyncio.sleep(pause)
        return data

    async def work(client, server):
        for n in range(30):
            assert (await client.ask(ask_for(str(n)))).text == f"answer to {n}"
            await asyncio.sleep(2 * (pause or 0) if ids == "same" else 0)
        assert server.connections >= 10

    run(behave, work)


@pytest.mark.parametrize("ids", ["own", "echo", "header"])
def test_a_double_that_comes_after_the_next_request_is_told_by_its_id(ids):
    late = {}

    async def behave(call):
        mine = call.header("x-request-id")
        reply_id = {"own": f"id-{call.number}", "echo": f"chatcmpl-{mine}", "header": "same"}[ids]
        headers = [f"X-Request-ID: {mine}"] if ids == "header" else []
        data = http(200, completion(f"answer to {call.text}", id=reply_id), *headers)
        before, late[call.send] = late.get(call.send), data if call.number != 0 else None
        return before + data if before else data

    async def work(client, server):
        for n in range(20):
            assert (await client.ask(ask_for(str(n)))).text == f"answer to {n}"
        assert server.connections >= 10

    run(behave, work)


def test_connections_are_used_again_even_if_every_reply_has_the_same_id():
    async def behave(call):
        return http(200, completion(call.text))

    async def work(client, server):
        for n in range(50):
            assert (await client.ask(ask_for(str(n)))).text == str(n)
        assert len(server.calls) == 50 and server.connections == 1

    run(behave, work)


def test_a_connection_closed_while_idle_is_not_used():
    async def behave(call):
        call.send.write(good(call))
        await call.send.drain()
        return

    async def work(client, server):
        for n in range(10):
            reply = await client.ask(ask_for(str(n)))
            assert reply.text == f"answer to {n}"
        assert len(server.calls) == 10

    run(behave, work)


def test_calls_that_fail_together_have_each_their_own_attempts():
    async def behave(call):
        return (
            http(500, "") if call.text == "tried" and call.number == 0 else http(429, "", "Retry-After: 99")
        )

    async def work(client, server):
        texts = ("tried", "waiting", "waiting")
        failures = await asyncio.gather(*(client.ask(ask_for(t)) for t in texts), return_exceptions=True)
        assert {type(failure) for failure in failures} == {Provider}
        assert len(set(map(id, failures))) == 3
        assert [len(failure.attempts) for failure in failures] == [1, 1, 0]

    run(behave, work, ClientLimits(max_in_flight=1, budget_seconds=2, call_seconds=1, backoff_seconds=0.01))


def test_a_reply_that_came_while_this_process_was_stopped_is_read_and_not_asked_for_again():
    servers, ready = [], threading.Event()

    def serve() -> None:
        async def behave(call):
            await asyncio.sleep(0.2)
            return good(call)

        async def run() -> None:
            over = asyncio.Event()
            async with BadServer(behave) as server:
                servers.extend([server, asyncio.get_running_loop(), over])
                ready.set()
                await over.wait()

        asyncio.run(run())

    thread = threading.Thread(target=serve)
    thread.start()
    assert ready.wait(10)
    server, loop, over = servers

    async def main() -> list[ChatReply]:
        client = Client(server.url, KEY, FRAMES, QUICK)
        calls = [asyncio.create_task(client.ask(ask_for(f"{n}"))) for n in range(8)]
        await asyncio.sleep(0.1)
        time.sleep(QUICK.call_seconds + 0.3)  # as a process that is stopped
        try:
            return await asyncio.gather(*calls)
        finally:
            await client.close()

    try:
        assert [reply.text for reply in asyncio.run(main())] == [f"answer to {n}" for n in range(8)]
        assert len(server.calls) == 8
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()


def test_an_outage_is_sat_out():
    async def main():
        client = None
        async with BadServer(lambda call: _good(call)) as server:
            limits = ClientLimits(tries=3, budget_seconds=8, backoff_seconds=0.05, max_backoff_seconds=0.3)
            client = Client(server.url, KEY, FRAMES, limits)
            await client.ask(ask_for())
            port = server.port
        calls = [asyncio.create_task(client.ask(ask_for(str(n)))) for n in range(300)]
        await asyncio.sleep(1.5)
        assert not any(call.done() for call in calls)
        async with BadServer(lambda call: _good(call), port):
            began = time.monotonic()
            replies = await asyncio.gather(*calls)
            assert time.monotonic() - began < 2
            assert [r.text for r in replies] == [f"answer to {n}" for n in range(300)]
        await client.close()

    asyncio.run(main())


def test_an_outage_that_lasts_ends_every_call_in_time():
    async def main():
        async with BadServer(lambda call: _good(call)) as server:
            limits = ClientLimits(
                tries=3, call_seconds=0.5, budget_seconds=1, backoff_seconds=0.05, max_backoff_seconds=0.3
            )
            client = Client(server.url, KEY, FRAMES, limits)
            await client.ask(ask_for())
        began = time.monotonic()
        results = await asyncio.gather(*(client.ask(ask_for()) for _ in range(500)), return_exceptions=True)
        assert {type(r) for r in results} == {Provider}
        assert time.monotonic() - began < 3
        await client.close()

    asyncio.run(main())


async def _good(call):
    return good(call)


def test_an_endpoint_that_takes_64_calls_is_neither_overloaded_nor_starved():
    refused = 0

    async def behave(call):
        nonlocal refused
        if server_of[0].in_flight > 64:
            refused += 1
            return http(429, "")
        await asyncio.sleep(0.1)
        return good(call)

    server_of = []

    async def work(client, server):
        server_of.append(server)
        replies = await asyncio.gather(*(client.ask(ask_for(str(n))) for n in range(1500)))
        assert all(isinstance(r, ChatReply) for r in replies)
        # On an idle machine 31 are refused; the simulation in test_limiter is exact.
        assert refused <= 0.1 * (1500 + refused)
        assert 50 <= client.limiter.limit <= 80

    run(behave, work, ClientLimits())


def test_random_refusals_do_not_starve():
    async def behave(call):
        if hash((call.number, 1)) % 20 == 0:
            return http(429, "")
        await asyncio.sleep(0.01)
        return good(call)

    async def work(client, server):
        await asyncio.gather(*(client.ask(ask_for(str(n))) for n in range(3000)))
        assert client.limiter.limit >= 64

    run(behave, work, ClientLimits(backoff_seconds=0.02))


def test_a_fixed_number_in_flight_is_kept_to():
    async def behave(call):
        await asyncio.sleep(0.005)
        return good(call)

    async def work(client, server):
        await asyncio.gather(*(client.ask(ask_for(str(n))) for n in range(100)))
        assert server.most_in_flight == 7

    run(behave, work, ClientLimits(max_in_flight=7))


def test_cancelled_calls_leave_nothing_behind():
    async def behave(call):
        if call.text == "hang":
            await asyncio.sleep(60)
        return good(call)

    async def work(client, server):
        hanging = [asyncio.create_task(client.ask(ask_for("hang"))) for _ in range(20)]
        await asyncio.sleep(0.1)
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
        assert client.limiter.in_flight == 0
        assert (await client.ask(ask_for())).text == "answer to hello"

    run(behave, work, ClientLimits(max_in_flight=4))


def test_hostile_text_goes_there_and_back_unchanged():
    text = 'a "quoted" \\ line\n\x00\u2028 <|im_end|> 日本語 🙂'

    async def behave(call):
        return http(200, completion(call.text))

    async def work(client, server):
        return (await client.ask(ask_for(text))).text

    assert run(behave, work) == text


def test_a_frame_that_is_not_there_is_corrupt():
    async def work(client, server):
        message = Message("user", (Picture("v1/000001.jpg", "0" * 32), Text("what?")))
        with pytest.raises(Corrupt, match=r"v1/000001\.jpg"):
            await client.ask(ask_for(messages=(message,)))
        assert client.limiter.in_flight == 0 and not server.calls

    run(_good, work)
