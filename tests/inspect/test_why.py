"""Where every text comes from: in the tables, and as `datagen show --why` tells it."""

import shutil
import typing

import msgspec
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace

from datagen.inspect.dataset import read_rows
from datagen.ledger import FLOW, Event, Ledger, Lost, key_of
from datagen.llm.chat import Attempt, ChatReply, ChatRequest, Message, Picture, Text
from datagen.records import Answer, Call, Narration, Question, Rejection, Sidecar, calls_by_item, dialogue_id
from tests import test_flow
from tests.export.samples import answer, built, dialogue
from tests.inspect.samples import HOSTILE, config, cooking, shown, write
from tests.media.clips import counter
from tests.test_flow import SECONDS, honest, run


class Memory(test_flow.Memory):
    """With frames of its own."""

    steps: typing.ClassVar[dict] = {}


def told(out, id, *more):
    status, text, wrong = shown(out, id, "--why", *more)
    assert status == 0 and not wrong
    assert all(c.isprintable() or c == "\n" for c in text)
    return text


def whole(text):
    """Without the line breaks of wrapping."""
    return " ".join(text.split())


def any_shape(request):
    """The loopback server's model, which also writes 1QnA."""
    value = honest(request)
    if request.schema != "one_qna":
        return value
    asked = [{key: q[key] for key in ("type", "question", "answers")} for q in value["questions"]]
    return {"dialogues": asked}


def faulty():
    """Hears in a caption what nobody said and writes a reply that is too long; mends both when asked to."""
    heard = []

    def reply(request):
        if request.schema == "repair":
            if "caption" in request.prompt:
                return {"repairs": [{"path": "/heard", "value": None}]}
            mended = "Now one of them is moving past slowly."
            return {"repairs": [{"path": "/questions/0/answers/0/reply", "value": mended}]}
        value = honest(request)
        if request.schema == "caption" and heard in ([], [request]):
            heard[:] = [request]
            value["heard"] = "Somebody sings."
        if request.schema == "n_qna":
            value["questions"][0]["answers"][0]["reply"] = "slowly " * 60
        return value

    return reply


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return counter(tmp_path_factory.mktemp("clip") / "a.mp4", [n / 5 for n in range(5 * SECONDS)])


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    return tmp_path_factory.mktemp("frames")


def dataset(out, made, memory):
    """The tables of what a flow made, with its calls in a ledger."""
    write(out, [made])
    ledger = Ledger(out / ".work")
    events = [
        Event(call_key(request), "item", "ask", msgspec.Raw(msgspec.json.encode(reply)))
        for request, reply in memory.known.items()
    ]
    ledger.add([*events, Event("flow", "item", FLOW, msgspec.Raw(b"{}"), None, made.video.id)])
    ledger.close()
    return out


def call_key(request):
    return key_of("ask", 1, (request,))


@pytest.fixture(scope="module")
def mended(clip, frames, tmp_path_factory):
    memory = Memory(faulty())
    made = run(clip, frames, memory, type="nqna", tighten=True)
    return dataset(tmp_path_factory.mktemp("mended"), made, memory), made, memory


@pytest.mark.parametrize("kind", ["nqna", "1qna"])
@pytest.mark.parametrize("writing", ["at_once", "incremental"])
def test_every_text_of_a_model_stands_in_the_reply_of_a_call_it_names(clip, frames, kind, writing):
    memory = Memory(any_shape)
    made = run(clip, frames, memory, type=kind, writing=writing)
    replies = {call_key(request): (request, reply) for request, reply in memory.known.items()}
    texts = [(caption.seen, caption.calls) for caption in made.captions]
    for one in made.dialogues:
        texts += [(q.text, q.calls) for q in one.questions]
        texts += [(a.text, a.calls) for q in one.questions for a in q.answers]
    assert made.dialogues
    for text, calls in texts:
        wrote = [call for call in calls if call.role == "wrote"]
        assert len(wrote) == 1
        request, reply = replies[wrote[0].id]
        assert text in reply.text
        assert (wrote[0].prompt, wrote[0].model, wrote[0].served) == (request.prompt, request.model, "m")
    judged = [c for d in made.dialogues for cs in calls_by_item(d).values() for c in cs if c.role == "judged"]
    assert judged
    assert all(replies[call.id][0].schema in ("judge", "silence") for call in judged)


def test_repairs_name_what_they_repaired_and_nothing_else(mended):
    _, made, memory = mended
    replies = {call_key(request): reply for request, reply in memory.known.items()}
    items = {id: calls for d in made.dialogues for id, calls in calls_by_item(d).items()}
    repaired = {id: [c for c in calls if c.role == "repaired"] for id, calls in items.items()}
    (only,) = [id for id, calls in repaired.items() if calls]
    assert only.endswith("/q0/a0")
    assert "Now one of them is moving past slowly." in replies[repaired[only][0].id].text
    assert repaired[only][0].prompt.startswith("n_qna/v") and "+repair/v" in repaired[only][0].prompt
    assert [[c.role for c in caption.calls] for caption in made.captions].count(["wrote", "repaired"]) == 1


def test_the_chain_of_an_answer_leads_to_calls_captions_and_the_video(mended):
    out, made, memory = mended
    one = made.dialogues[0]
    first = one.questions[0].answers[0]
    text = told(out, f"{one.id}/q0/a0")
    for call in (*first.calls, *next(c for c in made.captions if c.segment_id == first.evidence[0]).calls):
        assert f"{call.role:<10}call {call.id} ({call.prompt})" in text
        assert text.count(f"\ncall {call.id}\n") == 1
    assert {"wrote", "repaired", "judged", "tightened"} == {call.role for call in first.calls}
    assert f"answer {one.id}/q0/a0" in text and first.text in whole(text)
    assert f"{one.id}/q0/a1" not in text and f"question {one.id}/q0," not in text
    assert "1 + 1 tokens" in text and made.video.digest in text and "licence   none named" in text
    assert "missing" not in text and "no such" not in text
    raw = whole(told(out, f"{one.id}/q0/a0", "--raw"))
    by_key = {call_key(request): reply.text for request, reply in memory.known.items()}
    assert whole(by_key[first.calls[0].id]) in raw and '{"sufficient": ' in raw


def test_without_the_ledger_the_tables_tell_who_wrote_and_say_what_is_missing(mended, tmp_path):
    out, made, _ = mended
    moved = tmp_path / "moved"
    shutil.copytree(out, moved, ignore=shutil.ignore_patterns(".work"))
    id = made.dialogues[0].id
    text = told(moved, id)
    assert all(
        f"call {c.id} ({c.prompt})" in text
        for calls in calls_by_item(made.dialogues[0]).values()
        for c in calls
    )
    assert "missing: " in text and "ledger.sqlite" in text and "1 + 1 tokens" not in text
    (moved / ".work").mkdir()
    (moved / ".work" / "ledger.sqlite").write_bytes(b"no database" * 100)
    assert "missing: " in told(moved, id)


def test_what_the_judge_turned_away_names_the_calls_that_did(clip, frames, tmp_path):
    def doubting(request):
        value = any_shape(request)
        return value | {"answerable": "no"} if request.schema == "judge" else value

    memory = Memory(doubting)
    made = run(clip, frames, memory, type="1qna")
    row = next(row for row in made.rejected if row.stage == "verify" and "/a" in row.item_id)
    assert [call.role for call in row.calls][:2] == ["wrote", "judged"]
    # A dataset needs a dialogue to be one.
    other = replace(cooking(made.video.id), id=f"{made.video.id}#other")
    out = dataset(tmp_path / "out", replace(made, dialogues=(other,)), memory)
    text = told(out, row.item_id, "--raw")
    assert f"rejected {row.item_id}" in text and row.code in text and '"answerable": "no"' in whole(text)
    assert all(f"call {call.id}" in text for call in row.calls)


def ruled(name="door.mp4", licence=None):
    """A video narrated by a sidecar, with a dialogue by rule."""
    asked = Question(
        text="Tell me when this happens: A red door opens.",
        ask_time=0.0,
        kind="detect",
        answers=(
            replace(answer("Now: A red door opens.", 8.0, 16.0), wording="rules/v1:0/detected", keys=("12",)),
        ),
        wording="rules/v1:0/detect_event",
        keys=("12",),
    )
    made = built(dialogue(asked, id="v1#a"), id="v1", frames=12)
    captions = tuple(
        replace(c, seen=HOSTILE, keys=("12", "13"), provenance="sidecar:srt") for c in made.captions
    )
    facts = {"sidecar": "door.srt", "sidecar_format": "srt", "sidecar_licence": "CC BY 4.0"}
    video = replace(made.video, name=name, licence=licence, **facts)
    lost = Rejection("sidecar", "v1", "door.srt:14", "Invalid", f"times {HOSTILE} cannot be read")
    return replace(made, video=video, captions=captions, rejected=(lost,))


def test_a_rule_names_its_wording_and_the_lines_of_the_sidecar(tmp_path):
    out = write(tmp_path / "out", [ruled(licence="CC0")])
    text = told(out, "v1#a/q0/a0")
    assert "by rule   wording rules/v1:0/detected" in text
    assert "sidecar   door.srt: 12\n" in text and "missing: " in text and "licence   CC0; source" in text
    ledger = Ledger(out / ".work")
    narrations = tuple(
        Narration(start=8, end=16, text=words, modality="visual", kind="narration", key=key)
        for key, words in (("12", "A red door opens."), ("13", HOSTILE))
    )
    read = msgspec.Raw(msgspec.json.encode(Sidecar(format="srt", narrations=narrations)))
    flow = Event("f", "item", FLOW, msgspec.Raw(b"{}"), None, "v1")
    ledger.add([Event("r", "item", "read_sidecar", read), flow])
    ledger.close()
    text = told(out, "v1#a/q0/a0")
    assert "sidecar   door.srt: 12: A red door opens.\n" in text and "missing" not in text
    segment = told(out, "v1-a")
    assert "door.srt: 13: a \\u001b[31mred" in segment and "by        sidecar:srt" in segment
    assert "door.srt:14, of video v1, at sidecar" in told(out, "door.srt:14")
    assert "door.srt (srt), licence CC BY 4.0" in told(out, "v1")


def test_text_from_outside_cannot_steer_the_terminal(tmp_path):
    call = Call(id=HOSTILE, role="wrote", prompt=f"../../{HOSTILE}", model=HOSTILE, served=HOSTILE)
    made = ruled(name=HOSTILE)
    asked = made.dialogues[0].questions[0]
    one = replace(
        made.dialogues[0], provenance=HOSTILE, questions=(replace(asked, calls=(call,), text=HOSTILE),)
    )
    out = write(tmp_path / "out", [replace(made, dialogues=(one,))])
    reply = ChatReply(
        text=HOSTILE, finish_reason="stop", model="m", prompt_tokens=1, completion_tokens=1, attempts=()
    )
    ledger = Ledger(out / ".work")
    ledger.add([Event(HOSTILE, "item", "ask", msgspec.Raw(msgspec.json.encode(reply)))])
    ledger.close()
    text = told(out, "v1#a", "--raw")
    assert "this datagen has no such ../../a \\u001b" in whole(text) and "said      a \\u001b[31mred" in text
    status, _, wrong = shown(out, HOSTILE, "--why")
    assert status == 2 and "\x1b" not in wrong


def test_rows_to_train_on_lead_to_what_stands_in_them(tmp_path):
    videos = [built(cooking(f"v{k}", shift=k), id=f"v{k}", frames=60) for k in range(8)]
    out = write(tmp_path / "out", videos, config(max_frames=30, rl_fraction=0.5))
    (path,) = (out / "sft").glob("*.parquet")
    part = next(row for _, row in read_rows(path) if "@" in row["question_id"])
    text = told(out, part["question_id"])
    answers = [
        m["content"] for m in part["messages"] if m["role"] == "assistant" and m["content"] != "NO REPLY"
    ]
    assert all(said in whole(text) for said in answers)
    assert text.count("\nanswer ") == len(answers) < len(videos[0].dialogues[0].questions[0].answers)
    (path,) = (out / "rl").glob("train-*.parquet")
    _, row = next(read_rows(path))
    truth = row["reward_model"]["ground_truth"]
    text = told(out, truth["question_id"])
    assert text.startswith(f"rl row {truth['question_id']}: a part of dialogue")
    assert all(due["content"] in whole(text) for due in truth["answer"])


def test_what_is_not_there_is_refused_with_the_nearest_ids(tmp_path):
    out = write(tmp_path / "out", [ruled()])
    for wanted, near in (("v1#b", "v1#a"), ("v1#a/q0/a7", "v1#a"), ("door.srt:15", "door.srt:14")):
        status, text, wrong = shown(out, wanted, "--why")
        assert (status, text) == (2, "") and near in wrong and wrong.count("\n") == 1
    assert shown(out, "--why")[0] == 2 and shown(out, "v1#a", "--raw")[0] == 2
    assert shown(tmp_path / "nowhere", "v1#a", "--why")[0] == 2


def test_tables_of_an_earlier_version_are_told_as_far_as_they_go(tmp_path):
    out = write(tmp_path / "out", [replace(ruled(), dialogues=(cooking("v1", 24.0, 8.0),))])
    for table, names in (("dialogues", ["questions"]), ("segments", ["calls"]), ("rejected", ["calls"])):
        for path in (out / table).glob("*.parquet"):
            rows = pq.read_table(path).to_pylist()
            for row in rows:
                for asked in row.get("questions", ()):
                    for item in (asked, *asked["answers"]):
                        for name in ("wording", "keys", "calls"):
                            item.pop(name)
                row.update({"provenance": "m:n_qna/v1:0"} if table == "dialogues" else {})
                if table != "dialogues":
                    row.pop(names[0])
            pq.write_table(pq.ParquetFile(path).read().from_pylist(rows), path)
    text = told(out, "v1#0")
    assert "no call is known" in text and "Two eggs are cracked" in text


def test_provenance_changes_no_id_and_no_key_of_a_paid_call():
    """Hashes as they were before calls were kept: a ledger of then pays for nothing again."""
    span = {"evidence_start": 8.0, "evidence_end": 16.0, "reply_start": 8.0, "reply_end": 16.0}
    said = Answer(text="A red door opens.", evidence=("s1",), **span)
    asked = Question(text="Tell me what opens.", ask_time=0.0, kind="detect", answers=(said,))
    call = Call(id="1", role="wrote", prompt="p", model="m", served="s")
    traced = replace(asked, wording="w", keys=("1",), calls=(call,), answers=(replace(said, calls=(call,)),))
    assert dialogue_id("v", (asked,)) == dialogue_id("v", (traced,)) == "v#ba6f179f"
    parts = (Text("hello"), Picture("v1/000001.jpg", "00"))
    request = ChatRequest(
        model="m", messages=(Message("user", parts),), schema="caption", prompt="caption/v1:1f3a9c2e"
    )
    assert call_key(request) == "e91dda0139ffe426f33ac3db21de6ec2"
    kept = (
        b'{"text":"{}","finish_reason":"stop","model":"m","prompt_tokens":1,"completion_tokens":2,'
        b'"attempts":[{"status":200,"seconds":0.5,"prompt_tokens":0,"completion_tokens":0,"finish_reason":"",'
        b'"fault":""}]}'
    )
    reply = msgspec.json.decode(kept, type=ChatReply)
    assert reply.attempts == (Attempt(status=200, seconds=0.5),) and msgspec.json.encode(reply) == kept


def test_a_call_that_failed_is_told_with_its_failure(tmp_path):
    call = Call(id="k1", role="wrote", prompt="caption/v1:0", model="m", served="")
    lost = Rejection("caption", "v1", "v1:seg", "Refused", "declined", (call,))
    out = write(tmp_path / "out", [replace(ruled(), rejected=(lost,))])
    ledger = Ledger(out / ".work")
    ledger.add(
        [Event("k1", "item", "ask", msgspec.Raw(msgspec.json.encode(Lost("declined by m"))), "Refused")]
    )
    ledger.close()
    text = told(out, "v1:seg")
    assert "failed    declined by m" in text and "served as nothing: it failed" in text
