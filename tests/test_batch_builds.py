"""Whole builds whose calls go by batches: through a Batch API, and through files for `vllm run-batch`."""

import asyncio
import json
import os
import shlex
import sys
from pathlib import Path

import pytest

from datagen.samples import make_samples
from tests.llm import fake_run_batch
from tests.llm.batch_server import KEY, BatchServer, body_for, good, read_strictly
from tests.model_server import answer_to
from tests.test_models import Endpoint, build

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_samples(tmp_path_factory.mktemp("samples"))


@pytest.fixture(scope="module")
def plain(samples, tmp_path_factory):
    """The shards of a build that asks the same model call by call."""
    folder = tmp_path_factory.mktemp("plain")
    endpoint = Endpoint(folder)
    try:
        status, said = build(samples, folder / "out", *endpoint.options)
    finally:
        endpoint.process.kill()
        endpoint.process.wait()
    assert status == 0, said
    return shards(folder / "out")


def shards(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.glob("*/*.parquet"))}


def scripted(request):
    return body_for(request, json.dumps(answer_to(request["body"])))


async def start(samples: Path, out: Path, *options: str) -> asyncio.subprocess.Process:
    command = ["-m", "datagen.build", "--videos", str(samples), "--out", str(out), "--quiet", *options]
    env = os.environ | {"OPENAI_API_KEY": KEY}
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=ROOT, env=env, stdout=pipe, stderr=pipe
    )


def of(url: str) -> list[str]:
    return ["--llm-url", url, "--llm-model", "scripted", "--vlm-url", url, "--vlm-model", "scripted"]


@pytest.mark.parametrize("backend", ["local", "ray"])
def test_a_build_by_batches_survives_kills_pays_once_and_gives_the_same_bytes(
    samples, plain, tmp_path, backend
):
    out = tmp_path / "out"

    async def main() -> BatchServer:
        async with BatchServer() as server:
            server.answer = lambda request: {**good(request), "response": answered(request)}
            options = ["--batch", "--backend", backend, *of(server.url)]
            for when, what in (("after", "create"), ("before", "content")):
                if backend == "ray":
                    break  # whose actors outlive a driver that is killed
                run = await start(samples, out, *options)
                getattr(server, when)[what] = run.kill
                assert await run.wait() == -9
            run = await start(samples, out, *options)
            said, complained = await asyncio.wait_for(run.communicate(), 500)
            assert run.returncode == 0, complained
            assert KEY.encode() not in said + complained
            return server

    def answered(request):
        return {"status_code": 200, "request_id": "r", "body": scripted(request)}

    server = asyncio.run(main())
    assert set(server.paid.values()) == {1}
    assert len(server.batches) <= 8, "calls were not gathered"
    assert shards(out) == plain
    assert list((out / ".work" / "batches").iterdir()) == []
    assert all(KEY.encode() not in path.read_bytes() for path in out.rglob("*") if path.is_file())


def test_a_build_by_files_is_stopped_and_goes_on_and_gives_the_same_bytes(samples, plain, tmp_path):
    out, folder = tmp_path / "out", tmp_path / "jsonl"

    async def main() -> list[str]:
        ran = []
        while True:
            run = await start(samples, out, *of(f"jsonl:{folder}"))
            assert run.stderr is not None
            said = b""
            while line := await asyncio.wait_for(run.stderr.readline(), 300):
                said += line
                if b"run: vllm run-batch" in line:
                    run.terminate()  # the user stops it, and runs the model with the machine to himself
                    command = shlex.split(line.decode().partition("run: ")[2])
                    break
            status = await run.wait()
            if status == 0:
                return ran
            assert status in (130, 143, -15), said
            assert b"run: vllm" in said, said
            ran.append(command[command.index("-i") + 1])
            fake_run_batch.main(command[1:], scripted)

    ran = asyncio.run(main())
    assert len(ran) == len(set(ran)) and sorted(ran) == sorted(map(str, folder.glob("requests-*")))
    names = [r["custom_id"] for path in ran for r in read_strictly(Path(path).read_bytes())]
    assert len(names) == len(set(names))
    assert shards(out) == plain
