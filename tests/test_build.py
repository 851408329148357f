"""The command line as its users run it: real processes, real videos, real kills."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import datasets
import psutil
import pyarrow.parquet as pq
import pytest

from datagen.build import main
from datagen.ledger import Ledger
from datagen.samples import make_samples

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT / "../shared/videos"
TABLES = ("videos", "segments", "dialogues", "sft", "rl", "rejected", "frames")


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_samples(tmp_path_factory.mktemp("samples"))


@pytest.fixture(scope="session")
def built(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished build of the samples. Never written to by a test: copy it."""
    out = tmp_path_factory.mktemp("built") / "out"
    assert build(samples, out).returncode == 0
    return out


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Path:
    shutil.copytree(built, tmp_path / "out")
    return tmp_path / "out"


def build(videos: Path | None, out: Path, *more: str, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    return subprocess.run(command(videos, out, *more), cwd=cwd, capture_output=True, text=True, timeout=300)


def command(videos: Path | None, out: Path, *more: str) -> list[str]:
    where = ["--videos", str(videos)] if videos else []
    return [sys.executable, "-m", "datagen.build", "--pipeline", "nqna", *where, "--out", str(out), *more]


def files(out: Path) -> dict[str, bytes]:
    """Every file of the dataset but run.json and the ledger."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for table in TABLES
        for path in sorted((out / table).rglob("*"))
        if path.is_file()
    }


def steps_run(out: Path) -> dict[str, int]:
    return json.loads((out / "run.json").read_text())["steps_run"]


def table(out: Path, name: str) -> list[dict]:
    return pq.read_table(out / name, partitioning=None).to_pylist()


def test_the_first_command_of_the_readme_builds_a_dataset(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "datagen.build", "--pipeline", "nqna"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={"PATH": "/nowhere", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    out = tmp_path / "out"
    assert len(table(out, "videos")) == 4
    assert len(table(out, "dialogues")) == 4
    assert table(out, "sft") and json.loads((out / "rl/user_turns/train.json").read_text())
    assert json.loads((out / "run.json").read_text())["status"] == "done"
    assert {path.name for path in tmp_path.iterdir()} == {"out"}


def test_the_rows_load_with_datasets_and_their_frames_are_there(built):
    sft = datasets.load_dataset("parquet", data_files=str(built / "sft/*.parquet"), split="train")
    assert sft.num_rows == len(table(built, "sft")) > 0
    for row in sft:
        placeholders = sum(m["content"].count("<image>") for m in row["messages"] if m["role"] == "user")
        assert placeholders == len(row["images"]) > 0
        assert all((built / image).is_file() for image in row["images"])
    rl = datasets.load_dataset("parquet", data_files=str(built / "rl/train-*.parquet"), split="train")
    assert {row["extra_info"]["video_id"] for row in rl}.isdisjoint(row["video_id"] for row in sft)


def test_a_second_run_does_nothing_and_says_so(copy, samples):
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*") if ".work" not in path.parts}
    done = build(samples, copy)
    assert done.returncode == 0 and "Nothing to do" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*") if ".work" not in path.parts} == before


@pytest.mark.parametrize("more", [["--workers", "1"], ["--workers", "4"], ["--backend", "ray"]])
def test_workers_and_backend_change_no_byte(built, samples, tmp_path, more):
    assert build(samples, tmp_path / "out", *more).returncode == 0
    assert files(tmp_path / "out") == files(built)


def test_killed_at_any_moment_it_goes_on_and_ends_with_the_same_bytes(built, samples, tmp_path):
    out = tmp_path / "out"
    moments = random.Random(7)
    for _ in range(6):
        run = subprocess.Popen(command(samples, out, "--quiet"), cwd=ROOT)
        time.sleep(moments.uniform(0.6, 2.5))
        run.send_signal(signal.SIGKILL)
        run.wait()
        assert wait_for(lambda: not children_of_datagen()), "processes left behind"
    ledger = Ledger(out / ".work")
    steps = [s for (s,) in ledger._database.execute("SELECT step FROM results WHERE step != 'flow'")]
    ledger.close()
    done = build(samples, out)
    assert done.returncode == 0, done.stderr
    if "Nothing to do" not in done.stdout:
        assert sum(steps_run(out).values()) == 10 - len(steps)  # 4 probes, 4 watches, 2 sidecars
    assert files(out) == files(built)


def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(built, samples, tmp_path):
    out = tmp_path / "out"
    run = subprocess.Popen(command(samples, out), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert wait_for(lambda: (out / "frames").is_dir() and any(out.glob("frames/v*")))
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=30)
    assert run.returncode == 130
    assert "Go on with: python -m datagen.build --pipeline nqna --videos" in said
    assert json.loads((out / "run.json").read_text())["status"] == "unfinished"
    assert build(samples, out).returncode == 0
    assert steps_run(out)["watch"] < 4
    assert files(out) == files(built)


def test_a_changed_option_runs_only_what_depends_on_it(copy, samples, built):
    assert build(samples, copy, "--set", "export.placement=start").returncode == 0
    assert steps_run(copy) == {}
    assert replies(copy) != replies(built)
    assert build(samples, copy, "--set", "segment.max_seconds=12").returncode == 0
    assert steps_run(copy) == {}
    assert build(samples, copy, "--set", "frames.interval=1").returncode == 0
    assert steps_run(copy) == {"watch": 4}
    assert {row["frame_count"] for row in table(copy, "videos")} == {42, 46, 48, 66}
    assert build(samples, copy).returncode == 0
    assert steps_run(copy) == {"watch": 4}
    assert files(copy) == files(built)


def test_lost_frames_are_made_again(copy, samples, built):
    shutil.rmtree(next((copy / "frames").glob("v*")))
    assert build(samples, copy).returncode == 0
    assert files(copy) == files(built)


def test_lost_shards_are_written_again_without_running_a_step(copy, samples, built):
    shutil.rmtree(copy / "sft")
    assert build(samples, copy).returncode == 0
    assert files(copy) == files(built)


def test_files_of_one_name_stay_apart_and_copies_are_told(samples, tmp_path):
    videos = tmp_path / "videos"
    for folder, sample in (("a", "dawn.mp4"), ("b", "shapes.mp4"), ("c", "dawn.mp4")):
        (videos / folder).mkdir(parents=True)
        shutil.copy(samples / sample, videos / folder / "clip.mp4")
    (videos / "a" / "broken.mp4").write_bytes(b"")
    done = build(videos, tmp_path / "out")
    assert done.returncode == 0
    assert sorted(row["path"] for row in table(tmp_path / "out", "videos")) == ["a/clip.mp4", "b/clip.mp4"]
    rejected = {row["item_id"]: row for row in table(tmp_path / "out", "rejected") if row["stage"] == "probe"}
    assert "the same content as a/clip.mp4" in rejected["c/clip.mp4"]["detail"]
    assert rejected["a/broken.mp4"]["code"] == "Corrupt"


def test_videos_can_be_added_and_taken_away(copy, samples, tmp_path, built):
    fewer = tmp_path / "fewer"
    shutil.copytree(samples, fewer, copy_function=shutil.copy2)
    (fewer / "race.mp4").unlink()
    assert build(fewer, copy).returncode == 0
    assert len(table(copy, "videos")) == 3 and steps_run(copy) == {"probe": 3}
    assert build(samples, copy).returncode == 0
    assert steps_run(copy) == {} and files(copy) == files(built)


def test_failures_are_remembered_until_a_retry_is_asked_for(tmp_path, samples):
    videos = tmp_path / "videos"
    videos.mkdir()
    shutil.copy(samples / "dawn.mp4", videos)
    (videos / "empty.mp4").touch()
    assert build(videos, tmp_path / "out").returncode == 0
    assert "Nothing to do" in build(videos, tmp_path / "out", "--retry-failed", "Timeout").stdout
    build(videos, tmp_path / "out", "--retry-failed", "Corrupt")
    assert table(tmp_path / "out", "rejected")[0]["code"] == "Corrupt"
    failed = build(videos, tmp_path / "out", "--set", "limits.max_failures=0.1", "--quiet")
    assert failed.returncode == 1 and "1 of 2 videos failed" in failed.stderr


def test_a_dry_run_says_what_would_be_done_and_does_nothing(tmp_path, samples):
    done = build(samples, tmp_path / "out", "--dry-run")
    assert done.returncode == 0 and "4 videos: 0 are done, 4 to do." in done.stdout
    assert not (tmp_path / "out" / "frames").exists() and not (tmp_path / "out" / "sft").exists()


def test_names_of_files_cannot_steer_the_terminal(tmp_path, capsys):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a\x1b[31m\n.mp4").touch()
    assert main(["--videos", str(tmp_path / "videos"), "--out", str(tmp_path / "out"), "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "to do: a\\u001b[31m .mp4\n" in told and "\x1b" not in told


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--set", "frames.intervall=1"], "did you mean `interval`"),
        (["--pipeline", "qna"], "known pipelines are"),
        (["--videos", "/nowhere/at/all"], "no such file or folder"),
        (["--retry-failed", "Nonsense"], "invalid choice"),
        (["--workers", "0"], "--workers: is '0', must be a whole number from 1 up"),
        (["--budget-usd", "nan"], "--budget-usd: is 'nan', must be a number of dollars above 0"),
        (["--videos", ""], "--videos: is empty; leave the option out"),
        (["--out", " "], "--out: is empty"),
        (["--llm-url", "", "--llm-model", "x"], "--llm-url: is empty"),
        (["--llm-url", "jsonl:", "--llm-model", "x"], "name the folder for requests too"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(more, words, samples, tmp_path, capsys):
    try:
        status = main(["--videos", str(samples), "--out", str(tmp_path / "out"), *more])
    except SystemExit as end:
        status = end.code
    said = capsys.readouterr().err
    assert status == 2 and words in said and "Traceback" not in said


def test_a_manifest_row_without_a_path_is_named(tmp_path, capsys):
    manifest = tmp_path / "videos.jsonl"
    manifest.write_text('{"path": "a.mp4"}\n{"paht": "b.mp4"}\n')
    assert main(["--videos", str(manifest), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "videos.jsonl" in said and "2" in said and "`path`" in said and said.count("\n") == 1


def test_an_output_that_cannot_be_written_is_named(tmp_path, samples, capsys):
    (tmp_path / "out").write_text("a file, not a folder")
    assert main(["--videos", str(samples), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "--out" in said and "cannot be written" in said and said.count("\n") == 1


def test_two_runs_on_one_output_the_second_is_told(tmp_path, samples):
    out = tmp_path / "out"
    first = subprocess.Popen(command(samples, out, "--quiet"), cwd=ROOT)
    assert wait_for(lambda: (out / "run.json").exists())
    first.send_signal(signal.SIGSTOP)  # it might be done before the second has begun
    second = build(samples, out)
    first.send_signal(signal.SIGCONT)
    assert second.returncode == 2 and "another run" in second.stderr and second.stderr.count("\n") == 1
    assert first.wait(timeout=120) == 0


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared videos")
def test_every_shared_video_is_built_or_rejected_with_a_reason(tmp_path):
    done = build(SHARED, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    names = {str(p.relative_to(SHARED)) for p in SHARED.rglob("*") if p.suffix in VIDEO_SUFFIXES}
    used = {row["path"] for row in table(tmp_path / "out", "videos")}
    lost = {row["item_id"]: row["code"] for row in table(tmp_path / "out", "rejected")}
    assert used | lost.keys() >= names and used.isdisjoint(lost)
    unusable = {
        "odd/audio_only.m4a": "Corrupt",
        "odd/audio_with_cover.m4a": "Corrupt",
        "odd/text_named.mp4": "Corrupt",
        "odd/truncated_no_moov.mp4": "Corrupt",
        "odd/zero_bytes.mp4": "Corrupt",
        "odd/one_frame.mp4": "Rejected",
        "odd/short_0.4s.mp4": "Rejected",
    }
    assert {name: lost.get(name) for name in unusable} == unusable
    assert names - used == set(unusable)


VIDEO_SUFFIXES = {".mp4", ".webm", ".mkv", ".ts", ".gif", ".m4a"}


def replies(out: Path) -> list:
    return [row["messages"] for row in table(out, "sft")]


def children_of_datagen() -> list[psutil.Process]:
    return [p for p in psutil.process_iter(["cmdline"]) if "datagen.sandbox" in (p.info["cmdline"] or [])]


def wait_for(condition, seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False
