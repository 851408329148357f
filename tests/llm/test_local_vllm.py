"""vLLM as a stand-in with the signatures of its documentation (0.11): it needs a GPU to run for real."""

import sys
from base64 import b64decode
from hashlib import blake2b
from pathlib import Path
from threading import Event
from types import ModuleType, SimpleNamespace

import pytest

from datagen.errors import Provider, UsageError
from datagen.llm import local_vllm
from datagen.llm.chat import ChatRequest, Message, Picture, Text
from datagen.llm.local import Answer, Question, load_model
from datagen.llm.local_vllm import VllmModel
from datagen.llm.replies import schema_text


class SamplingParams:
    def __init__(self, *, temperature=1.0, max_tokens=16, seed=None, structured_outputs=None):
        self.temperature, self.max_tokens, self.seed = temperature, max_tokens, seed
        self.structured_outputs = structured_outputs


class StructuredOutputsParams:
    def __init__(self, *, json):
        self.json = json


class LLM:
    """Takes 50 characters at most, and no schema with `uniqueItems`."""

    def __init__(self, model, *, seed=None):
        if "broken" in model:
            raise RuntimeError("Engine core\ninitialization failed")
        self.model, self.asked = model, []

    def get_tokenizer(self):
        token = type("Token", (), {"special": True, "__str__": lambda self: "<|im_end|>"})()
        return SimpleNamespace(added_tokens_decoder={0: token})

    def chat(self, messages, sampling_params=None, use_tqdm=True):
        assert len(messages) == len(sampling_params) and use_tqdm is False
        for chat, params in zip(messages, sampling_params, strict=True):
            if len(str(chat[0]["content"])) > 5000:
                raise ValueError(
                    "The decoder prompt (length 9) is longer than the maximum model length of 5."
                )
            if params.structured_outputs and "uniqueItems" in params.structured_outputs.json:
                raise ValueError("The provided JSON schema contains features not supported by xgrammar.")
        self.asked.append((messages, sampling_params))
        return [self.say(params) for params in sampling_params]

    def say(self, params):
        said = SimpleNamespace(text="{}", token_ids=(5, 6, 7), finish_reason="length")
        return SimpleNamespace(outputs=[said], prompt_token_ids=[1, 2])


@pytest.fixture(autouse=True)
def vllm(monkeypatch):
    vllm, params = ModuleType("vllm"), ModuleType("vllm.sampling_params")
    vllm.LLM, vllm.SamplingParams = LLM, SamplingParams
    params.StructuredOutputsParams = StructuredOutputsParams
    monkeypatch.setitem(sys.modules, "vllm", vllm)
    monkeypatch.setitem(sys.modules, "vllm.sampling_params", params)


def question(*parts, max_tokens=8, **fields):
    message = Message("user", parts or (Text("hello"),))
    return Question(ChatRequest(model="m@1", messages=(message,), **fields), max_tokens)


def open_model(frames=Path("frames")):
    return VllmModel(Path("folder"), frames)


def test_each_request_keeps_its_own_parameters():
    model = open_model()
    questions = [
        question(),
        question(temperature=0.7, seed=5, sample=2, schema="caption", max_tokens=99),
    ]
    assert model.answer(questions) == [Answer("{}", "length", 2, 3)] * 2
    ((_, params),) = model._llm.asked
    assert [(p.temperature, p.seed, p.max_tokens) for p in params] == [(0.0, 0, 8), (0.7, 7, 99)]
    assert params[0].structured_outputs is None
    assert params[1].structured_outputs.json.encode() == schema_text("caption")


def test_pictures_go_as_data_and_control_tokens_as_text(tmp_path):
    (tmp_path / "1.jpg").write_bytes(b"jpeg")
    picture = Picture("1.jpg", blake2b(b"jpeg", digest_size=16).hexdigest())
    model = open_model(frames=tmp_path)
    model.answer([question(Text("see<|im_end|>"), picture)])
    text, shown = model._llm.asked[0][0][0][0]["content"]
    assert text == {"type": "text", "text": "see< |im_end|>"}
    head, _, data = shown["image_url"]["url"].partition(",")
    assert (shown["type"], head, b64decode(data)) == ("image_url", "data:image/jpeg;base64", b"jpeg")


def test_a_request_that_is_not_taken_is_named_when_alone():
    model = open_model()
    long = question(Text("x" * 6000), schema="caption")
    with pytest.raises(Provider, match="one of several"):
        model.answer([question(), long])
    with pytest.raises(Provider, match=r"^m@1: The decoder prompt .* longer than"):
        model.answer([long])
    # The schema was not to blame, so it is kept to.
    model.answer([question(schema="caption")])
    assert model._llm.asked[-1][1][0].structured_outputs is not None


def test_a_schema_that_cannot_be_enforced_is_done_without(monkeypatch):
    monkeypatch.setattr(local_vllm, "schema_text", lambda name: b'{"uniqueItems": true}')
    model = open_model()
    for _ in range(2):
        assert model.answer([question(schema="caption")])[0].text == "{}"
    assert [params[0].structured_outputs for _, params in model._llm.asked] == [None, None]


def test_a_folder_that_cannot_be_loaded_is_named_with_its_flag():
    with pytest.raises(
        UsageError, match=r"^--vlm-model broken: cannot be loaded: RuntimeError: Engine core init"
    ):
        load_model("vllm", Path("broken"), Path("frames"), "--vlm-model", True, Event())
