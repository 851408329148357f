"""Whole builds from videos that are not on this machine's disk."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from datagen.build import main
from datagen.samples import make_samples
from tests.file_server import serving

pytestmark = pytest.mark.slow

TABLES = ("videos", "segments", "dialogues", "sft", "rl", "rejected", "frames")
KEY = "verysecret"


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return make_samples(tmp_path_factory.mktemp("samples"))


@pytest.fixture(scope="module")
def built(samples, tmp_path_factory):
    out = tmp_path_factory.mktemp("built") / "out"
    assert main(["--videos", str(samples), "--out", str(out), "--quiet"]) == 0
    return files(out)


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder for copies, of child processes too."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def files(out: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(out)): path.read_bytes()
        for table in TABLES
        for path in sorted((out / table).rglob("*"))
        if path.is_file()
    }


def copies(folder: Path) -> list[Path]:
    return [path for path in folder.glob("datagen-*/**/*") if path.is_file()]


def command(url: str, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "datagen.build", "--videos", url, "--out", str(out), *more]


def test_videos_of_a_server_give_the_bytes_that_they_give_on_disk(samples, built, temporary, tmp_path):
    with serving(samples) as server:
        for out in (tmp_path / "out", tmp_path / "out"):
            assert main(["--videos", server.url, "--out", str(out), "--quiet", "--workers", "2"]) == 0
            # Each was fetched once, for all steps, and nothing at all when all was done.
            assert {server.got[f"/{path.name}"] for path in samples.glob("*.mp4")} == {1}
        assert server.most <= 3
    assert files(tmp_path / "out") == built
    assert copies(temporary) == []


def test_what_cannot_be_fetched_is_rejected_and_no_key_is_kept(samples, temporary, tmp_path, capfd):
    folder = tmp_path / "served"
    for name in ("one/dawn.mp4", "two/dawn.mp4", "cut.mp4", "stalled.mp4", "closed.mp4"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((samples / ("race.mp4" if "two" in name else "dawn.mp4")).read_bytes())
    with serving(folder) as server:
        names = [str(p.relative_to(folder)) for p in sorted(folder.rglob("*.mp4"))]
        rows = [{"path": f"{server.url}/{name}?sig={KEY}"} for name in [*names, "gone.mp4"]]
        (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        server.faults = {"/cut.mp4": "cut", "/stalled.mp4": "stall"}
        out = tmp_path / "out"
        limits = ["--set", "limits.step_seconds=6", "--set", "limits.max_failures=6"]
        run = ["--videos", str(tmp_path / "m.jsonl"), "--out", str(out), "--pipeline", "1qna", *limits]
        server.faults["/closed.mp4"] = "403"
        assert main(run) == 0
        rejected = {
            row["item_id"].rpartition("/")[2]: (row["stage"], row["code"], row["detail"])
            for row in pq.read_table(out / "rejected").to_pylist()
            if row["stage"] == "probe"
        }
        codes = {name: code for name, (_, code, _) in rejected.items()}
        assert codes == {
            "cut.mp4": "Provider",
            "stalled.mp4": "Timeout",
            "closed.mp4": "Provider",
            "gone.mp4": "Corrupt",
        }
        assert "403" in rejected["closed.mp4"][2]
        videos = pq.read_table(out / "videos").to_pylist()
        assert sorted(row["path"] for row in videos) == [
            f"{server.url}/one/dawn.mp4",
            f"{server.url}/two/dawn.mp4",
        ]
        said = capfd.readouterr()
        kept = [path.read_bytes() for path in out.rglob("*") if path.is_file()]
        tables = [str(pq.read_table(path).to_pylist()) for path in out.rglob("*.parquet")]
        assert KEY not in said.out + said.err + "".join(tables)
        assert not [data for data in kept if KEY.encode() in data]
        assert copies(temporary) == []
        # Signed anew, and the server well again.
        (tmp_path / "m.jsonl").write_text((tmp_path / "m.jsonl").read_text().replace(KEY, "another"))
        server.faults, before = {}, server.got["/one/dawn.mp4"]
        for again in ("Provider", "Timeout"):
            assert main([*run, "--quiet", "--retry-failed", again]) == 0
        assert server.got["/one/dawn.mp4"] == before
    assert sorted(row["code"] for row in pq.read_table(out / "rejected").to_pylist()) == [
        "Corrupt",
        "Rejected",
        "Rejected",
        "Rejected",
    ]


def test_a_build_killed_while_it_fetches_goes_on_and_leaves_no_copy(samples, built, temporary, tmp_path):
    out = tmp_path / "out"
    with serving(samples) as server:
        server.faults = {"/race.mp4": "stall"}
        running = subprocess.Popen(command(server.url, out, "--quiet", "--workers", "2"))
        deadline = time.monotonic() + 60
        while not any(path.name.startswith(".") for path in copies(temporary)) or server.sending != 1:
            assert running.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(3)
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
        assert copies(temporary)
        server.going_on.set()
        server.faults = {}
        done = {path: count for path, count in server.got.items() if path.endswith(".mp4")}
        subprocess.run(command(server.url, out, "--quiet"), check=True)
        again = {path for path, count in done.items() if server.got[path] > count}
        assert "/race.mp4" in again and len(again) < 4
    assert files(out) == built
    assert copies(temporary) == []
