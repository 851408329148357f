"""The lines of batch files: written so that any reader takes them, read whatever stands in them."""

import io
import json
import re
import tempfile

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.llm.batch_api import Note, add_taken, drop_note, read_note, taken_of, write_note
from datagen.llm.batch_files import (
    Gathering,
    Replies,
    custom_id,
    drop_torn,
    read_requests,
    request_line,
    take_lock,
)
from datagen.llm.chat import ChatRequest, Message, Text
from datagen.llm.client_reply import Fault
from tests.llm.batch_server import body_for, good


def request(text="hello", **fields):
    return ChatRequest(**({"model": "tiny", "messages": (Message("user", (Text(text),)),)} | fields))


def line(name, text="fine"):
    asked = {"custom_id": name, "body": {"model": "tiny", "messages": [{"content": text}]}}
    return json.dumps(good(asked)).encode() + b"\n"


def replies_in(*lines, ids=("a", "b"), most_bytes=4096):
    file = tempfile.TemporaryFile()  # noqa: SIM115 - Replies keeps it
    file.write(b"".join(lines))
    file.flush()
    return Replies(file, ids, most_bytes)


def said(replies, name):
    return replies.completion(name).choices[0].message.content


def test_a_name_is_the_same_in_every_run_and_another_for_another_request():
    copy = msgspec.json.decode(msgspec.json.encode(request()), type=ChatRequest)
    assert custom_id(copy, 16, ("a", "b")) == custom_id(request(), 16, ("b", "a"))
    assert re.fullmatch("dg-[0-9a-f]{32}", custom_id(request(), 16, ()))
    others = [
        custom_id(request("hello "), 16, ()),
        custom_id(request(), 32, ()),
        custom_id(request(), 16, ("seed",)),
        custom_id(request(sample=1), 16, ()),
        custom_id(request(model="big"), 16, ()),
        custom_id(request(schema="caption"), 16, ()),
    ]
    assert len({custom_id(request(), 16, ()), *others}) == len(others) + 1


@given(st.text(max_size=40), st.sampled_from([b"{}", b'{\n "a": [\r\n1]\n}\n']))
def test_a_request_is_one_line_whatever_stands_in_it(text, schema):
    body = (
        b'{"model":"m","messages":[{"content":' + json.dumps(text).encode() + b'}],"schema":' + schema + b"}"
    )
    written = request_line("dg-1", body)
    assert written.count(b"\n") == 1 and written.endswith(b"\n") and b"\r" not in written
    read = json.loads(written)
    assert read["custom_id"] == "dg-1" and read["body"] == json.loads(body)


def test_requests_are_read_back_in_their_order(tmp_path):
    gathering = Gathering(tmp_path / "sub", "{}.jsonl")
    for name in ("b", "a", "c"):
        gathering.add(name, request_line(name, b'{"model":"tiny","messages":[]}'))
    gathering.finish()
    assert gathering.size == gathering.path.stat().st_size
    assert read_requests(gathering.path) == (("b", "a", "c"), "tiny")
    assert take_lock(gathering.path) is None
    gathering.file.close()
    lock = take_lock(gathering.path)
    assert lock is not None
    lock.close()


@given(st.permutations(range(8)), st.lists(st.integers(0, 7), max_size=4), st.lists(st.binary(max_size=30)))
def test_every_request_finds_its_own_reply_among_all_sorts_of_lines(order, doubled, junk):
    lines = [line(str(n), f"reply {n}") for n in order]
    lines += [line(str(n), "another") for n in doubled]
    junk = [b"{" + bytes(b for b in text if b not in b"\n") + b"\n" for text in junk]
    replies = replies_in(*lines, line("stranger"), *junk, ids=[str(n) for n in range(8)])
    assert [said(replies, str(n)) for n in range(8)] == [f"answer to reply {n}" for n in range(8)]
    assert (len(replies), replies.doubled, replies.unknown) == (8, len(doubled), 1)
    assert replies.unreadable == len(junk)
    replies.close()


ASKED = {"custom_id": "a", "body": {"model": "tiny", "messages": [{"content": "x"}]}}


@pytest.mark.parametrize(
    ("response", "error", "kind", "words"),
    [
        (None, {"code": "batch_expired", "message": "too late"}, "broken", "too late"),
        (None, None, "broken", "no response"),
        ({"status_code": 200, "body": {}}, None, "broken", "0 choices"),
        ({"status_code": 200, "body": None}, None, "broken", "no chat completion"),
        ({"status_code": 200, "body": "<html>"}, None, "broken", "no chat completion"),
        ({"status_code": 200, "body": body_for(ASKED)}, "odd", "broken", "status 200 with an error: odd"),
        ({"status_code": 429, "body": {"error": {"message": "slow"}}}, None, "busy", "slow"),
        ({"status_code": 400, "body": None}, {"error": {"message": "too long"}}, "unusable", "too long"),
        ({"status_code": 400, "body": None}, "just text", "unusable", "just text"),
        ({"status_code": 401, "body": {"error": {"message": "key"}}}, None, "fatal", "key"),
        ({"status_code": "500", "body": [1]}, None, "broken", "500"),
    ],
)
def test_a_line_that_is_no_good_reply_says_what_follows(response, error, kind, words):
    written = json.dumps({"id": "1", "custom_id": "a", "response": response, "error": error}).encode()
    with pytest.raises(Fault) as caught:
        replies_in(written).completion("a")
    assert caught.value.kind == kind and words in caught.value.text


def test_a_huge_reply_is_no_reply():
    replies = replies_in(line("a", "x" * 5000), line("b"))
    with pytest.raises(Fault, match="a reply of 5"):
        replies.completion("a")
    assert said(replies, "b") == "answer to fine"


def test_a_request_without_a_reply_is_told_how_the_batch_ended():
    replies = replies_in(line("b"))
    replies.ended = "expired"
    with pytest.raises(Fault, match="expired without a reply"):
        replies.completion("a")
    assert Replies(io.BytesIO(), ("a",), 10).ignored() == ""


def test_notes_are_kept_whole_and_dropped_whole(tmp_path):
    note = Note(mark="m", endpoint="e", model="tiny", ids=("a", "b"))
    write_note(tmp_path, note)
    assert read_note(tmp_path, "m") == note and read_note(tmp_path, "none") is None
    assert add_taken(tmp_path, "m", ["a"]) == {"a"} and add_taken(tmp_path, "m", ["b"]) == {"a", "b"}
    (tmp_path / "m.jsonl").write_text("")
    drop_torn(tmp_path.glob("*.jsonl"))
    assert (tmp_path / "m.jsonl").exists()
    drop_note(tmp_path, "m")
    assert list(tmp_path.iterdir()) == []
    assert add_taken(tmp_path, "m", ["a"]) == set() == taken_of(tmp_path, "m")
    assert list(tmp_path.iterdir()) == []
