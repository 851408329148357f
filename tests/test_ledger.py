import os
import resource
import shutil

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.config import FrameOptions
from datagen.errors import UsageError
from datagen.ledger import FLOW, Cost, Event, Ledger, key_of
from datagen.records import Location
from datagen.spool import Spool


def event(
    key: str, step: str = "watch", value: object = 1, code: str | None = None, video_id: str = ""
) -> Event:
    return Event(key, "item", step, msgspec.Raw(msgspec.json.encode(value)), code, video_id)


def test_keys_follow_what_a_result_depends_on_and_nothing_else():
    key = key_of("watch", 1, (Location("/a"), "digest", FrameOptions()))
    assert key == key_of("watch", 1, (Location("/b"), "digest", FrameOptions()))
    others = [
        key_of("watch", 2, (Location("/a"), "digest", FrameOptions())),
        key_of("watch", 1, (Location("/a"), "digest", FrameOptions(interval=1.0))),
        key_of("watch", 1, (Location("/a"), "other", FrameOptions())),
        key_of("probe", 1, (Location("/a"), "digest", FrameOptions())),
    ]
    assert len({key, *others}) == 5


def test_results_survive_closing(tmp_path):
    ledger = Ledger(tmp_path / ".work")
    ledger.add([event("a", value={"x": "é"}), event("b", code="Corrupt", value="why"), event("f", FLOW)])
    ledger.close()
    ledger = Ledger(tmp_path / ".work")
    known = ledger.known("item")
    assert set(known) == {"a", "b"}
    assert msgspec.json.decode(known["a"].value) == {"x": "é"}
    assert known["b"].code == "Corrupt"
    ledger.close()


def test_a_second_run_is_told_and_leaves(tmp_path):
    ledger = Ledger(tmp_path / ".work")
    with pytest.raises(UsageError, match="another run"):
        Ledger(tmp_path / ".work")
    ledger.close()
    Ledger(tmp_path / ".work").close()


def test_a_damaged_ledger_is_named(tmp_path):
    (tmp_path / ".work").mkdir()
    (tmp_path / ".work" / "ledger.sqlite").write_bytes(b"not a database" * 400)
    with pytest.raises(UsageError, match=r"ledger.sqlite: damaged"):
        Ledger(tmp_path / ".work")


@settings(deadline=None, max_examples=25)
@given(cut=st.integers(0, 400), junk=st.binary(max_size=20))
def test_a_torn_spool_loses_the_torn_line_alone(tmp_path_factory, cut, junk):
    work = tmp_path_factory.mktemp("w")
    Ledger(work).close()
    path = work / "spool" / "runner.jsonl"
    spool = Spool(path)
    for n in range(5):
        spool.append(event(f"k{n}", value="x" * n))
    spool.close()
    whole = path.read_bytes()
    kept = whole[: min(cut, len(whole))]
    path.write_bytes(kept + junk.replace(b"\n", b""))
    ledger = Ledger(work)
    assert {f"k{n}" for n in range(kept.count(b"\n"))} <= set(ledger.known("item"))
    assert not path.exists()
    ledger.close()


@pytest.mark.parametrize("added", [0, 1, 4, 7, 9, 10])
def test_of_a_spool_only_what_the_ledger_lacks_is_added(tmp_path, monkeypatch, added):
    monkeypatch.setattr("datagen.ledger._HANDFUL", 3)
    events = [call(f"k{n}", {"seconds": n}) for n in range(10)]
    # The same call asked for a second time, by another video, is known by its key and yet to be paid.
    events[8] = call("k2", {"seconds": 8.5})
    work = tmp_path / ".work"
    ledger = Ledger(work)
    ledger.add(events[:added])
    ledger.close()
    spool = Spool(work / "spool" / "runner.jsonl")
    for one in events:
        spool.append(one)
    spool.close()
    batches = []
    monkeypatch.setattr(
        Ledger, "add", lambda self, found, add=Ledger.add: (batches.append(found), add(self, found))
    )
    ledger = Ledger(work)
    assert sum(map(len, batches)) <= 10 - added + 2
    assert all(len(batch) <= 3 for batch in batches)
    assert {key for n in range(10) for key in ledger.known(f"item k{n}")} == {one.key for one in events}
    assert [cost.calls for cost in ledger.costs()] == [10]
    ledger.close()


def test_forgetting_failures_by_class(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.add(
        [
            Event("a", "item a", FLOW, msgspec.Raw(b"1"), "Timeout"),
            Event("b", "item b", FLOW, msgspec.Raw(b"1"), "Corrupt"),
            Event("c", "item c", FLOW, msgspec.Raw(b"1")),
            Event("d", "item d", FLOW, msgspec.Raw(b"1")),
            Event("one of its captions", "item d", "ask", msgspec.Raw(b"1"), "Provider"),
            Event("another", "item d", "ask", msgspec.Raw(b"1")),
        ]
    )
    assert ledger.forget_failures("Timeout") == 1
    assert set(ledger.flows()) == {"b", "c", "d"}
    assert ledger.forget_failures(None) == 2
    assert set(ledger.flows()) == {"c"}
    assert set(ledger.known("item d")) == {"another"}
    ledger.close()


def test_values_come_in_the_order_asked_for(tmp_path):
    ledger = Ledger(tmp_path)
    keys = [f"{n:03d}" for n in range(200)]
    ledger.add([event(key, value=key) for key in keys])
    backwards = keys[::-1]
    assert [msgspec.json.decode(v) for v in ledger.values(backwards)] == backwards
    ledger.close()


def call(key: str, value: object, model: str = "m", **took: int) -> Event:
    fields = {"prompt": "caption", "model": model, "tries": 1, "prompt_tokens": 10, "completion_tokens": 2}
    value_json = msgspec.Raw(msgspec.json.encode(value))
    return Event(key, f"item {key}", "ask", value_json, cost=Cost(**{**fields, **took}))


def test_an_event_taken_in_twice_is_paid_once_and_what_was_paid_stays_paid(tmp_path):
    ledger = Ledger(tmp_path)
    event = call("a", {"seconds": 0.25})
    ledger.add([event, call("b", 1, tries=3, failed=1), call("c", 1, model="n")])
    ledger.close()
    spool = Spool(tmp_path / "spool" / "runner.jsonl")
    spool.append(event)
    spool.close()
    ledger = Ledger(tmp_path)
    first = [("m", 2, 1, 4, 20), ("n", 1, 0, 1, 10)]
    assert [(c.model, c.calls, c.failed, c.tries, c.prompt_tokens) for c in ledger.costs()] == first
    # The same call made again is another one to pay.
    ledger.forget(["a"])
    ledger.add([call("a", {"seconds": 0.5})])
    assert [c.calls for c in ledger.costs()] == [3, 1]
    ledger.close()


def test_copies_know_what_their_original_knows_and_fail_with_it(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.add(
        [
            Event("w", "item a", "watch", msgspec.Raw(b"1")),
            Event("x", "item a", "ask", msgspec.Raw(b"1"), "Provider"),
            Event("f", "item a", FLOW, msgspec.Raw(b"1")),
            Event("g", "item b", FLOW, msgspec.Raw(b"1")),
            Event("h", "item c", FLOW, msgspec.Raw(b"1")),
        ]
    )
    for item, mark in (("item a", "same"), ("item b", "same"), ("item c", "other"), ("item d", "")):
        ledger.note_content(item, mark)
    assert set(ledger.known("item b")) == {"w", "x"} == set(ledger.known("item a"))
    assert set(ledger.known("item b", but="watch")) == {"x"}
    assert not ledger.known("item c") and not ledger.known("item d")
    assert ledger.forget_failures("Provider") == 2
    assert set(ledger.flows()) == {"h"}
    ledger.close()


def test_a_spool_stays_small_and_always_holds_what_the_ledger_may_lack(tmp_path, monkeypatch):
    monkeypatch.setattr("datagen.spool._FULL_BYTES", 1000)
    ledger, spool = Ledger(tmp_path), Spool(tmp_path / "spool" / "runner-1.jsonl")
    (tmp_path / "spool" / "runner-10.jsonl").touch()
    handed: list[Event] = []
    for n in range(200):
        spool.turn()  # as in Runner.take: what was handed out before is in the ledger
        handed = [event(f"k{n}-{k}", value="x" * 50) for k in range(3)]
        for one in handed:
            spool.append(one)
        if n < 199:  # the last are lost on their way to the driver
            ledger.add(handed)
    assert sum(path.stat().st_size for path in (tmp_path / "spool").iterdir()) < 3 * 1000
    assert ledger.known("item").keys() == {f"k{n}-{k}" for n in range(199) for k in range(3)}
    spool.close()
    assert ledger.take_in_spool("runner-1") > 0
    assert ledger.known("item").keys() >= {one.key for one in handed}
    assert [path.name for path in (tmp_path / "spool").iterdir()] == ["runner-10.jsonl"]
    ledger.close()


def test_nothing_of_an_event_that_cannot_be_written_stays_in_the_spool(tmp_path):
    path = tmp_path / "spool" / "runner.jsonl"
    ledger, spool = Ledger(tmp_path), Spool(path)
    spool.append(event("a"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 40, before[1]))  # as on a full disk
    try:
        with pytest.raises(OSError, match="too large"):
            spool.append(event("b", value="x" * 100))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    spool.append(event("c"))
    spool.close()
    assert ledger.take_in_spool("runner") == 2 and set(ledger.known("item")) == {"a", "c"}
    ledger.close()


def test_a_spool_that_is_still_written_is_not_taken_in(tmp_path):
    ledger, spool = Ledger(tmp_path), Spool(tmp_path / "spool" / "runner.jsonl")
    spool.append(event("a"))
    with pytest.raises(BlockingIOError):
        ledger.take_in_spool("runner")
    spool.append(event("b"))
    spool.close()
    assert ledger.take_in_spool("runner") == 2 and set(ledger.known("item")) == {"a", "b"}
    ledger.close()


@pytest.mark.parametrize("taken_in", [True, False])
def test_a_spool_goes_when_its_results_are_safe_from_a_torn_ledger(tmp_path, taken_in):
    ledger, spool = Ledger(tmp_path / "killed"), Spool(tmp_path / "killed" / "spool" / "runner.jsonl")
    events = [event(f"k{n}") for n in range(50)]
    for one in events:
        spool.append(one)
    spool.close()
    if taken_in:
        ledger.take_in_spool("runner")
    else:
        ledger.add(events)
        ledger.drop_spool("runner")
    ledger.add([event("later")])
    shutil.copytree(tmp_path / "killed", tmp_path / "torn")  # what a kill leaves
    os.truncate(tmp_path / "torn" / "ledger.sqlite-wal", 40)
    torn = Ledger(tmp_path / "torn")
    assert torn.known("item").keys() == {one.key for one in events}
    torn.close()
    ledger.close()
