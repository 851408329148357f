import asyncio
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from datagen.errors import Failure, Invalid, Provider, Refused
from datagen.llm.chat import ChatRequest, Message, Text
from datagen.llm.repair import Fault, all_of, ask_traced, calls_at, failed_calls
from datagen.records import Call
from tests.llm.scripted import Scripted, faults_in, repairs, said, text_of

REQUEST = ChatRequest(
    model="m",
    messages=(Message("system", (Text("Help."),)), Message("user", (Text("Write."),))),
    schema="caption",
    temperature=0.7,
    max_tokens=100,
    prompt="caption/v1:00000000",
)


def caption(seen="ok", heard=None, objects=()):
    return {
        "seen": seen,
        "heard": heard,
        "actions": [],
        "objects": list(objects),
        "state_changes": [],
        "on_screen_text": [],
        "uncertain": [],
    }


def check(value):
    """Every text must be `ok`."""
    texts = {"/seen": value["seen"], "/heard": value["heard"]} | {
        f"/objects/{i}": text for i, text in enumerate(value["objects"])
    }
    return [Fault(path, "format", t, "ok") for path, t in texts.items() if t not in ("ok", None)]


def run(*replies):
    model = Scripted(*replies)
    value, faults, _ = asyncio.run(ask_traced(REQUEST, check, model))
    return value, [fault.path for fault in faults], model.requests


def test_a_good_reply_costs_one_call():
    value, faults, requests = run(caption())
    assert value == caption() and faults == [] and requests == [REQUEST]


def test_only_what_is_wrong_goes_back_and_only_that_is_replaced():
    wrong = caption("bad <|im_end|>", "ok", ["ok", "also bad"])
    mended = repairs(__seen="ok", __objects__1="ok", __heard="changed unasked")
    value, faults, requests = run(wrong, mended)
    assert value == caption("ok", "ok", ["ok", "ok"]) and faults == [] and len(requests) == 2
    again = requests[1]
    assert faults_in(again) == [
        {"path": "/seen", "code": "format", "text": "bad", "allowed": "ok"},
        {"path": "/objects/1", "code": "format", "text": "also bad", "allowed": "ok"},
    ]
    assert again.messages[:2] == REQUEST.messages and [m.role for m in again.messages[2:]] == [
        "assistant",
        "user",
    ]
    assert again.schema == "repair" and again.prompt.startswith("caption/v1:00000000+repair/v1:")
    assert "im_end" not in text_of(again)


def test_two_rounds_if_the_first_one_helps():
    value, faults, requests = run(
        caption("bad", "bad"), repairs(__seen="ok", __heard="bad still"), repairs(__heard="ok")
    )
    assert value == caption("ok", "ok") and faults == [] and len(requests) == 3


def test_no_third_round():
    value, faults, requests = run(
        caption("bad", "bad", ["bad"]),
        repairs(__seen="ok"),
        repairs(__heard="ok"),
        repairs(__objects__0="ok"),
    )
    assert value == caption("ok", "ok", ["bad"]) and faults == ["/objects/0"] and len(requests) == 3


@pytest.mark.parametrize(
    "useless",
    [
        repairs(__seen="bad in another way"),
        repairs(),
        repairs(__objects__7="ok", __nothing="ok", path="ok"),
        repairs(__seen=None),
        repairs(__seen=["ok"]),
        "I am sorry.",
        Refused("no"),
        {"repairs": [{"path": "/seen", "value": {"a": 1}}]},
    ],
)
def test_a_round_that_helps_nothing_is_the_last_and_changes_nothing(useless):
    value, faults, requests = run(caption("bad"), useless)
    assert value == caption("bad") and faults == ["/seen"] and len(requests) == 2


def test_a_round_that_makes_it_worse_is_not_taken():
    def worse(value):
        return [Fault("/seen", "x", "", "")] * (1 if value["seen"] == "bad" else 2)

    model = Scripted(caption("bad"), repairs(__seen="worse"))
    value, faults, _ = asyncio.run(ask_traced(REQUEST, worse, model))
    assert value == caption("bad") and len(faults) == 1 and len(model.requests) == 2


def test_what_cannot_be_read_is_asked_for_again_as_a_whole():
    value, faults, requests = run('{"seen": "o', caption("bad"), repairs(__seen="ok"))
    assert value == caption() and faults == [] and len(requests) == 3
    assert requests[1].schema == "caption" and requests[1].max_tokens == 100
    assert '{"seen": "o' in text_of(requests[1], "assistant")
    assert "not JSON" in faults_in(requests[1])[0]["allowed"]
    # The repair is one of the reply that could be read.
    assert requests[2].messages[:2] == REQUEST.messages
    assert json.loads(requests[2].messages[2].parts[0].text) == caption("bad")


def test_a_reply_that_was_cut_off_gets_more_room():
    _, _, requests = run(said('{"seen": "', "length"), caption())
    assert [request.max_tokens for request in requests] == [100, 200]


def test_twice_unreadable_is_invalid():
    model = Scripted("", "x" * 100_000)
    with pytest.raises(Invalid, match=r"caption/v1.*not JSON"):
        asyncio.run(ask_traced(REQUEST, check, model))
    assert len(model.requests) == 2
    assert text_of(model.requests[1], "assistant") == "(nothing)"


@pytest.mark.parametrize("failure", [Refused("no"), Provider("down")])
def test_failures_of_the_first_call_are_not_hidden(failure):
    with pytest.raises(type(failure)):
        run(failure)


def test_a_dead_endpoint_is_no_useless_round():
    with pytest.raises(Provider):
        run(caption("bad"), Provider("down"))


def test_all_come_to_an_end_before_one_fails():
    done = []

    async def task(n):
        await asyncio.sleep(0.01 * n)
        done.append(n)
        if n < 2:
            raise Provider(str(n))

    async def both():
        with pytest.raises(Provider, match="0"):
            await all_of(map(task, range(4)))

    asyncio.run(both())
    assert done == [0, 1, 2, 3]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=30) | st.just(json.dumps(caption("bad"))), min_size=1, max_size=4))
def test_whatever_is_replied_ends_in_a_value_or_invalid(replies):
    try:
        value, _, requests = run(*replies)
    except Invalid:
        return
    assert set(value) == set(caption()) and len(requests) <= 3


def numbered(*replies):
    """A model whose calls are called 1, 2, ..., also those that fail."""
    model = Scripted(*replies)

    async def ask(request):
        number = str(len(model.requests) + 1)
        try:
            return replace(await model(request), id=number)
        except Failure as failure:
            failure.call_id = number
            raise

    return ask


def trace(*replies):
    _, _, found = asyncio.run(ask_traced(REQUEST, check, numbered(*replies)))
    return [(path, call.id, call.role) for path, call in found]


def test_the_calls_of_a_value_are_those_that_gave_it():
    wrong = caption("bad", "ok", ["ok", "also bad"])
    assert trace(caption()) == [("", "1", "wrote")]
    assert trace(wrong, repairs(__seen="ok", __objects__1="ok", __heard="changed unasked")) == [
        ("", "1", "wrote"),
        ("/seen", "2", "repaired"),
        ("/objects/1", "2", "repaired"),
    ]
    # A repair that does not help, or does not fit the schema, gave nothing.
    assert trace(wrong, repairs(__seen="worse", __objects__1="bad")) == [("", "1", "wrote")]
    assert trace(wrong, repairs(__seen=None, __objects__1="ok"), repairs()) == [
        ("", "1", "wrote"),
        ("/objects/1", "2", "repaired"),
    ]
    assert trace("no JSON", caption()) == [("", "1", "wrote"), ("", "2", "repaired")]


def test_a_text_has_the_calls_of_what_holds_it_and_of_what_is_beside_it():
    paths = [
        "",
        "/q/0/question",
        "/q/0/answers/1/reply",
        "/q/0/answers/1/evidence/0",
        "/q/0/type",
        "/q/10/type",
    ]
    calls = [(path, Call(id=path, role="wrote", prompt="", model="", served="")) for path in paths]

    def named(path):
        return [call.id for call in calls_at(tuple(calls), path)]

    assert named("/q/0/question") == ["", "/q/0/question", "/q/0/type"]
    assert named("/q/0/answers/1/reply") == ["", "/q/0/answers/1/reply", "/q/0/answers/1/evidence/0"]
    assert named("/q/0/answers/0/reply") == [""] and named("/q/1/question") == [""]


@pytest.mark.parametrize("last", [Refused("no"), Provider("gone"), "still no JSON"])
def test_a_failure_has_the_calls_that_led_to_it(last):
    with pytest.raises(Failure) as raised:
        trace("no JSON", last)
    assert [call.id for call in failed_calls(raised.value)] == ["1", "2"]
