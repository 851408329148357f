"""The reader of responses, the times in headers, addresses, and the bytes of requests."""

import asyncio
import itertools
import json
import os
from base64 import b64decode
from hashlib import blake2b
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.errors import Corrupt, Invalid, UsageError
from datagen.llm.chat import ChatRequest, Message, Picture, Text
from datagen.llm.client_address import read_address
from datagen.llm.client_reply import asked_wait, read_fault
from datagen.llm.messages import RequestEncoder, frame_digest
from datagen.llm.replies import schema_text
from datagen.llm.transport_http import Broken, Response, ResponseReader

BODY = b'{"a": "\r\n\r\n0\r\n"}'


def framed(kind, body, after=b""):
    if kind == "length":
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nA: b\r\n\r\n%s%s" % (len(body), body, after)
    if kind == "announced":
        return b"HTTP/1.1 100 Continue\r\n\r\n" + framed("length", body, after)
    half = len(body) // 2
    chunks = b"".join(b"%X;x=y\r\n%s\r\n" % (len(c), c) for c in (body[:half], body[half:]) if c)
    trailer = b"T: v\r\n" if kind == "trailers" else b""
    return (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nA: b\r\n\r\n"
        + chunks
        + b"0\r\n"
        + trailer
        + b"\r\n"
        + after
    )


@given(
    kind=st.sampled_from(["length", "announced", "chunked", "trailers"]),
    body=st.binary(max_size=60),
    after=st.sampled_from([b"", b"H"]),
    cuts=st.lists(st.integers(0, 250), max_size=6),
)
def test_a_response_is_the_same_however_it_is_cut_into_pieces(kind, body, after, cuts):
    data = framed(kind, body, after)
    edges = sorted({0, len(data), *(c for c in cuts if c < len(data))})
    reader, found = ResponseReader(1000), None
    for start, end in itertools.pairwise(edges):
        if found is None:
            found = reader.feed(data[start:end])
    assert found is not None and found.body == body and found.status == 200 and found.headers["a"] == "b"
    # Bytes beyond the response may come with it or after it.
    assert reader.reusable or after
    if after and len(edges) == 2:
        assert not reader.reusable


@given(st.binary(max_size=300), st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n", framed("chunked", b"")[:-5]]))
def test_arbitrary_bytes_are_a_response_or_broken(data, start):
    reader = ResponseReader(100)
    try:
        found = reader.feed(start + data)
        found = found or reader.end()
    except Broken:
        return
    assert len(found.body) <= 300


@pytest.mark.parametrize("cut", range(1, len(framed("chunked", BODY))))
def test_a_response_cut_short_is_broken(cut):
    reader = ResponseReader(1000)
    assert reader.feed(framed("chunked", BODY)[:cut]) is None
    with pytest.raises(Broken):
        reader.end()


def test_where_only_closing_ends_the_body_the_connection_is_not_used_again():
    reader = ResponseReader(1000)
    assert reader.feed(b"HTTP/1.0 200 OK\r\n\r\n{}") is None
    assert reader.end().body == b"{}" and not reader.reusable


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 99 X\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n",
    ],
)
def test_unclear_framing_is_broken(head):
    with pytest.raises(Broken):
        ResponseReader(1000).feed(head)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"retry-after": "1" * 400}, None),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1h2m3.5s"}, 3723.5),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}, 360),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "20ms"}, 0.02),
        ({"x-ratelimit-remaining-tokens": "1", "x-ratelimit-reset-tokens": "6m0s"}, None),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "12"}, 12),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1500000000"}, None),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1.2.3s"}, None),
    ],
)
def test_how_long_an_endpoint_wants_no_calls(headers, seconds):
    assert asked_wait(headers) == seconds


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://h:8000", "http://h:8000/v1/chat/completions"),
        ("http://h:8000/v1/", "http://h:8000/v1/chat/completions"),
        ("https://h/v1/chat/completions", "https://h/v1/chat/completions"),
        ("https://h/openai/v1", "https://h/openai/v1/chat/completions"),
        ("https://[::1]:9/v1?api-version=secret", "https://[::1]:9/v1/chat/completions"),
    ],
)
def test_addresses(url, shown):
    address = read_address(url)
    assert address.shown == shown
    assert address.path.endswith("?api-version=secret") == ("secret" in url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "h:8000",
        "localhost/v1",
        "ftp://h/",
        "http://",
        "http://h:99999/",
        "http://h/a b",
        "http://u:secret@h/",
    ],
)
def test_what_is_no_address_is_a_usage_error_without_secrets(url):
    with pytest.raises(UsageError) as caught:
        read_address(url)
    assert "secret" not in str(caught.value) and "\n" not in str(caught.value)


def encode(frames, parts, **options):
    encoder = RequestEncoder(frames, file_urls=options.pop("file_urls", False))
    request = ChatRequest(model="m", messages=(Message("user", parts),), **options)
    return json.loads(asyncio.run(encoder.encode(request, 9, ())))


def test_pictures_go_as_data_or_as_paths(tmp_path):
    (tmp_path / "v 1").mkdir()
    data = bytes(range(256))
    (tmp_path / "v 1" / "1.jpg").write_bytes(data)
    picture = Picture("v 1/1.jpg", blake2b(data, digest_size=16).hexdigest())
    parts = (Text("look"), picture, Text('at "it"'))
    content = encode(tmp_path, parts)["messages"][0]["content"]
    assert [block["type"] for block in content] == ["text", "image_url", "text"]
    start, _, encoded = content[1]["image_url"]["url"].partition(",")
    assert start == "data:image/jpeg;base64" and b64decode(encoded) == data
    url = encode(tmp_path, parts, file_urls=True)["messages"][0]["content"][1]["image_url"]["url"]
    assert url == (tmp_path / "v 1" / "1.jpg").as_uri() and "v%201" in url


def test_a_picture_that_changed_lies_elsewhere_or_is_missing_is_not_sent(tmp_path):
    (tmp_path / "1.jpg").write_bytes(b"other")
    with pytest.raises(Corrupt, match="changed"):
        encode(tmp_path, (Picture("1.jpg", "0" * 32),))
    for name in ("../1.jpg", "/etc/passwd"):
        with pytest.raises(Invalid, match="outside"):
            encode(tmp_path, (Picture(name, "0" * 32),))
    for file_urls in (False, True):
        with pytest.raises(Corrupt):
            encode(tmp_path, (Picture("2.jpg", "0" * 32),), file_urls=file_urls)


def test_a_path_goes_out_only_while_the_file_is_the_one_meant(tmp_path):
    frame = tmp_path / "1.jpg"
    frame.write_bytes(b"meant")
    picture = Picture("1.jpg", blake2b(b"meant", digest_size=16).hexdigest())
    assert encode(tmp_path, (picture,), file_urls=True)
    frame.write_bytes(b"other")
    os.utime(frame, ns=(1, 1))
    with pytest.raises(Corrupt, match="changed"):
        encode(tmp_path, (picture,), file_urls=True)
    frame.unlink()
    with pytest.raises(Corrupt, match=r"1\.jpg: No such file"):
        encode(tmp_path, (picture,), file_urls=True)


def test_a_frame_that_has_not_changed_is_read_once(tmp_path, monkeypatch):
    frame = tmp_path / "1.jpg"
    frame.write_bytes(b"meant")
    reads = []
    read_bytes = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: (reads.append(path), read_bytes(path))[1])
    digests = {frame_digest(str(frame)) for _ in range(3)}
    assert digests == {blake2b(b"meant", digest_size=16).hexdigest()} and len(reads) == 1
    frame.write_bytes(b"longer than it was")
    assert frame_digest(str(frame)) == blake2b(b"longer than it was", digest_size=16).hexdigest()


def test_fields_of_a_request(tmp_path):
    made = encode(tmp_path, (Text("a"), Text("b")), seed=5, sample=2, temperature=0.5)
    assert made == {
        "model": "m",
        "messages": [{"role": "user", "content": "a\nb"}],
        "temperature": 0.5,
        "max_tokens": 9,
        "seed": 7,
    }
    with pytest.raises(Invalid):
        encode(tmp_path, (Text("\ud800"),))
    with pytest.raises(UsageError, match="no such schema"):
        schema_text("no such")


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (400, "The image v1/1.jpg of model input was not found", "unusable"),
        (400, "The model `x` does not exist", "fatal"),
        (400, "temperature must be at most 2", "unusable"),
        (400, "Unsupported value: 'temperature' does not support 0 with this model", "unsupported"),
        (400, "'max_tokens' or 'max_completion_tokens' is too large: 9", "unusable"),
        (422, "response_format.type: unexpected value", "unsupported"),
        (429, "Rate limit reached", "busy"),
        (504, "", "broken"),
        (201, "{}", "broken"),
    ],
)
def test_what_an_error_means(status, text, kind):
    assert read_fault(Response(status, {}, json.dumps({"error": {"message": text}}).encode())).kind == kind
