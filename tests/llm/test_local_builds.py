"""Whole builds by tiny models with random weights, in this process and behind a real server.

What such models say is nonsense: all of it must end as rejections, and nothing must be asked twice.
"""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from datagen.build import main
from datagen.samples import make_samples
from tests.tiny_models import text_model, vision_model

ROOT = Path(__file__).resolve().parents[2]
LOADING_SECONDS = 200


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """A video of 46 s with nothing beside it."""
    samples = make_samples(tmp_path_factory.mktemp("samples"))
    return samples / "dawn.mp4"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("models")
    text_model(folder / "tiny-text")
    vision_model(folder / "tiny-vision")
    return folder


class Server:
    """`transformers serve` on loopback; it answers to the name its folder was given by."""

    def __init__(self, models: Path, log: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.log = log
        transformers = Path(sys.executable).parent / "transformers"
        command = [transformers, "serve", "tiny-vision", "--device", "cpu", "--port", str(port)]
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [*command, "--host", "127.0.0.1"], cwd=models, stdout=file, stderr=file
            )
        deadline = time.monotonic() + LOADING_SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"{self.url}/health", timeout=5).read()
                return
            except OSError:
                time.sleep(0.2)
        raise RuntimeError(f"the server did not start: {log.read_text()[-2000:]}")

    def answered(self) -> Counter[str]:
        """Requests for chat completions by status."""
        lines = self.log.read_text(errors="replace").splitlines()
        return Counter(line.split('"')[2].split()[0] for line in lines if '"POST /v1/chat' in line)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="module")
def server(models, tmp_path_factory):
    pytest.importorskip("fastapi")
    server = Server(models, tmp_path_factory.mktemp("server") / "log.txt")
    yield server
    server.stop()


def build(video: Path, out: Path, *more: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "datagen.build", "--videos", str(video), "--out", str(out), *more]
    env = {key: value for key, value in os.environ.items() if key != "OPENAI_API_KEY"}
    run = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=500)
    return run.returncode, run.stdout + run.stderr


def table(out: Path, name: str) -> list[dict]:
    return pq.read_table(out / name, partitioning=None).to_pylist()


def local(kind: str, folder: Path) -> list[str]:
    return [f"--{kind}-url", "transformers", f"--{kind}-model", str(folder)]


def served(kind: str, server: Server) -> list[str]:
    return [f"--{kind}-url", f"{server.url}/v1", f"--{kind}-model", "tiny-vision"]


def check_nonsense_of_captions(status: int, said: str, out: Path) -> None:
    assert status in (0, 1) and "Traceback" not in said, said
    segments, rejected = table(out, "segments"), table(out, "rejected")
    assert len(segments) > 1 and not table(out, "dialogues")
    lost = [row for row in rejected if row["stage"] == "caption"]
    assert {row["code"] for row in lost} == {"Invalid"}
    assert {row["item_id"] for row in lost} == {row["id"] for row in segments}


def check_nonsense_of_dialogues(status: int, said: str, out: Path) -> None:
    assert status in (0, 1) and "Traceback" not in said, said
    assert table(out, "segments") and not table(out, "dialogues")
    assert {row["code"] for row in table(out, "rejected")} & {"Invalid", "Rejected"}


@pytest.mark.torch
def test_models_of_this_process_write_and_a_moved_model_is_asked_nothing_again(video, models, tmp_path):
    out = tmp_path / "out"
    options = [*local("llm", models / "tiny-text"), *local("vlm", models / "tiny-vision")]
    check_nonsense_of_captions(*build(video, out, *options), out)
    moved = tmp_path / "moved"
    for name in ("tiny-text", "tiny-vision"):
        shutil.copytree(models / name, moved / name)
    status, said = build(video, out, *local("llm", moved / "tiny-text"), *local("vlm", moved / "tiny-vision"))
    assert status in (0, 1) and "Nothing to do" in said, said
    for path in out.glob("*/*.parquet"):
        assert str(models).encode() not in path.read_bytes()
    # Captions by the rules, so that there is something to make a dialogue of.
    out = tmp_path / "dialogues"
    check_nonsense_of_dialogues(*build(video, out, *local("llm", models / "tiny-text")), out)


@pytest.mark.torch
def test_a_model_that_cannot_see_stops_the_run(video, models, tmp_path):
    options = [*local("llm", models / "tiny-text"), *local("vlm", models / "tiny-text")]
    status, said = build(video, tmp_path / "out", *options)
    assert status == 2 and "cannot see pictures" in said and "--vlm-model" in said


@pytest.mark.torch
def test_a_real_server_is_asked_once_and_its_nonsense_ends_as_rejections(video, server, tmp_path):
    out = tmp_path / "out"
    options = [*served("llm", server), *served("vlm", server)]
    check_nonsense_of_captions(*build(video, out, *options), out)
    asked = server.answered()
    assert asked["200"] >= 2 * len(table(out, "segments"))  # each asked for again when it could not be read
    status, said = build(video, out, *options)
    assert status in (0, 1) and "Nothing to do" in said and server.answered() == asked
    out = tmp_path / "dialogues"
    check_nonsense_of_dialogues(*build(video, out, *served("llm", server)), out)
    assert server.answered()["200"] > asked["200"]


def test_without_torch_the_way_to_install_it_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    options = ["--llm-url", "transformers", "--llm-model", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main(["--videos", str(tmp_path), *options]) == 2
    assert "torch is not installed; pip install 'datagen[torch]'" in capsys.readouterr().err
