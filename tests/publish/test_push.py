"""Publishing to a Hub on loopback: what goes up, what does not, what an interruption costs."""

import json
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Image, List, load_dataset

from datagen.inspect.check import check_dataset
from datagen.publish.push import main
from tests.inspect.samples import config
from tests.publish.hub_server import serving
from tests.publish.samples import SPOKEN, dataset

TOKEN = "hf_loopbacksecret"
REPO = "somebody/dataset"


@pytest.fixture
def hub(monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    with serving() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


def everything(hub):
    """All published bytes, Parquet as text."""
    texts = []
    for name, data in hub.files.items():
        table = name.endswith(".parquet")
        texts.append(str(pq.read_table(pa.BufferReader(data)).to_pylist()) if table else data.decode())
    return "\n".join(texts)


def test_an_open_dataset_is_published_whole_and_loads_again(tmp_path, hub, capsys):
    out = dataset(tmp_path / "out", ["cc-by-4.0"] * 8)
    assert main([str(out), REPO, "--private"]) == 0
    assert hub.private == {REPO: True}
    assert hub.tokens == {f"Bearer {TOKEN}"}
    assert len(hub.commits) == 1
    for table in ("sft", "rl", "dialogues", "segments", "videos", "rejected"):
        names = [f"{table}/{path.name}" for path in (out / table).glob("*.parquet")]
        assert names
        for name in names:
            assert hub.files[name] == (out / name).read_bytes()
    assert not [name for name in hub.files if "frames" in name or name.startswith((".work", "preview"))]
    got = hub.save(tmp_path / "got")
    for name in ("sft", "dialogues", "segments", "videos"):
        rows = load_dataset(str(got), name, split="train", cache_dir=str(tmp_path / "cache"))
        assert len(rows) == pq.read_table(out / name).num_rows
    assert load_dataset(str(got), cache_dir=str(tmp_path / "cache"))["train"].column_names[0] == "messages"
    findings, _ = check_dataset(got, 0.0)
    assert [f for f in findings.faults if "frames" not in f.message] == []
    assert TOKEN not in capsys.readouterr().out + everything(hub)


def test_embedded_frames_and_the_preview_are_pictures(tmp_path, hub):
    out = dataset(tmp_path / "out", ["CC0"] * 8)
    assert main([str(out), REPO, "--frames", "embedded"]) == 0
    got = hub.save(tmp_path / "got")
    sft = load_dataset(str(got), "sft", split="train", cache_dir=str(tmp_path / "cache"))
    plain = pq.read_table(out / "sft").to_pylist()
    assert sft.features["images"] == List(Image())
    assert [row["question_id"] for row in sft] == [row["question_id"] for row in plain]
    assert sft[0]["images"][3].size == (56, 28)
    raw = sft.cast_column("images", List(Image(decode=False)))[0]["images"]
    assert [image["path"] for image in raw] == plain[0]["images"]
    assert raw[3]["bytes"] == (out / plain[0]["images"][3]).read_bytes()
    shown = load_dataset(str(got), "preview", split="train", cache_dir=str(tmp_path / "cache"))
    assert len(shown) == 8
    for row in shown:
        assert len(row["images"]) == len(row["turns"]) == len(row["turn_times"])
        assert {turn["label"] for turn in row["turns"]} == {"silent", "reply"}
        assert row["licence"] == "CC0"


def test_of_videos_without_a_licence_times_alone_go_up(tmp_path, hub, capsys):
    out = dataset(tmp_path / "out", ["cc-by-4.0", None] * 4)
    assert main([str(out), REPO, "--frames", "embedded"]) == 0
    assert "4 videos times alone" in capsys.readouterr().out
    got = hub.save(tmp_path / "got")
    closed = {f"v{n:02d}" for n in range(1, 8, 2)}
    for table in ("sft", "preview", "sft_embedded"):
        assert closed.isdisjoint(pq.read_table(got / table)["video_id"].to_pylist())
    windows = pq.read_table([str(p) for p in (got / "rl").glob("*.parquet")])["extra_info"].to_pylist()
    assert closed.isdisjoint(row["video_id"] for row in windows)
    turns = [json.loads(p.read_text()) for p in (got / "rl/user_turns").iterdir()]
    assert sorted(id for each in turns for id in each) == sorted(row["question_id"] for row in windows)
    for before, row in zip(rows(out, "segments"), rows(got, "segments"), strict=True):
        silenced = {"seen": "", "heard": "", "traits": []}
        assert row == (before | silenced if row["video_id"] in closed else before)
    for before, row in zip(rows(out, "dialogues"), rows(got, "dialogues"), strict=True):
        if row["video_id"] in closed:
            texts = [q["text"] for q in row["questions"]] + [
                a["text"] for q in row["questions"] for a in q["answers"]
            ]
            assert set(texts) == {""}
            times = [a["reply_end"] for q in before["questions"] for a in q["answers"]]
            assert [a["reply_end"] for q in row["questions"] for a in q["answers"]] == times
        else:
            assert row == before
    findings, _ = check_dataset(got, 0.0)
    assert [f for f in findings.faults if "frames" not in f.message] == []


def rows(out, table):
    return pq.read_table(out / table).to_pylist()


def test_without_any_licence_no_text_and_no_frame_leaves(tmp_path, hub):
    out = dataset(tmp_path / "out", [None] * 6)
    assert main([str(out), REPO]) == 0
    said = everything(hub)
    assert SPOKEN not in said and "whisk" not in said and "What is being done" not in said.replace("now?", "")
    assert main([str(out), REPO, "--frames", "preview"]) == 2


@pytest.mark.parametrize("frames", ["none", "preview", "embedded"])
def test_a_closed_licence_is_refused_before_anything_is_sent(tmp_path, hub, capsys, frames):
    out = dataset(tmp_path / "out", ["Ego4D licence", "cc-by-4.0"] * 3)
    assert main([str(out), REPO, "--frames", frames]) == 2
    assert "--licence-ok" in capsys.readouterr().err
    assert (hub.private, hub.uploads, hub.commits) == ({}, [], [])


def test_a_closed_licence_can_be_named(tmp_path, hub):
    out = dataset(tmp_path / "out", ["Ego4D licence", None] * 3)
    assert main([str(out), REPO, "--licence-ok", "ego4d licence", "none"]) == 0
    assert SPOKEN in everything(hub)


def test_times_under_a_closed_licence(tmp_path, hub):
    out = dataset(tmp_path / "out", ["Ego4D licence"] * 3)
    assert main([str(out), REPO, "--timestamps", "Ego4D licence"]) == 0
    assert SPOKEN not in everything(hub)


def test_an_interrupted_push_goes_on(tmp_path, hub, capsys):
    out = dataset(tmp_path / "out", ["mit"] * 8, config(dialogues_per_shard=2))
    hub.refuse_after = 7
    assert main([str(out), REPO]) == 1
    assert "same command" in capsys.readouterr().err
    assert (hub.commits, hub.files, len(hub.uploads)) == ([], {}, 7)
    before = set(hub.stored)
    hub.refuse_after = None
    assert main([str(out), REPO]) == 0
    assert before.isdisjoint(hub.uploads[7:])
    assert hub.files["run.json"]
    sent = len(hub.uploads)
    assert main([str(out), REPO]) == 0
    assert (len(hub.uploads), len(hub.commits)) == (sent, 1)


@pytest.mark.slow
def test_by_xet_as_the_hub_wants_it_today(tmp_path):
    out = dataset(tmp_path / "out", ["mit"] * 4)
    with serving() as hub:
        env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path / "hf")}
        env.pop("HF_HUB_DISABLE_XET", None)
        command = [sys.executable, "-m", "datagen.publish.push", str(out), REPO]
        done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0
    assert TOKEN not in done.stdout + done.stderr
    assert (hub.uploads, len(hub.commits)) == ([], 1)
    assert hub.xet_bytes > 10_000
    shards = json.loads((out / "run.json").read_text())["shards"]
    assert hub.large.items() >= {name: facts["sha256"] for name, facts in shards.items()}.items()


def test_a_new_version_takes_away_what_is_gone(tmp_path, hub):
    old = dataset(tmp_path / "old", ["mit"] * 8, config(dialogues_per_shard=2))
    new = dataset(tmp_path / "new", ["mit"] * 8, config(dialogues_per_shard=1000))
    assert main([str(old), REPO, "--frames", "preview"]) == 0
    hub.files["LICENSE"] = b"put there by hand"
    assert main([str(new), REPO]) == 0
    assert sorted(name for name in hub.files if name.startswith("sft/")) == [
        "sft/train-00000-of-00001.parquet"
    ]
    assert not [name for name in hub.files if name.startswith("preview/")]
    assert hub.files["LICENSE"]
    assert len(hub.commits) == 2


def test_nothing_private_goes_to_a_public_repository(tmp_path, hub):
    out = dataset(tmp_path / "out", ["mit"] * 3)
    hub.private[REPO] = False
    assert main([str(out), REPO, "--private"]) == 2
    assert (hub.uploads, hub.commits) == ([], [])


def test_wrong_usage_ends_with_a_line(tmp_path, hub, capsys, monkeypatch):
    out = dataset(tmp_path / "out", ["mit"] * 3)
    assert main([str(out), "a name/with/too many parts"]) == 2
    assert main([str(tmp_path / "nothing"), REPO]) == 2
    assert main([str(out), REPO, "--licence-ok", "gpl"]) == 2
    (out / "frames" / "v00" / "000002.jpg").unlink()
    assert main([str(out), REPO, "--frames", "embedded"]) == 2
    table = pq.read_table(out / "segments").drop_columns(["heard"])
    pq.write_table(table, out / "segments" / "train-00000-of-00001.parquet")
    assert main([str(out), REPO]) == 2
    monkeypatch.delenv("HF_TOKEN")
    assert main([str(out), REPO]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len([line for line in lines if line.startswith("datagen: ")]) == len(lines) == 6
    assert "heard" in lines[-2] and "HF_TOKEN" in lines[-1]
    assert (hub.uploads, hub.commits) == ([], [])


def test_paths_of_this_machine_stay_here(tmp_path, hub):
    out = dataset(tmp_path / "out", ["mit"] * 3)
    run = json.loads((out / "run.json").read_text())
    run["pipeline"]["dataset"]["exclude_videos"] = "/home/somebody/held-out.txt"
    (out / "run.json").write_text(json.dumps(run))
    assert main([str(out), REPO]) == 0
    assert "/home/somebody" not in everything(hub)
    assert "held-out.txt" in hub.files["README.md"].decode()
    published = {"frames": "none", "videos_with_times_alone": 0}
    assert json.loads(hub.files["run.json"])["published"] == published


def test_the_same_dataset_gives_the_same_bytes(tmp_path, hub):
    published = []
    for name in ("a", "b"):
        out = dataset(tmp_path / name, ["mit", None] * 4)
        assert main([str(out), REPO, "--frames", "embedded"]) == 0
        published.append(dict(hub.files))
    assert published[0] == published[1]
