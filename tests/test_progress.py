"""What a run says of itself while it goes on, to people and to machines."""

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from datagen import progress as module
from datagen.config import Price
from datagen.ledger import FLOW, Cost, Event
from datagen.progress import Progress
from datagen.samples import make_samples

NULL = msgspec.Raw(b"null")


def step(item: str, name: str, code: str | None = None, seconds: float = 0.0) -> Event:
    return Event(f"{item}-{name}", item, name, NULL, code, seconds=seconds)


def call(item: str, prompt: str) -> Event:
    cost = Cost(prompt=prompt, model="m", batch=False, tries=1, prompt_tokens=1000, completion_tokens=100)
    return Event(f"{item}-{prompt}", item, "ask", NULL, cost=cost)


def test_stages_found_in_the_ledger_count_as_done_when_their_video_ends():
    progress = Progress(4, quiet=True)
    progress.update([step("a", "probe"), step("a", "watch"), step("b", "probe", "Corrupt")])
    progress.update([step("b", FLOW, "Corrupt"), step("c", FLOW)])
    stages = progress.state()["stages"]
    assert [stages[s]["done"] for s in ("probe", "watch", "dialogues")] == [3, 3, 2]
    assert [stages[s]["left"] for s in ("probe", "watch", "dialogues")] == [1, 1, 2]
    assert [stages[s]["rejected"] for s in ("probe", "watch", "dialogues")] == [1, 0, 1]
    assert progress.ran == {"probe": 2, "watch": 1}


def test_calls_are_counted_by_stage_and_what_they_cost_is_added_to_what_was_paid():
    progress = Progress(1, quiet=True, prices={"m": Price(input=2.0, output=10.0)}, paid=0.5)
    progress.update(
        [call("a", "caption"), call("b", "caption"), call("a", "n_qna"), call("a", "caption+repair")]
    )
    state = progress.state()
    assert state["calls"] == {"caption": 2, "repair": 1, "synthesize": 1}
    assert state["usd"] == pytest.approx(0.5 + 4 * 0.003)


def test_the_slowest_steps_are_kept_and_only_slow_ones():
    progress = Progress(100, quiet=True)
    progress.update([step(str(n), "watch", seconds=float(n)) for n in range(20)])
    assert [seconds for seconds, _, _ in progress.slowest()] == [19, 18, 17, 16, 15]
    quick = Progress(100, quiet=True)
    quick.update([step("a", "watch", seconds=0.5)])
    assert quick.slowest() == []


def test_plain_lines_name_counts_rates_and_time_left(monkeypatch, capsys):
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.0)
    progress = Progress(2, quiet=False)
    progress.update([step("a", "probe"), step("a", FLOW), call("a", "caption")])
    said = capsys.readouterr().err
    assert (
        "dialogues 1/2 (0 rejected" in said and "/s" in said and "00:00 left" in said and "1 caption" in said
    )


def test_log_json_leaves_only_json_lines_on_the_standard_output(tmp_path: Path):
    videos = make_samples(tmp_path / "videos")
    (videos / "empty.mp4").touch()
    where = ["--videos", str(videos), "--out", str(tmp_path / "out"), "--log-json"]
    ran = subprocess.run(
        [sys.executable, "-m", "datagen.build", *where], capture_output=True, text=True, timeout=120
    )
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert ran.returncode == 0 and [line["event"] for line in lines] == ["progress", "done"]
    assert lines[0]["stages"]["probe"] | {"per_second": 0} == {
        "done": 5,
        "left": 0,
        "rejected": 1,
        "per_second": 0,
        "seconds_left": 0,
    }
    assert lines[1]["failures"] == {"Corrupt": 1} and lines[1]["rows"]["dialogues/train"] == 4
    assert json.loads(Path(lines[1]["run_json"]).read_bytes())["status"] == "done"
