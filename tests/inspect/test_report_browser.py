"""The report in a real browser. Screenshots are left in the tests' temporary folder, to be looked at."""

import asyncio
import json
from urllib.parse import quote

import pytest

from datagen.inspect.quality import members, sample
from datagen.inspect.report import write_report
from datagen.publish.read_verdicts import take_in
from tests.inspect.chromium import PROGRAM, chromium
from tests.inspect.report_samples import HOSTILE, dataset, hostile

pytestmark = [pytest.mark.slow, pytest.mark.skipif(PROGRAM is None, reason="needs chromium")]


def visit(path, folder, look):
    """Open a page in a fresh browser, do what `look` does, and see that it asked for nothing but files."""

    async def run():
        async with chromium(folder / "profile") as tab:
            await tab.size(1280, 900)
            await tab.open(path.absolute().as_uri())
            await look(tab)
            assert all(request.startswith(("file:", "blob:")) for request in tab.requests)
            return tab

    return asyncio.run(run())


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return write_report(dataset(tmp_path_factory.mktemp("browser") / "out", 120))


HASH = "decodeURIComponent(location.hash.slice(1))"


def test_dialogues_are_listed_searched_and_paged(report, tmp_path):
    async def look(tab):
        assert await tab.value("document.querySelectorAll('#random .card').length") == 20
        assert await tab.value("document.querySelectorAll('#worst .card').length") == 20
        assert await tab.value("document.querySelectorAll('#all .card').length") == 50
        await tab.value("$('forth').click(), $('forth').click()")
        assert await tab.value("document.querySelectorAll('#all .card').length") == 20
        await tab.value("$('search').value = 'V00007 kitchen narrate', search()")
        assert await tab.value("$('found').textContent") in ("0 dialogues", "1 dialogues")
        await tab.value("$('search').value = 'V00007 narrate', search()")
        assert await tab.value("$('found').textContent") == "1 dialogues"
        assert await tab.value("document.querySelectorAll('.plots svg').length") == 7
        await tab.picture(tmp_path / "run.png")

    assert visit(report, tmp_path, look).logged == []


def test_a_link_opens_a_dialogue_and_keys_lead_on(report, tmp_path):
    async def look(tab):
        await tab.turn("#v00003%230")
        await tab.press("j")
        assert await tab.value(HASH) == "v00004#0"
        await tab.press("k")
        await tab.press("k")
        assert await tab.value(HASH) == "v00002#0"
        await tab.press("u")
        assert await tab.value("$('run').hidden") is False
        await tab.press("j")
        assert await tab.value(HASH) == await tab.value("index.rows[index.worst[0]].id")
        await tab.turn("%E0%A4%A")
        assert await tab.value("$('run').hidden") is False

    assert visit(report, tmp_path, look).logged == []


def test_an_answer_shows_its_evidence_in_all_lanes(report, tmp_path):
    async def look(tab):
        await tab.turn("#v00003%230")
        await tab.value("document.querySelectorAll('.bubble.say')[1].click()")
        # Its evidence, its span, its turn and its place in the talk.
        assert await tab.value("document.querySelectorAll('.on').length") == 4
        shown = await tab.value("document.querySelector('.detail').innerText")
        page = json.loads(await tab.value("$('page-3').textContent"))
        given = page["questions"][0]["answers"][1]
        assert given["text"] in shown and page["segments"][2]["heard"] in shown
        await tab.picture(tmp_path / "dialogue.png")
        loaded = "[...document.querySelectorAll('.detail img')].map(image => image.naturalWidth)"
        # Frames at 14, 16 and 18 s: what is shown from 12 to 18 s.
        assert await tab.value(loaded) == [320, 320, 320]
        frames = "[...document.querySelectorAll('.detail img')].map(image => image.src.slice(-10))"
        assert await tab.value(frames) == ["000007.jpg", "000008.jpg", "000009.jpg"]
        runs = "[...document.querySelectorAll('.turns .silent')].map(run => Number(run.title.split(': ')[1]))"
        silent = sum(await tab.value(runs))
        replies = await tab.value("document.querySelectorAll('.turns .block').length")
        assert (silent, replies) == (len(page["turns"]) - len(page["replies"]), len(page["replies"]))

    assert visit(report, tmp_path, look).logged == []


def test_verdicts_are_kept_and_saved_as_jsonl(report, tmp_path):
    async def look(tab):
        await tab.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
        await tab.turn("#v00003%230")
        await tab.press("1")  # of a dialogue that is not bad, nothing is wrong
        await tab.press("g")
        await tab.press("1")
        await tab.press("j")
        await tab.press("b")
        for key in "741":
            await tab.press(key)
        await tab.press("4")
        await tab.picture(tmp_path / "bad.png")
        await tab.press("j")
        await tab.press("b")
        await tab.press("b")  # taken back
        await tab.open(report.absolute().as_uri())
        await tab.value("$('download').click()")
        assert await tab.value("document.activeElement.id") == "judge"
        await tab.value("$('judge').value = 'Ada L/..'")
        await tab.value("$('download').click()")
        for _ in range(100):
            if saved.exists():
                break
            await asyncio.sleep(0.1)

    saved = tmp_path / "verdicts-Ada-L-.jsonl"
    visit(report, tmp_path, look)
    lines = [json.loads(line) for line in saved.read_text().splitlines()]
    assert [(line["dialogue_id"], line["verdict"], line["defects"]) for line in lines] == [
        ("v00003#0", "good", []),
        ("v00004#0", "bad", ["ambiguous_reference", "future_leak_answer"]),
        ("v00005#0", "none", []),
    ]
    assert {line["judge"] for line in lines} == {"Ada L/.."}
    # What the page saves is what the command reads.
    out = report.parent
    told, faults = take_in(out, [saved])
    try:
        assert faults == [] and "Judged by 1 person" in "\n".join(told)
        said = write_report(out).read_text()
        assert "Judged by 1 person" in said and "Nobody has judged" not in said
    finally:
        (out / "verdicts.jsonl").unlink()


def test_the_drawn_dialogues_are_gone_through_one_after_the_other(report, tmp_path):
    async def look(tab):
        drawn = await tab.value("index.sample.map((number) => index.rows[number].id)")
        assert len(set(drawn)) == 100
        assert drawn == sample(members(report.parent), 0)
        cards = "document.querySelectorAll('#sample .card').length"
        assert await tab.value(cards) == 0
        await tab.value("$('drawn').open = true")
        await tab.drawn()
        assert await tab.value(cards) == 100
        await tab.value("$('unjudged').click()")
        await tab.drawn()
        assert await tab.value(HASH) == drawn[0]
        await tab.press("g")
        await tab.press("j")
        assert await tab.value(HASH) == drawn[1]
        assert await tab.value("$('place').textContent") == "2 of 100"
        await tab.press("b")
        await tab.press("u")
        assert "100 drawn, 2 judged" in await tab.value("$('judged').textContent")
        await tab.value("$('unjudged').scrollIntoView()")
        await tab.picture(tmp_path / "judging.png")
        await tab.value("$('unjudged').click()")
        await tab.drawn()
        assert await tab.value(HASH) == drawn[2]

    assert visit(report, tmp_path, look).logged == []


def test_dark_and_light_and_a_phone(report, tmp_path):
    colour = "getComputedStyle(document.body).backgroundColor"

    async def look(tab):
        light = await tab.value(colour)
        await tab.size(390, 844, dark=True)
        dark = await tab.value(colour)
        assert light != dark
        await tab.value("$('theme').click()")
        assert await tab.value(colour) == light
        await tab.value("$('theme').click()")
        assert await tab.value(colour) == dark
        fits = "document.documentElement.scrollWidth <= innerWidth"
        assert await tab.value(fits)
        await tab.turn("#v00003%230")
        await tab.picture(tmp_path / "phone.png")
        assert await tab.value(fits)

    assert visit(report, tmp_path, look).logged == []


def test_hostile_text_is_shown_and_never_run(tmp_path):
    path = write_report(hostile(tmp_path / "out"))

    async def look(tab):
        for number in range(3):
            await tab.turn(quote(f"v{number:05d}#0", safe=""))
            assert await tab.value("document.querySelector('h2.title').textContent") == HOSTILE[number]
            await tab.value("document.querySelectorAll('button.block, .bubble').forEach(one => one.click())")
            await tab.picture(tmp_path / f"hostile{number}.png")
            assert await tab.value("document.documentElement.scrollWidth <= innerWidth")
        said = await tab.value("document.querySelector('.talk').innerText")
        assert HOSTILE[0] in said
        await tab.turn("")
        assert await tab.value("document.documentElement.scrollWidth <= innerWidth")
        assert await tab.value("document.title") == "test: report"

    assert visit(path, tmp_path, look).logged == []


def test_the_policy_stops_what_would_get_through(report, tmp_path):
    async def look(tab):
        await tab.value("script = document.createElement('script'), script.text = 'document.title = 1'")
        await tab.value("document.body.append(script)")
        await tab.value(
            "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"document.title=2\">')"
        )
        assert await tab.value("fetch('http://127.0.0.1:9/').catch(() => 'stopped')") == "stopped"
        await tab.value("new Promise(done => setTimeout(done, 200))")
        assert await tab.value("document.title") == "test: report"

    tab = visit(report, tmp_path, look)
    assert sum("Content Security Policy" in line for line in tab.logged) >= 2
