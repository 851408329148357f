import asyncio
import base64
import hashlib
import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

import datagen.inspect.report as report
from datagen.config import Config, DialogueOptions
from datagen.dialogue.synthesize import synthesize
from datagen.flow import VERSIONS
from datagen.inspect.check import check_dataset
from datagen.inspect.forecast import MARGIN
from datagen.inspect.report_calls import _ASK, Calls
from datagen.inspect.report_survey import dialogue_of, survey
from datagen.ledger import FLOW, Event, Ledger, key_of
from datagen.records import Built, Call, Rejection
from tests.dialogue import test_synthesize as soup
from tests.export.samples import answer, built, dialogue, question
from tests.inspect.report_samples import HOSTILE, dataset, hostile, video, with_pictures
from tests.inspect.samples import config, write
from tests.llm.scripted import Scripted


class Page(HTMLParser):
    """The elements of a page with their attributes, and the text of its data blocks by id."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.blocks = Counter(), set(), {}
        self._block = None
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags[tag] += 1
        self.attributes.update(values)
        if tag == "script":
            self._block = values.get("id")
            self.blocks[self._block] = ""

    def handle_endtag(self, tag):
        self._block = None if tag == "script" else self._block

    def handle_data(self, data):
        if self._block:
            self.blocks[self._block] += data


def read(out):
    page = Page(report.write_report(out).read_text(encoding="utf-8"))
    index = json.loads(page.blocks["index"])
    pages = [json.loads(page.blocks[f"page-{n}"]) for n in range(len(index["rows"]))]
    return page, index, pages


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return dataset(tmp_path_factory.mktemp("report") / "out", 12)


def test_the_same_dataset_gives_the_same_bytes(out):
    first = report.write_report(out).read_bytes()
    assert report.write_report(out).read_bytes() == first
    assert str(out).encode() not in first


def test_a_page_tells_where_every_answer_comes_from_and_where_it_went(tmp_path):
    judged = Call(id="00ff", role="judged", prompt="judge/v1:aa", model="m", served="m-1")
    one = dialogue(
        question("What opens?", 0.0, answer("A red door.", 4.0, 8.0), answer("A blue gate.", 9.0, 17.0)),
        question("And now?", 20.0, replace(answer("A gate stands open.", 9.0, 17.0), immediate=True)),
        id="v1#0",
    )
    made = replace(
        built(one, id="v1", frames=15),
        rejected=(Rejection("verify", "v1", "v1#0/q0/a7", "repeat", "again", (judged,)),),
    )
    _, index, (page,) = read(with_pictures(write(tmp_path / "out", [made], config())))
    first, second = page["questions"]
    # Turns of two frames of 2 s end at 4, 8, 12, ..., 30.
    assert page["turns"] == [4, 8, 12, 16, 20, 24, 28, 30]
    assert page["asked"] == [[0, 0], [4, 1]]
    assert page["replies"] == [[1, "A red door."], [4, "A gate stands open."]]
    assert [a["turn"] for a in first["answers"]] == [1, None]
    assert first["answers"][0]["reply_span"] == [4, 8] and second["answers"][0]["turn"] == 4
    assert page["video"]["path"] == "clips/v1.mp4" and page["video"]["cuts"] == [4, 8]
    assert page["segments"][0]["seen"] == "A red box." and page["segments"][1]["seen"] == ""
    assert "repeat" in index["rows"][0]["flags"]
    flag = {"stage": "verify", "code": "repeat", "item": "v1#0/q0/a7", "detail": "again", "calls": [0]}
    assert flag in page["flags"]
    assert page["calls"][0]["prompt"] == "judge/v1:aa" and page["texts"] == {}
    assert "(.work), which is not here" in index["missing"]


def test_evidence_is_given_by_the_numbers_of_segments(out):
    _, _, pages = read(out)
    for page in pages:
        for given in (a for q in page["questions"] for a in q["answers"]):
            (number,) = given["evidence"]
            segment = page["segments"][number]
            assert [segment["start"], segment["end"]] == given["evidence_span"]
            turn = dict(page["replies"]).get(given["turn"])
            assert given["turn"] is None or given["text"] in turn


def test_the_worst_have_most_flags_and_the_random_ones_are_drawn_by_the_seed(out, monkeypatch):
    monkeypatch.setattr(report, "BESIDE", 4)
    _, index, pages = read(out)
    checks = [sum(flag["stage"] in ("verify", "measured") for flag in page["flags"]) for page in pages]
    worst = [checks[number] for number in index["worst"]]
    assert worst == sorted(checks, reverse=True)[:4] and worst[0] == 2
    assert len(set(index["random"])) == 4
    run = json.loads((out / "run.json").read_text())
    draws = set()
    for seed in range(5):
        found, _, _ = surveyed(out)
        draws.add(
            tuple(report.choose(found, msgspec.convert(run["pipeline"] | {"seed": seed}, Config), [])[1])
        )
    assert len(draws) > 1


def test_beyond_what_a_browser_opens_at_once_the_worst_and_a_sample_are_shown(out, monkeypatch):
    monkeypatch.setattr(report, "BESIDE", 2)
    monkeypatch.setattr(report, "MOST_DIALOGUES", 5)
    _, index, pages = read(out)
    assert 3 <= len(pages) <= 5 and len(index["worst"]) == 2
    assert "of 12 are in this report" in (out / "report.html").read_text()


def surveyed(out):
    run = json.loads((out / "run.json").read_text())
    config = msgspec.convert(run["pipeline"], Config)
    findings, forecast = check_dataset(out, MARGIN)
    return survey(out, config, findings, forecast), findings, forecast


def test_what_is_counted(tmp_path):
    talk = question("What opens?", 0.0, answer("Red door.", 0.0, 6.0), answer("Blue gate.", 12.0, 20.0))
    quiet = dialogue(question("Tell me what falls.", 0.0, kind="detect"), id="v2#0")
    lost = (
        Rejection("caption", "v2", "v2-b", "Refused", "no"),
        Rejection("probe", "x", "x", "Corrupt", "no picture"),
    )
    made = [built(dialogue(talk, id="v1#0"), id="v1"), replace(built(quiet, id="v2"), rejected=lost)]
    out = write(tmp_path / "out", made, config())
    found, _, _ = surveyed(out)
    assert found.shapes == {"live_whisperx": {"narrate": 1, "detect": 1}}
    # Given at 8 s and 20 s: 8/6 of the first span, all of the second.
    assert found.latency == {6: 1, 4: 1}
    # At 1 s a turn replies come at 6 and 20 s, at 2 s too: 14 s apart, in the bin up to 16.
    assert found.gaps == {1.0: {4: 1}, 2.0: {4: 1}}
    assert [flag.code for flag in found.flags["v2#0"]] == ["no_reply"]
    assert found.losses["probe", "Corrupt"].count == 1
    assert [flag.code for flag in found.lost["v2"]] == ["Refused"]
    assert found.worst()[0] == "v2#0" and found.talking == {"v1", "v2"}
    assert found.segmented == found.captioned == {"v1", "v2"} and "v1" in found.exported
    page = report.write_report(out).read_text()
    assert "−1 Corrupt" in page and "no picture" in page


def test_items_belong_to_dialogues():
    for item in ("v1#0", "v1#0/q1", "v1#0/q1/a2", "v1#0#seg3", "v1#0@184000", "v1#0#seg3/q1/a2"):
        assert dialogue_of(item) == "v1#0"
    assert dialogue_of("a@b#0") == "a@b#0"
    assert dialogue_of("/q" * 100_000) == ""


def test_hostile_text_stays_text(tmp_path):
    page, _, pages = read(hostile(tmp_path / "out"))
    assert page.tags["script"] == 1 + 1 + len(pages) and page.tags["img"] == 0
    assert not {"onerror", "onload", "style", "onclick"} & set(page.attributes)
    assert {p["video"]["path"] for p in pages} == set(HOSTILE[:3])
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<script>document" not in html and "</script><img" not in html
    assert not re.search(r"(?:src|href|url)\s*[=(]\s*[\"']?(?:https?:)?//", html.split("<script>")[0])


def test_json_cannot_end_its_block():
    text = report.inert({"</script>": "<!--<script> & \u2028 \u0000"})
    assert not set("<>&") & set(text) and json.loads(text) == {"</script>": "<!--<script> & \u2028 \u0000"}


def test_the_policy_lets_only_this_script_run(out):
    html = report.write_report(out).read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)[1]
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy and "http" not in policy
    for tag in ("style", "script"):
        body = re.search(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_what_a_model_was_asked_and_said_is_found_in_the_ledger(tmp_path):
    made, calls = tmp_path / "out", {}
    model = Scripted(soup.GOOD_N)

    async def ask(request):
        id = key_of("ask", VERSIONS["ask"], (request,))
        calls[id] = await model(request)
        return replace(calls[id], id=id)

    config = Config(name="t", dialogue=DialogueOptions(type="nqna"))
    (one,), _ = asyncio.run(
        synthesize(soup.VIDEO, soup.SEGMENTS, soup.CAPTIONS, config.dialogue, config.seed, ask, "llm")
    )
    whole = Built(
        video=soup.VIDEO, watched=built(one).watched, segments=soup.SEGMENTS, captions=soup.CAPTIONS,
        dialogues=(one,), rejected=(),
    )  # fmt: skip
    ledger = Ledger(made / ".work")
    events = [Event(key, "i", "ask", msgspec.Raw(msgspec.json.encode(reply))) for key, reply in calls.items()]
    ledger.add([*events, Event("f", "i", FLOW, msgspec.Raw(msgspec.json.encode(whole)), None, "v1")])
    ledger.close()
    (id,) = calls
    assert {call.id for question in one.questions for call in question.calls} == {id}
    names = {"llm": "llm"}

    def texts(out=made, config=config, most=10_000_000, dialogue=one):
        return Calls(out, config, names, most, set()).texts(dialogue, [id, "another"])

    found = Calls(made, config, names, 10_000_000, set())
    said, lines = found.texts(one, [id, "another"])
    assert set(said) == {id} and json.loads(said[id].reply) == soup.GOOD_N
    assert soup.SEEN[3] in "\n".join(lines[number] for number in said[id].user)
    assert "You plan live help" in list(found.systems)[said[id].system]
    assert texts(dialogue=replace(one, video_id="v2", id="v2#0")) == ({}, ())
    assert texts(config=replace(config, seed=1)) == ({}, ())
    assert texts(most=0) == ({}, ())
    assert texts(out=tmp_path) == ({}, ())
    assert "not here any more" in Calls(tmp_path, config, names, 1, set()).missing
    assert ("ask", VERSIONS["ask"]) == _ASK
    (made / ".work" / "ledger.sqlite").write_bytes(b"no database" * 100)
    assert texts() == ({}, ())


def test_a_dataset_without_dialogues_has_a_report(tmp_path):
    _, index, pages = read(write(tmp_path / "out", [built(id="v1")], config()))
    assert (index["rows"], index["worst"], pages) == ([], [], [])


@pytest.mark.parametrize("spoil", ["missing", "unfinished", "no statistics", "table"])
def test_what_cannot_be_reported_on_is_said_in_one_line(tmp_path, capsys, spoil):
    out = tmp_path / "out"
    if spoil != "missing":
        write(out, [video(0)], config())
        run = json.loads((out / "run.json").read_text())
        run = {"unfinished": {"status": "unfinished"}, "no statistics": run | {"statistics": {}}}.get(
            spoil, run
        )
        (out / "run.json").write_text(json.dumps(run))
    if spoil == "table":
        next((out / "dialogues").glob("*.parquet")).write_bytes(b"no parquet")
    assert report.main([str(out)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("datagen: OUT ") and said.count("\n") == 1
    assert not (out / "report.html").exists()


def test_the_command_names_what_it_wrote(out, capsys):
    assert report.main([str(out)]) == 0
    assert str(Path(out) / "report.html") in capsys.readouterr().out
