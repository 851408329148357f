"""Whole builds whose captions and dialogues are written by models behind a real HTTP endpoint."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from datagen.samples import make_samples
from tests.model_server import KEY

ROOT = Path(__file__).resolve().parents[1]
CALLS_OF_A_SECOND = 0.15


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_samples(tmp_path_factory.mktemp("samples"))


class Endpoint:
    """The scripted endpoint in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "calls.jsonl"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        arguments = [str(self.port), str(self.log), str(CALLS_OF_A_SECOND)]
        command = [sys.executable, "-m", "tests.model_server", *arguments]
        self.process = subprocess.Popen(command, cwd=ROOT)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise RuntimeError("the endpoint did not start")

    @property
    def options(self) -> list[str]:
        url = f"http://127.0.0.1:{self.port}/v1"
        return ["--llm-url", url, "--llm-model", "scripted", "--vlm-url", url, "--vlm-model", "scripted"]

    def calls(self) -> Counter[str]:
        if not self.log.exists():
            return Counter()
        return Counter(json.loads(line)[0] for line in self.log.read_text().splitlines())


@pytest.fixture
def endpoint(tmp_path):
    endpoint = Endpoint(tmp_path)
    yield endpoint
    endpoint.process.kill()
    endpoint.process.wait()


def start(samples: Path, out: Path, *more: str, key: str = KEY) -> subprocess.Popen:
    command = [sys.executable, "-m", "datagen.build", "--videos", str(samples), "--out", str(out), *more]
    env = os.environ | {"OPENAI_API_KEY": key}
    return subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def build(samples: Path, out: Path, *more: str, key: str = KEY) -> tuple[int, str]:
    run = start(samples, out, *more, key=key)
    said, complained = run.communicate(timeout=200)
    return run.returncode, said + complained


def table(out: Path, name: str) -> list[dict]:
    return pq.read_table(out / name, partitioning=None).to_pylist()


def test_models_write_captions_and_dialogues_and_nothing_is_asked_twice(samples, tmp_path, endpoint):
    status, said = build(samples, tmp_path / "out", *endpoint.options)
    assert status == 0, said
    segments, dialogues = table(tmp_path / "out", "segments"), table(tmp_path / "out", "dialogues")
    assert segments and all(row["provenance"].startswith("scripted:caption/v1:") for row in segments)
    assert len(dialogues) == 4
    assert all(row["provenance"].startswith("scripted:n_qna/v2:") for row in dialogues)
    assert all(answer["evidence"] for row in dialogues for q in row["questions"] for answer in q["answers"])
    asked = endpoint.calls()
    # The judge reads every answer once: none of them needs a second reading.
    answers = sum(len(q["answers"]) for row in dialogues for q in row["questions"])
    assert set(asked.values()) == {1} and len(asked) == len(segments) + len(dialogues) + answers
    made = json.loads((tmp_path / "out" / "run.json").read_text())["model_calls"]
    assert made == {
        "calls": asked.total(),
        "tries": asked.total(),
        "prompt_tokens": 100 * asked.total(),
        "completion_tokens": 20 * asked.total(),
    }
    status, said = build(samples, tmp_path / "out", *endpoint.options)
    assert "Nothing to do" in said and endpoint.calls() == asked
    status, said = build(samples, tmp_path / "out", *endpoint.options, "--set", "export.placement=start")
    assert status == 0 and endpoint.calls() == asked
    # Another seed asks for other types of questions: the dialogues are written anew, the captions are not.
    status, said = build(samples, tmp_path / "out", *endpoint.options, "--seed", "3")
    assert status == 0 and 0 < endpoint.calls().total() - asked.total() <= len(dialogues)


def test_a_call_whose_answer_had_arrived_is_not_made_again_after_a_kill(samples, tmp_path, endpoint):
    out = tmp_path / "out"
    options = [*endpoint.options, "--max-in-flight", "2"]
    kills = []
    for wait in (0.4, 0.9, 0.2, 0.7, 1.1):
        before = endpoint.calls().total()
        run = start(samples, out, *options, "--quiet")
        deadline = time.monotonic() + 30
        while endpoint.calls().total() == before and time.monotonic() < deadline and run.poll() is None:
            time.sleep(0.01)
        time.sleep(wait)
        kills.append(time.time())
        run.send_signal(signal.SIGKILL)
        run.wait()
    status, said = build(samples, out, *options)
    assert status == 0, said
    paid_twice = {digest for digest, count in endpoint.calls().items() if count > 1}
    first_answers: dict[str, float] = {}
    for line in endpoint.log.read_text().splitlines():
        digest, sent = json.loads(line)
        first_answers.setdefault(digest, sent)
    # Those in flight at a kill may be made again; an answer sent 50 ms before it had arrived.
    assert len(paid_twice) <= 2 * len(kills)
    for digest in paid_twice:
        assert any(abs(kill - first_answers[digest]) < 0.05 or first_answers[digest] > kill for kill in kills)
    fresh = tmp_path / "fresh"
    assert build(samples, fresh, *options)[0] == 0
    shards = sorted(path.relative_to(fresh) for path in fresh.glob("*/*.parquet"))
    assert len(shards) == 7
    assert all((fresh / path).read_bytes() == (out / path).read_bytes() for path in shards)


@pytest.mark.parametrize(
    ("change", "key", "words"),
    [
        (["--llm-model", "unknown", "--vlm-model", "unknown"], KEY, "unknown"),
        ([], "sk-wrong-secret", "OPENAI_API_KEY"),
    ],
)
def test_a_wrong_key_or_model_stops_at_once_and_the_key_is_told_nobody(
    samples, tmp_path, endpoint, change, key, words
):
    status, said = build(samples, tmp_path / "out", *endpoint.options, *change, key=key)
    assert status == 2 and words in said and "Traceback" not in said
    assert key not in said
    for path in (tmp_path / "out").rglob("*"):
        assert not path.is_file() or key.encode() not in path.read_bytes()


def test_half_an_endpoint_is_asked_for_the_other_half(samples, tmp_path):
    status, said = build(samples, tmp_path / "out", "--llm-url", "http://127.0.0.1:1/v1")
    assert status == 2 and "--llm-model: needed with --llm-url" in said
    status, said = build(samples, tmp_path / "out", "--vlm-url", "http://127.0.0.1:1", "--vlm-model", "x")
    assert status == 2 and "--llm-url: needed with --vlm-url" in said
