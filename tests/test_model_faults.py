"""Whole builds against an endpoint that misbehaves: every item ends, done or rejected, and the run ends."""

import asyncio
import shutil

import pytest

from benchmarks.model_builds import Endpoint, build, build_against, holds, make_videos, table, unaccounted
from benchmarks.model_faults import FAULTS, SHORT, WRONG_KEY, fatal, one_fault, outage
from tests.model_server import KEY

pytestmark = pytest.mark.slow
PASSING = sorted(set(FAULTS) - {"doubled response", "refusal", *(n for n in FAULTS if n.startswith("reply"))})
"""Faults that say nothing of the reply: another try gets it."""


@pytest.fixture(scope="module")
def decoded(tmp_path_factory):
    """Small videos, and an output whose ledger knows their frames, so that builds need not decode."""
    folder = tmp_path_factory.mktemp("decoded")
    videos = make_videos(folder / "videos", 3)
    assert asyncio.run(build(videos, folder / "out", "--quiet")).status == 0
    return videos, folder / "out"


@pytest.fixture(scope="module")
def clean(decoded, tmp_path_factory):
    """How many dialogues come of these videos where nothing goes wrong."""
    videos, _ = decoded
    out = tmp_path_factory.mktemp("clean") / "out"
    assert asyncio.run(build_against(Endpoint(), videos, out)).status == 0
    count = len(table(out, "dialogues"))
    assert count > 0
    return count


@pytest.fixture
def place(decoded, tmp_path):
    videos, done = decoded
    shutil.copytree(done, tmp_path / "out")
    for name in ("dialogues", "rejected", "segments", "videos"):
        shutil.rmtree(tmp_path / "out" / name)
    return videos, tmp_path / "out"


def check_end(endpoint, ended, videos, out, cut_off=0):
    """What must be true however the endpoint behaved."""
    assert "Traceback" not in ended.said
    assert unaccounted(videos, out) == []
    assert holds(out, KEY) == [] and KEY not in ended.said
    assert len(endpoint.paid_again) <= cut_off


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_some_calls_costs_at_most_these(place, clean, name):
    videos, out = place
    endpoint, ended = asyncio.run(one_fault(name, 0.3, videos, out))
    check_end(endpoint, ended, videos, out)
    assert ended.status == 0 and endpoint.faulty > 0, ended.said
    if name in PASSING and not name.startswith("429 with "):
        codes = {row["code"] for row in table(out, "rejected")}
        assert not codes & {"Provider", "Refused", "Crashed"}
        assert len(table(out, "dialogues")) == clean


@pytest.mark.parametrize("name", sorted(set(FAULTS) - {"doubled response"}))
def test_a_fault_of_all_calls_ends_in_rejections(place, name):
    videos, out = place
    endpoint, ended = asyncio.run(one_fault(name, 1.0, videos, out))
    check_end(endpoint, ended, videos, out)
    assert ended.status in (0, 1)
    assert table(out, "dialogues") == [] and not endpoint.paid
    codes = {row["code"] for row in table(out, "rejected")}
    assert codes & {"Provider", "Invalid", "Refused"} and "Crashed" not in codes


def test_more_calls_than_the_endpoint_takes_lose_nothing(place, clean):
    videos, out = place
    endpoint = Endpoint(seconds=0.1, most=4)
    ended = asyncio.run(build_against(endpoint, videos, out))
    check_end(endpoint, ended, videos, out)
    assert endpoint.faulty > 0 and len(table(out, "dialogues")) == clean


def test_an_outage_is_sat_out(place, clean):
    videos, out = place
    endpoint, ended = asyncio.run(outage(3, 5, videos, out))
    # Of the four calls in flight, those that had just been answered were cut off with their answers.
    check_end(endpoint, ended, videos, out, cut_off=4)
    assert ended.status == 0 and len(table(out, "dialogues")) == clean, ended.said


@pytest.mark.parametrize(
    ("name", "words"), [("unknown model", "no such model"), ("wrong key", "OPENAI_API_KEY")]
)
def test_what_no_try_can_mend_stops_at_once_and_the_key_is_told_nobody(place, name, words):
    videos, out = place
    endpoint, ended = asyncio.run(fatal(name, videos, out))
    assert ended.status == 2 and words in ended.said and "Traceback" not in ended.said
    assert not endpoint.tries
    for key in (KEY, WRONG_KEY):
        assert holds(out, key) == [] and key not in ended.said


def test_a_failed_build_is_taken_up_and_pays_only_for_what_failed(place, clean):
    videos, out = place
    bad, ended = asyncio.run(one_fault("500", 1.0, videos, out))
    assert ended.status == 1 and not bad.paid
    well = Endpoint()
    ended = asyncio.run(build_against(well, videos, out, *SHORT, "--retry-failed"))
    check_end(well, ended, videos, out)
    assert len(table(out, "dialogues")) == clean and set(well.tries.values()) == {1}
