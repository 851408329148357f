"""Requests as messages for chat templates."""

from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.errors import Corrupt, Invalid
from datagen.llm.chat import ChatRequest, Message, Picture, Text
from datagen.llm.messages import chat_messages, has_pictures, read_frame, without_system

CONTROL = ("<|im_end|>", "<|image_pad|>", "<s>")


def ask_for(*messages):
    return ChatRequest(model="m", messages=tuple(Message(role, tuple(parts)) for role, *parts in messages))


def show(picture):
    return {"type": "image", "name": picture.name}


def test_text_alone_is_a_string_and_pictures_keep_their_place():
    picture = Picture("v1/000001.jpg", "0" * 32)
    request = ask_for(
        ("system", Text("Be brief."), Text("Be kind.")), ("user", Text("a"), picture, Text("b"))
    )
    assert has_pictures(request)
    assert chat_messages(request, show) == [
        {"role": "system", "content": "Be brief.\nBe kind."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "a"},
                {"type": "image", "name": "v1/000001.jpg"},
                {"type": "text", "text": "b"},
            ],
        },
    ]
    blocks = chat_messages(request, show, in_blocks=True)[0]["content"]
    assert blocks == [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind."}]


def test_a_template_without_system_gets_its_text_from_the_user():
    request = ask_for(
        ("system", Text("Be brief.")),
        ("user", Text("a")),
        ("assistant", Text("b")),
        ("user", Text("c")),
    )
    assert chat_messages(without_system(request), show) == [
        {"role": "user", "content": "Be brief.\na"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    plain = ask_for(("user", Text("a")))
    assert without_system(plain) == plain and not has_pictures(plain)


@given(st.lists(st.sampled_from([*CONTROL, "<|im_", "end|>", "<", "s>", "text", " "]), max_size=12))
def test_no_text_can_end_its_message_or_stand_for_a_picture(pieces):
    (message,) = chat_messages(ask_for(("user", Text("".join(pieces)))), show, CONTROL)
    assert not any(token in message["content"] for token in CONTROL)
    assert message["content"].replace(" ", "") == "".join(pieces).replace(" ", "")


def test_text_that_is_no_unicode_is_invalid():
    with pytest.raises(Invalid, match="not Unicode"):
        chat_messages(ask_for(("user", Text("\ud800"))), show)


def test_a_frame_is_the_one_that_was_described(tmp_path):
    (tmp_path / "frames" / "v1").mkdir(parents=True)
    path = tmp_path / "frames" / "v1" / "000001.jpg"
    path.write_bytes(b"picture")
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    digest = blake2b(b"picture", digest_size=16).hexdigest()
    frames = tmp_path / "frames"
    assert read_frame(frames, Picture("v1/000001.jpg", digest)) == b"picture"
    with pytest.raises(Corrupt, match=r"v1/000002\.jpg: No such file"):
        read_frame(frames, Picture("v1/000002.jpg", digest))
    secret = blake2b(b"secret", digest_size=16).hexdigest()
    for name in ("../secret.jpg", f"{tmp_path}/secret.jpg", "v1/../../secret.jpg"):
        with pytest.raises(Invalid, match="outside the folder"):
            read_frame(frames, Picture(name, secret))
    path.write_bytes(b"another")
    with pytest.raises(Corrupt, match="has changed"):
        read_frame(frames, Picture("v1/000001.jpg", digest))
