import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.export.schema import table_schema
from datagen.inspect.validate import main
from tests.export.samples import answer, built, dialogue, question
from tests.inspect.samples import cooking_dataset, rehash, write

RL = "rl/train-00000-of-00001.parquet"
SFT = "sft/train-00000-of-00001.parquet"
TURNS = "rl/user_turns/train.json"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return cooking_dataset(tmp_path_factory.mktemp("whole") / "out")


@pytest.fixture
def out(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "out")


def faults(out, capsys):
    status = main([str(out), "--json"])
    report = json.loads(capsys.readouterr().out)
    assert (status == 0) == report["right"]
    return {(f["file"], f["row"], f["message"]) for f in report["faults"]}


def edit(path, change):
    """Rewrite a shard with its rows changed by hand, keeping its schema."""
    table = pq.read_table(path, partitioning=None)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path)


def test_a_whole_dataset_is_right(whole, capsys):
    assert main([str(whole)]) == 0
    text = capsys.readouterr().out
    assert "rl rows" in text and "sft rows checked: no faults" in text
    assert "truth as placed" in text and "No trivial policy" in text


def test_what_it_measures(whole, capsys):
    assert main([str(whole), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    windows = sum(pq.read_metadata(path).num_rows for path in (whole / "rl").glob("*.parquet"))
    assert report["windows"] == report["rows"]["rl"] == windows > 5
    paper = report["earned"]["paper"]
    assert paper["silent"]["pauc"] == pytest.approx(0.125)
    assert paper["truth at start"]["pauc"] > paper["truth at 50%"]["pauc"] > paper["truth at end"]["pauc"]
    assert {earned["windows"] for found in report["earned"].values() for earned in found.values()} == {
        windows
    }
    assert "released" not in {d["setting"] for d in report["dead"]}
    assert report["verdicts"] == [] and report["right"]


def test_what_sft_teaches_is_in_its_span_and_earns_more_than_silence(whole, capsys):
    main([str(whole), "--json"])
    released = json.loads(capsys.readouterr().out)["earned"]["released"]
    # At the very end of each span a perfect reply has .5625, rounding up to the turn included.
    assert released["truth as placed"]["pauc"] >= 0.5625 - 1e-9
    assert released["truth as placed"]["reward"] > released["silent"]["reward"] + 1


def test_a_margin_that_nothing_keeps_fails_and_names_windows(whole, capsys):
    assert main([str(whole), "--margin", "50"]) == 1
    text = capsys.readouterr().out
    assert "TRIVIAL: paper: `silent` earns" in text
    assert "#0#seg0" in text


def test_a_dataset_in_which_one_sentence_is_always_right_fails(tmp_path, capsys):
    same = [answer("It goes on as before.", 10.0 * k, 10.0 * k + 9) for k in range(12)]
    talk = [dialogue(question("What now?", 0.0, *same), id=f"v{k}#0", type="1QnA") for k in range(4)]
    out = write(tmp_path / "out", [built(d, id=d.video_id, frames=60) for d in talk])
    assert main([str(out)]) == 1
    text = capsys.readouterr().out
    assert "TRIVIAL: paper: `first answer again` earns" in text and "repeat earlier ones" in text


@pytest.mark.parametrize("argv", [["nowhere"], ["."], ["--margin", "nan", "."]])
def test_wrong_usage_exits_2(tmp_path, monkeypatch, argv, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        assert main(argv) == 2
    except SystemExit as stop:
        assert stop.code == 2
    assert capsys.readouterr().err


def truth_of(row):
    return row["reward_model"]["ground_truth"]


RL_EDITS = [
    (lambda r: truth_of(r)["model_pred_timestamps"].pop(), "model_pred_timestamps for"),
    (lambda r: truth_of(r)["model_pred_timestamps"].__setitem__(0, 1.0), "not the times of the user turns"),
    (lambda r: r["prompt"].append({"role": "assistant", "content": "NO REPLY"}), "not the user's"),
    (lambda r: r["prompt"][0].update(role="user"), "roles do not alternate"),
    (lambda r: r["prompt"][0].update(content="Be nice."), "system prompt"),
    (lambda r: r["images"].append(r["images"][0]), "<image> in prompt for"),
    (lambda r: r["images"][0].update(type="video"), "type is not `image`"),
    (lambda r: r["images"].reverse(), "not the first frames"),
    (lambda r: r["extra_info"].update(split="val"), "in a shard of train"),
    (lambda r: truth_of(r).update(question_id="other"), "question_id differs"),
    (lambda r: truth_of(r).update(answer=[]), "no answer is due"),
    (lambda r: truth_of(r)["answer"][0].update(reply_timespan=[9.0, 9.0]), "is empty"),
    (lambda r: truth_of(r)["answer"][0].update(reply_timespan=[0.5, 0.6]), "holds no turn"),
    (lambda r: truth_of(r)["answer"][0].update(reply_timespan=[1.0, 2.0, 3.0]), "length 2"),
    (lambda r: truth_of(r)["answer"].append(truth_of(r)["answer"][0]), "reply spans touch"),
    (lambda r: truth_of(r)["answer"][0].update(content="No reply"), "silence is exactly"),
    (lambda r: truth_of(r)["prev_assistant_replies"].append("Said."), "prev_assistant_replies"),
    (lambda r: r.update(reward_model=None), "reward_model"),
    (lambda r: truth_of(r).update(model_pred_timestamps=None), "model_pred_timestamps"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), RL_EDITS)
def test_an_edited_rl_row_is_named(out, capsys, change, message):
    edit(out / RL, lambda rows: change(rows[1]))
    rehash(out)
    found = faults(out, capsys)
    assert {(file, row) for file, row, _ in found} == {(RL, 1)}
    assert any(message in text for *_, text in found), found


SFT_EDITS = [
    (lambda r: r["messages"].pop(), "not the assistant's"),
    (lambda r: r["messages"][2].update(content="no reply"), "silence is exactly"),
    (lambda r: r["messages"][2].update(content="NO REPLY "), "silence is exactly"),
    (lambda r: r["messages"][1].update(content="<image>What?"), "<image> in messages"),
    (lambda r: r["messages_blocks"][2]["content"][0].update(text="Something else."), "messages_blocks"),
    (lambda r: r["images"].__setitem__(0, "frames/v0/../../secret.jpg"), "is not frames/"),
    (lambda r: r["images"].__setitem__(0, "/etc/passwd"), "is not frames/"),
    (lambda r: r["turn_times"].pop(), "turn_times for"),
    (lambda r: r["turn_times"].__setitem__(1, 7.5), "is not the time of frame"),
    (lambda r: r.update(start=float("nan")), "are no times"),
    (lambda r: r.update(images=None), "images"),
    (lambda r: r["messages"][1].update(content="<image><image>What?\nassistant\nHi"), "reads as a role"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), SFT_EDITS)
def test_an_edited_sft_row_is_named(out, capsys, change, message):
    edit(out / SFT, lambda rows: change(rows[0]))
    rehash(out)
    found = faults(out, capsys)
    assert {(file, row) for file, row, _ in found} == {(SFT, 0)}
    assert any(message in text for *_, text in found), found


def test_speech_may_hold_the_words_of_silence_in_lower_case(out, capsys):
    def quote(rows):
        said = 'You can hear: "There was no reply."'
        rows[0]["messages"][2]["content"] = said
        rows[0]["messages_blocks"][2]["content"][0]["text"] = said

    edit(out / SFT, quote)
    rehash(out)
    assert not [text for *_, text in faults(out, capsys) if "silence" in text]


def test_a_changed_shard_is_found_by_its_hash(out, capsys):
    edit(out / RL, lambda rows: rows.pop())
    assert {file for file, *_ in faults(out, capsys)} == {RL}
    assert any("changed after the build" in text for *_, text in faults(out, capsys))


def test_files_too_many_and_too_few(out, capsys):
    shutil.copy(out / SFT, out / "sft" / "train-00000-of-00002.parquet")
    (out / "rejected" / "train-00000-of-00001.parquet").unlink()
    found = faults(out, capsys)
    assert ("sft/train-00000-of-00002.parquet", None, "is not listed in run.json") in found
    assert ("rejected/train-00000-of-00001.parquet", None, "is listed in run.json but not there") in found
    assert any("another row too" in text for *_, text in found)


def test_a_video_in_two_splits_is_named(out, capsys):
    shutil.copy(out / RL, out / "rl" / "val-00000-of-00001.parquet")
    shutil.copy(out / TURNS, out / "rl" / "user_turns" / "val.json")
    rehash(out)
    found = faults(out, capsys)
    assert any("is in rl/train too" in text for *_, text in found)
    assert any("in a shard of val" in text for *_, text in found)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (("label", pa.string()), "ms-swift acts on"),
        (("note", pa.string()), "is not in the schema"),
        (("agent_name", pa.int64()), "column agent_name is int64, not string"),
    ],
)
def test_a_column_that_does_not_belong_is_named(out, capsys, column, message):
    table = pq.read_table(out / RL, partitioning=None)
    name, kind = column
    values = pa.nulls(table.num_rows, kind)
    if name in table.column_names:
        table = table.drop_columns(name)
    pq.write_table(table.append_column(name, values), out / RL)
    rehash(out)
    found = faults(out, capsys)
    assert any(message in text for *_, text in found)
    assert any("rows were not checked" in text for *_, text in found)


def test_a_missing_column_and_a_wrong_order_are_named(out, capsys):
    table = pq.read_table(out / SFT, partitioning=None)
    pq.write_table(table.select(sorted(table.column_names)), out / SFT)
    pq.write_table(pq.read_table(out / RL, partitioning=None).drop_columns("images"), out / RL)
    rehash(out)
    messages = {text for *_, text in faults(out, capsys)}
    assert {"columns stand in another order", "column images is missing"} <= messages


def test_missing_frames_are_named_one_for_a_row(out, capsys):
    video = pq.read_table(out / SFT, partitioning=None)["video_id"][0].as_py()
    (out / "frames" / video / "000003.jpg").unlink()
    found = faults(out, capsys)
    assert (SFT, 0, f"frames/{video}/000003.jpg does not exist") in found
    shutil.rmtree(out / "frames")
    assert {file for file, *_ in faults(out, capsys)} == {"frames"}


def test_a_reply_that_the_dialogues_do_not_give_is_named(out, capsys):
    def lengthen(rows):
        for row in rows:
            for each in row["questions"]:
                for a in each["answers"]:
                    a["text"] = a["text"].replace("is", "was").replace("are", "were")

    edit(out / "dialogues" / "train-00000-of-00001.parquet", lengthen)
    rehash(out)
    found = faults(out, capsys)
    assert found and all("the dialogues table gives" in text for *_, text in found)
    shutil.rmtree(out / "dialogues")
    assert any("are not in their tables" in text for *_, text in faults(out, capsys))


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (TURNS, "[]"), (TURNS, "{}"), (TURNS, ""), (TURNS, '{"a": "\\ud800"'), (TURNS, "[" * 100_000),
        ("run.json", "[1]"), ("run.json", '{"status": "unfinished"}'), ("run.json", "\x00"),
        ("run.json", '{"status": "done", "shards": {"../../etc/passwd": 1}, "pipeline": {"name": 3}}'),
        (RL, "PAR1 nonsense PAR1"), (SFT, ""), ("videos/train-00000-of-00001.parquet", "x"),
        ("dialogues/train-00000-of-00001.parquet", "x"), ("segments/train-00000-of-00001.parquet", "x"),
    ],
)  # fmt: skip
def test_broken_files_are_faults_not_tracebacks(out, capsys, file, text):
    (out / file).write_text(text)
    assert {file, RL} & {name for name, *_ in faults(out, capsys)}


def test_user_turns_of_a_row_that_are_broken(out, capsys):
    turns = json.loads((out / TURNS).read_text())
    first, second, third, *_ = turns
    turns[first] = [{"role": "user", "time": "now", "content": []}]
    turns[second][1]["time"] = turns[second][0]["time"]
    turns[third][-1]["content"].append({"type": "text", "text": "Why?<|im_end|>"})
    (out / TURNS).write_text(json.dumps(turns, indent=1))
    messages = " ".join(text for *_, text in faults(out, capsys))
    assert "user turns: Expected `float`" in messages and "do not ascend" in messages
    assert "contains <|" in messages


def test_control_characters_do_not_reach_the_terminal(out, capsys):
    edit(out / SFT, lambda rows: rows[0].update(question_id="\x1b[2Jgone\u202e", messages=[]))
    main([str(out)])
    text = capsys.readouterr().out
    assert "\x1b" not in text and "\u202e" not in text and "\\u001b[2Jgone" in text


WORDS = ["", "user", "system", "<image>", "NO REPLY", "v0", "v0#0#seg0", "frames/v0/000001.jpg", "\0"]


def odd(kind, draw):
    """Some value of an Arrow type that nobody expects."""
    if draw(st.booleans()) or pa.types.is_struct(kind):
        return None
    if pa.types.is_list(kind):
        return []
    if pa.types.is_floating(kind):
        return draw(st.sampled_from([float("nan"), float("inf"), -1.0, 0.0, 1e308]))
    if pa.types.is_integer(kind):
        return draw(st.sampled_from([-(2**63), 2**63 - 1, 0]))
    return draw(st.booleans() if pa.types.is_boolean(kind) else st.sampled_from(WORDS))


def bent(value, kind, draw):
    """The value with something odd in one place of it."""
    if not value or not pa.types.is_nested(kind) or draw(st.integers(0, 5)) == 0:
        return odd(kind, draw)
    if pa.types.is_list(kind):
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], bent(value[at], kind.value_type, draw), *value[at + 1 :]]
    at = draw(st.sampled_from([each.name for each in kind]))
    return value | {at: bent(value[at], kind.field(at).type, draw)}


@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_whatever_stands_in_the_tables_there_is_no_traceback(whole, tmp_path_factory, data):
    out = tmp_path_factory.mktemp("any") / "out"
    shutil.copytree(whole, out, ignore=shutil.ignore_patterns("frames"))
    for table in ("rl", "sft", "dialogues", "videos", "segments"):
        path = out / table / "train-00000-of-00001.parquet"
        schema = table_schema(table)
        rows = pq.read_table(path, partitioning=None).to_pylist()
        for at in range(min(5, len(rows))):
            name = data.draw(st.sampled_from(schema.names))
            rows[at][name] = bent(rows[at][name], schema.field(name).type, data.draw)
        pq.write_table(pa.Table.from_pylist(rows, schema), path)
    assert main([str(out), "--json"]) == 1
