"""`datagen benchmark`: gold and model input written from a dataset."""

import json
import random

import pyarrow.parquet as pq
import pytest
from jsonschema_rs import Draft202012Validator

from datagen.inspect import benchmark
from datagen.inspect.benchmark import main
from datagen.inspect.stats import main as stats
from datagen.resources import resource
from tests.inspect.gold import answer, item, write_gold
from tests.inspect.samples import cooking_dataset


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return cooking_dataset(tmp_path_factory.mktemp("benchmark") / "out")


def files(out):
    folder = out / "benchmark" / "proactive_videoqa"
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_held_out_videos_are_written_twice_alike(out, capsys):
    assert main([str(out)]) == 0
    first = files(out)
    assert set(first) == {"gold.json", "input_2_sec_per_frame.json"}
    gold, inputs = (json.loads(first[name]) for name in ("gold.json", "input_2_sec_per_frame.json"))
    videos = pq.read_table(out / "videos").to_pylist()
    held_out = {video["path"] for video in videos if video["split"] == "rl/val"}
    assert {item["video"] for item in gold} == held_out
    assert [item["question_id"] for item in gold] == [item["question_id"] for item in inputs]
    for shown in inputs:
        for turn in shown["conversation"]:
            for block in turn["content"]:
                assert block["type"] == "text" or (out / block["image"]).exists()
    assert f"{len(gold)} questions of {len(gold)} dialogues in rl/val" in capsys.readouterr().out
    assert main([str(out)]) == 0
    assert files(out) == first


def asked_at(conversation, seconds):
    """Times at which a reply is asked for, as the released inference counts them: frames shown so far."""
    times, shown, waiting = [], 0, list(conversation)
    while waiting:
        turn = waiting.pop(0)
        shown += sum(block["type"] == "image" for block in turn["content"])
        while turn.get("skip_inference"):
            turn = waiting.pop(0)
            shown += sum(block["type"] == "image" for block in turn["content"])
        times.append(shown * seconds)
    return times


@pytest.mark.parametrize("split", ["rl/val", "rl/train", "sft/train"])
def test_every_answer_can_be_earned_at_a_turn_that_asks_for_a_reply(out, split):
    assert main([str(out), "--split", split]) == 0
    gold, inputs = (json.loads(files(out)[name]) for name in ("gold.json", "input_2_sec_per_frame.json"))
    for one, shown in zip(gold, inputs, strict=True):
        times = asked_at(shown["conversation"], 2.0)
        assert times[0] >= one["conversation"][0]["time"]
        assert times[-1] <= one["duration"]
        for due in one["answer"]:
            start, end = due["reply_timespan"]
            assert any(start <= time <= end for time in times)


def test_the_files_keep_to_their_schemas_which_turn_others_away(out):
    main([str(out)])
    for name, part in (("gold", "gold.json"), ("input", "input_2_sec_per_frame.json")):
        schema = json.loads((resource("schemas") / "benchmark" / f"{name}.json").read_text())
        validator = Draft202012Validator(schema)
        value = json.loads(files(out)[part])
        assert validator.is_valid(value)
        del value[0]["conversation"][0]["role"]
        assert not validator.is_valid(value)


def test_another_split_takes_the_place_and_leaves_other_files_alone(out):
    main([str(out)])
    folder = out / "benchmark" / "proactive_videoqa"
    (folder / "input_1_sec_per_frame.json").write_text("[]")
    (folder / "pred.jsonl").write_text("")
    held_out = files(out)["gold.json"]
    assert main([str(out), "--split", "sft/train"]) == 0
    found = files(out)
    assert set(found) == {"gold.json", "input_2_sec_per_frame.json", "pred.jsonl"}
    videos = {json.loads(text)[0]["video"] for text in (held_out, found["gold.json"])}
    assert len(videos) == 2
    (folder / "pred.jsonl").unlink()


def test_a_frame_that_is_missing_is_told_with_status_1(tmp_path, capsys):
    out = cooking_dataset(tmp_path / "out")
    assert main([str(out)]) == 0
    video = json.loads(files(out)["gold.json"])[0]["question_id"].split("#")[0]
    (out / "frames" / video / "000003.jpg").unlink()
    capsys.readouterr()
    assert main([str(out)]) == 1
    assert f"frames/{video}/000003.jpg does not exist" in capsys.readouterr().err


def test_input_that_the_released_inference_cannot_use_is_found(out, tmp_path, capsys, monkeypatch):
    def changed(change):
        real = benchmark.benchmark_items

        def items(*args):
            made = real(*args)
            for _, shown in made:
                change(shown["conversation"])
            return made

        monkeypatch.setattr(benchmark, "benchmark_items", items)
        status = main([str(out)])
        monkeypatch.undo()
        return status, capsys.readouterr().err

    for change, why in (
        (lambda turns: turns[-1].update(skip_inference=True), "last turn has skip_inference"),
        (lambda turns: turns[0].update(skip_inference=True, must_reply=True), "must be replied to"),
        (lambda turns: turns[0].update(time=4.0), "time"),
        (lambda turns: turns[1]["content"].pop(0), "frames do not follow"),
    ):
        status, told = changed(change)
        assert status == 1
        assert why in told
    assert main([str(out)]) == 0


@pytest.mark.parametrize("videos", [0, 1])
def test_without_held_out_dialogues_there_is_a_line_and_status_2(tmp_path, capsys, videos):
    out = cooking_dataset(tmp_path / "out", videos=videos)
    assert main([str(out)]) == 2
    assert "--split" in capsys.readouterr().err
    assert main([str(tmp_path)]) == 2
    assert "datagen validate" in capsys.readouterr().err


def test_statistics_stand_beside_those_of_a_gold_file(out, tmp_path, capsys):
    assert main([str(out), "--split", "sft/train"]) == 0
    capsys.readouterr()
    gold = out / "benchmark" / "proactive_videoqa" / "gold.json"
    assert stats([str(out), str(gold)]) == 0
    figures = {line[:34].strip(): line[34:].split() for line in capsys.readouterr().out.splitlines()}
    items = json.loads(gold.read_text())
    answers = sum(len(item["answer"]) for item in items)
    assert figures["videos"][1] == f"{len(items)}"
    assert figures["answers per dialogue"][1] == f"{round(answers / len(items), 2):g}"
    assert figures["narrate: questions"][1] == f"{len(items)}"


def test_statistics_of_a_benchmark_of_another_house(out, tmp_path, capsys):
    random.seed(1)
    items = []
    for n in range(40):
        starts = sorted(random.sample(range(300), 5))
        answers = [answer(f"Thing {n} {s} is done.", float(s), s + 8.0, related_end=s + 7.0) for s in starts]
        items.append(item(f"e{n}", *answers, duration=360.2, video=f"e{n // 2}.mp4"))
    gold = write_gold(tmp_path / "anno.json", *items)
    assert stats([str(out), str(gold)]) == 0
    figures = {line[:34].strip(): line[34:].split() for line in capsys.readouterr().out.splitlines()}
    assert (figures["videos"][1], figures["dialogues"][1]) == ("20", "40")
    assert figures["answers per dialogue"][1] == "5"
    broken = write_gold(tmp_path / "broken.json", items[0] | {"duration": -1})
    assert stats([str(out), str(broken)]) == 2
    assert "broken.json: item 0: duration" in capsys.readouterr().err
