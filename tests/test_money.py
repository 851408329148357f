"""What calls cost: nothing is paid twice, no budget is passed, and an estimate comes true."""

import asyncio
import json
import os
import re
import shutil
import time
from pathlib import Path

import pytest

from datagen.assumptions import Load
from datagen.build import main
from datagen.config import Price
from datagen.errors import OverBudget, Refused, UsageError
from datagen.ledger import Ledger
from datagen.llm.budget import Budget, BudgetedClient, Purse
from datagen.llm.chat import Attempt, ChatReply, ChatRequest, Message, Picture, Text
from datagen.llm.prices import nanodollars, picture_tokens, price_of, prompt_tokens
from datagen.money import cost_of, dollars, stage_of
from datagen.samples import make_samples
from tests.model_server import KEY
from tests.priced_server import PricedServer

PRICE = Price(input=2.0, output=10.0)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two of them: enough for a sample and a rest."""
    folder = make_samples(tmp_path_factory.mktemp("samples"))
    two = tmp_path_factory.mktemp("two")
    for name in ("dawn.mp4", "shapes.mp4"):
        shutil.copy2(folder / name, two)
    return two


@pytest.fixture(scope="module")
def watched(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output whose videos have been watched, by an estimate. Never written to by a test: copy it."""
    out = tmp_path_factory.mktemp("watched") / "out"
    with PricedServer() as server:
        assert main(["--videos", str(samples), "--out", str(out), "--estimate", *server.options()]) == 0
        assert not server.prompts
    return out


@pytest.fixture
def out(watched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    shutil.copytree(watched, tmp_path / "out")
    return tmp_path / "out"


def build(server: PricedServer, videos: Path, out: Path, *more: str) -> int:
    where = ["--videos", str(videos), "--out", str(out), "--backend", "local", "--quiet"]
    return main([*where, *server.options(), *more])


def spent(out: Path) -> dict:
    return json.loads((out / "run.json").read_text())["spent"]


def steps_run(out: Path) -> dict:
    return json.loads((out / "run.json").read_text())["steps_run"]


# --- prices and tokens


def test_a_million_tokens_cost_their_price_and_fractions_are_rounded_up():
    assert nanodollars(PRICE, 1_000_000, 100_000, batch=False) == 3_000_000_000
    assert nanodollars(PRICE, 1_000_000, 100_000, batch=True) == 1_500_000_000
    assert nanodollars(Price(input=0.0001, output=0), 1, 0, batch=False) == 1
    assert nanodollars(Price(input=0, output=0), 10**9, 10**9, batch=False) == 0
    with pytest.raises(UsageError, match=r"`m`.*input: USD, output: USD"):
        price_of({"other": PRICE}, "m")


def test_the_rule_for_tokens_counts_characters_and_patches():
    parts = (Text("x" * 400), Picture("v/1.jpg", "d"), Picture("v/2.jpg", "e"))
    request = ChatRequest(model="m", messages=(Message("system", (Text("y" * 40),)), Message("user", parts)))
    assert picture_tokens(100_352) == 128
    assert prompt_tokens(request, 128) == 100 + 10 + 2 * 128 + 2 * 4


@pytest.mark.parametrize(
    ("prompt", "stage"),
    [("caption", "caption"), ("n_qna", "synthesize"), ("caption+repair", "repair"), ("judge", "judge")],
)
def test_stages_are_known_by_the_last_prompt(prompt, stage):
    assert stage_of(prompt) == stage


def test_failed_tries_are_part_of_what_a_call_took():
    request = ChatRequest(model="m", messages=(Message("user", (Text("hi"),)),), prompt="caption/v1:ab")
    tries = (
        Attempt(status=200, seconds=1, prompt_tokens=30, completion_tokens=9, fault="cut off"),
        Attempt(status=500, seconds=1, fault="status 500"),
        Attempt(status=200, seconds=1, prompt_tokens=30, completion_tokens=5),
    )
    failure = Refused("no")
    failure.attempts = tries
    reply = ChatReply(
        text="", finish_reason="", model="m-2026", prompt_tokens=30, completion_tokens=5, attempts=tries
    )
    cost, lost = cost_of(128, False, request, reply), cost_of(128, False, request, failure)
    assert (cost.prompt, cost.model, cost.failed, lost.failed) == ("caption", "m", 0, 1)
    for each in (cost, lost):
        assert (each.tries, each.prompt_tokens, each.completion_tokens) == (3, 60, 14)
        assert each.expected_tokens == 2 * prompt_tokens(request, 128)
    assert dollars(cost, {"m": PRICE}) == pytest.approx((60 * 2 + 14 * 10) / 1e6)
    assert dollars(cost, {"m-2026": PRICE}) is None


# --- the purse


def test_runners_share_a_purse_and_one_that_died_leaves_its_calls_paid(tmp_path):
    Purse.fill(tmp_path / "purse", 100)
    one, two = Purse(tmp_path / "purse", "one"), Purse(tmp_path / "purse", "two")
    assert one.set_aside(60) == "done" and two.set_aside(60) == "wait" and two.set_aside(40) == "done"
    one.pay(60, 10)
    assert two.set_aside(50) == "done" and one.set_aside(1) == "wait"
    # The other is killed with 90 under way.
    two = Purse(tmp_path / "purse", "two")
    assert two.set_aside(1) == "empty" and one.set_aside(0) == "done"


def test_an_empty_purse_stays_empty_for_all(tmp_path):
    Purse.fill(tmp_path / "purse", 100)
    one, two = Purse(tmp_path / "purse", "one"), Purse(tmp_path / "purse", "two")
    assert one.set_aside(101) == "empty" and two.set_aside(5) == "empty"


class Meter:
    """A model whose replies take less than they may."""

    def __init__(self) -> None:
        self.under_way = self.most_under_way = self.calls = 0

    async def ask(self, request: ChatRequest) -> ChatReply:
        self.calls += 1
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await asyncio.sleep(0.001)
        self.under_way -= 1
        attempt = Attempt(status=200, seconds=0, prompt_tokens=20, completion_tokens=10)
        return ChatReply(
            text="",
            finish_reason="stop",
            model="m",
            prompt_tokens=20,
            completion_tokens=10,
            attempts=(attempt,),
        )

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("runners", [1, 3])
def test_calls_wait_for_money_under_way_and_stop_before_the_budget_is_passed(tmp_path, runners):
    request = ChatRequest(model="m", messages=(Message("user", (Text("x" * 64),)),), max_tokens=100)
    paid = nanodollars(PRICE, 20, 10, batch=False)
    budget = 40 * paid + 30 * nanodollars(PRICE, 0, 100, batch=False)
    Purse.fill(tmp_path / "purse", budget)
    meter = Meter()

    async def run() -> list:
        clients = [
            BudgetedClient(meter, Budget(tmp_path / "purse", f"r{n}", {"m": PRICE}, 128, batch=False))
            for n in range(runners)
        ]
        asks = [clients[n % runners].ask(request) for n in range(4000)]
        return await asyncio.gather(*asks, return_exceptions=True)

    ends = asyncio.run(run())
    assert {type(end) for end in ends} == {ChatReply, OverBudget}
    most = nanodollars(PRICE, 2 * (2 * 20 + 1), 300, batch=False)
    assert 1 < meter.most_under_way <= budget // (most // 2)
    assert budget - most < meter.calls * paid <= budget


# --- whole builds


def test_run_json_says_what_was_spent_where_and_failed_calls_are_among_it(samples, out):
    with PricedServer(refuse=("n_qna",)) as server:
        assert build(server, samples, out) == 0
        table = spent(out)
        assert table["stages"]["synthesize"]["failed"] == server.prompts["n_qna"] == 2
        assert table["stages"]["caption"]["calls"] == server.prompts["caption"]
        assert sum(row["prompt_tokens"] for row in table["stages"].values()) == server.tokens[0]
        assert table["models"]["scripted"]["completion_tokens"] == server.tokens[1]
        assert table["usd"] == pytest.approx(server.usd) and table["unpriced"] == []
        # What failed is not asked again, unless that is wished; and what it took stays spent.
        asked = server.calls.total()
        assert build(server, samples, out, "--set", "export.placement=start") == 0
        assert server.calls.total() == asked
        assert build(server, samples, out, "--retry-failed", "Refused") == 0
        assert server.calls.total() == asked + 2
        assert spent(out)["stages"]["synthesize"]["failed"] == 4
        assert spent(out)["usd"] == pytest.approx(server.usd)


def test_a_failed_call_keeps_its_tries_in_the_ledger(samples, out):
    with PricedServer(refuse=("n_qna",)) as server:
        assert build(server, samples, out) == 0
    ledger = Ledger(out / ".work")
    rows = ledger._database.execute("SELECT item FROM results WHERE step = 'ask' AND code = 'Refused'")
    items = [item for (item,) in rows]
    lost = [known for known in ledger.known(items[0]).values() if known.code == "Refused"]
    ledger.close()
    value = json.loads(bytes(lost[0].value))
    assert "I cannot help with that" in value["detail"]
    assert [attempt["status"] for attempt in value["attempts"]] == [200]
    assert value["attempts"][0]["prompt_tokens"] > 100


def test_a_budget_is_never_passed_and_a_larger_one_goes_on(samples, out, capsys):
    with PricedServer() as server:
        whole = out.parent / "whole"
        shutil.copytree(out, whole)
        assert build(server, samples, whole) == 0
        price_of_all, calls = server.usd, server.calls.copy()
        before = 0.0
        budget = 0.6 * price_of_all
        status, rounds = 130, 0
        server.tokens = [0, 0]
        server.calls.clear()
        while status == 130 and rounds < 8:
            status = build(server, samples, out, "--budget-usd", f"{budget}")
            said = capsys.readouterr().err
            assert before <= server.usd <= budget
            assert spent(out)["usd"] == pytest.approx(server.usd)
            if status == 130:
                next_command = said.splitlines()[-1]
                assert f"${server.usd:.4f} was spent" in said
                assert re.search(r"[12] of 2 videos are left to do", said)
                assert next_command.endswith(f"--budget-usd {2 * budget:g}")
                budget += 0.25 * price_of_all
            before, rounds = server.usd, rounds + 1
        assert status == 0 and rounds > 1
        assert server.calls == calls and set(server.calls.values()) == {1}


def test_a_budget_needs_a_price(samples, out, capsys):
    with PricedServer() as server:
        options = server.options()[:-2]
        argv = ["--videos", str(samples), "--out", str(out), *options, "--budget-usd", "1"]
        assert main(argv) == 2
        said = capsys.readouterr().err
        assert "prices: has no `scripted`" in said and said.count("\n") == 1
        assert not server.prompts
        assert main([*argv[:-2], "--quiet", "--backend", "local"]) == 0
    assert spent(out)["unpriced"] == ["scripted"] and "usd" not in spent(out)["models"]["scripted"]


def test_an_endpoint_that_cannot_count_is_used_but_not_with_a_budget(samples, out, capsys):
    odd = {"usage": {"prompt_tokens": 10**30, "completion_tokens": -5}}
    with PricedServer() as server:
        answer = server.answer
        server.answer = lambda asked: answer(asked) | odd
        assert build(server, samples, out, "--budget-usd", "1") == 2
        said = capsys.readouterr().err
        assert "--budget-usd: the endpoint of scripted does not count tokens" in said
        assert sum(server.prompts.values()) == 1
        assert build(server, samples, out) == 0
    assert spent(out)["usd"] == 0 and spent(out)["stages"]["caption"]["completion_tokens"] == 0


def table_of(said: str) -> dict[str, Load]:
    rows = re.findall(r"^  (\w+) +scripted +([\d,]+).*?  ([\d,]+) +([\d,]+) ", said, re.MULTILINE)
    return {stage: Load(*(float(n.replace(",", "")) for n in numbers)) for stage, *numbers in rows}


def test_an_estimate_asks_nobody_and_comes_true(samples, out, capsys):
    with PricedServer() as server:
        options = ["--videos", str(samples), "--out", str(out), "--backend", "local", *server.options()]
        assert main([*options, "--estimate"]) == 0
        first = table_of(capsys.readouterr().out)
        assert not server.prompts
        # One is built; what it took tells of the other.
        assert main([*options, "--quiet", "--limit", "1"]) == 0
        half = server.tokens.copy()
        asked = server.prompts.copy()
        capsys.readouterr()
        assert main([*options, "--estimate"]) == 0
        said = capsys.readouterr().out
        assert server.prompts == asked and "Estimate for videos to do: 1" in said
        second = table_of(said)
        assert main([*options, "--quiet"]) == 0
        done = server.prompts
    # Requests that need no reply before them are counted, not guessed.
    assert first["caption"].calls == done["caption"] and first["synthesize"].calls == done["n_qna"]
    assert second["caption"].calls == done["caption"] - asked["caption"]
    foretold = [sum(column) for column in zip(*second.values(), strict=True)]
    really = [server.tokens[0] - half[0], server.tokens[1] - half[1]]
    assert foretold[1] == pytest.approx(really[0], rel=0.2)
    assert foretold[2] == pytest.approx(really[1], rel=0.3)


def test_a_touched_and_a_renamed_video_cost_no_call(samples, out, tmp_path):
    video = tmp_path / "videos" / "dawn.mp4"
    video.parent.mkdir()
    shutil.copy2(samples / "dawn.mp4", video)
    with PricedServer() as server:
        assert build(server, video.parent, out) == 0
        calls = server.calls.copy()
        assert calls
        os.utime(video)
        assert build(server, video.parent, out) == 0
        assert server.calls == calls and steps_run(out) == {"probe": 1}
        video = video.rename(video.with_name("another name.mp4"))
        assert build(server, video.parent, out) == 0
        assert server.calls == calls and steps_run(out) == {"probe": 1}
        # If its frames are gone as well, they are made again, and nobody is asked.
        os.utime(video, ns=(1, 1))
        for frames in (out / "frames").iterdir():
            shutil.rmtree(frames)
        assert build(server, video.parent, out) == 0
        assert server.calls == calls and steps_run(out) == {"probe": 1, "watch": 1}


def test_copies_in_one_run_are_paid_for_once(samples, watched, out, tmp_path):
    videos = tmp_path / "videos"
    for folder in ("a", "b", "c"):
        (videos / folder).mkdir(parents=True)
        shutil.copy(samples / "dawn.mp4", videos / folder / f"{folder}.mp4")
    shutil.copytree(watched, tmp_path / "other")
    with PricedServer() as server:
        assert build(server, videos / "a", out) == 0
        calls = server.calls.copy()
        server.calls.clear()
        assert build(server, videos, tmp_path / "other") == 0
        assert server.calls == calls and set(calls.values()) == {1}
    assert steps_run(tmp_path / "other")["probe"] == 3


# --- preflight and flags


def test_an_endpoint_that_is_not_there_is_told_before_any_video_is_opened(samples, tmp_path, capsys):
    with PricedServer() as server:
        options = server.options()
    started = time.monotonic()
    argv = ["--videos", str(samples), "--out", str(tmp_path / "out"), *options]
    assert main(argv) == 2
    assert time.monotonic() - started < 30
    said = capsys.readouterr().err
    assert "is it running" in said and "127.0.0.1" in said and said.count("\n") == 1
    assert not (tmp_path / "out" / "frames").exists()


def test_a_wrong_key_is_told_before_any_video_is_opened(samples, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong-secret")
    with PricedServer() as server:
        assert build(server, samples, tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "OPENAI_API_KEY" in said and "sk-wrong-secret" not in said
    assert not (tmp_path / "out" / "frames").exists()


def test_frames_go_as_file_urls_when_that_is_asked_for(samples, out):
    with PricedServer() as server:
        assert build(server, samples, out, "--file-urls", "--limit", "1") == 0
    assert server.urls
    assert all(url.startswith((out / "frames").resolve().as_uri()) for url in server.urls)


def test_an_estimate_of_nothing_says_so(samples, out, capsys):
    assert main(["--videos", str(samples), "--out", str(out), "--estimate"]) == 0
    assert "No calls: the rules write" in capsys.readouterr().out
