"""Prompts and raw replies in the report of a dataset that models wrote."""

import json
import shutil

import pytest
from huggingface_hub import DatasetCard

from datagen.inspect.report import write_report
from tests.inspect.test_report import Page
from tests.test_models import Endpoint, build, samples

__all__ = ["samples"]
pytestmark = pytest.mark.slow


@pytest.fixture
def endpoint(tmp_path):
    endpoint = Endpoint(tmp_path)
    yield endpoint
    endpoint.process.kill()
    endpoint.process.wait()


def pages(out):
    blocks = Page(write_report(out).read_text(encoding="utf-8")).blocks
    index = json.loads(blocks["index"])
    return index, [json.loads(blocks[f"page-{n}"]) for n in range(len(index["rows"]))]


def texts(page, numbers):
    """Role, prompt and reply of calls on a page."""
    for number in numbers:
        call = page["calls"][number]
        said = page["texts"][call["id"]]
        yield call["role"], "\n".join(page["lines"][line] for line in said["user"]), said["reply"]


def test_every_text_shows_what_was_asked_and_said_for_it(samples, tmp_path, endpoint):
    out = tmp_path / "out"
    status, said = build(samples, out, *endpoint.options, "--set", "dialogue.tighten=true")
    assert status == 0, said
    index, shown = pages(out)
    assert len(shown) == 4
    for page in shown:
        for segment in page["segments"]:
            ((role, asked, reply),) = texts(page, segment["calls"])
            assert role == "wrote" and json.loads(reply)["seen"] == segment["seen"]
            assert f"[{page['video']['id']}/" in asked
        for question in page["questions"]:
            for answer in question["answers"]:
                wrote, judged, *tightened = texts(page, answer["calls"])
                assert wrote[0] == "wrote" and answer["text"] in wrote[2]
                assert judged[0] == "judged" and f'reply: "{answer["text"]}"' in judged[1]
                assert "answerable" in json.loads(judged[2])
                assert all(role == "tightened" for role, _, _ in tightened)
    card = DatasetCard.load(out / "README.md").text
    assert all(f"`{name}/v" in card for name in ("caption", "n_qna", "judge", "sufficient"))
    # Without the ledger the calls are still named, and the page says what is missing.
    shutil.rmtree(out / ".work")
    index, shown = pages(out)
    assert "not here any more" in index["missing"]
    assert all(page["calls"] and not page["texts"] for page in shown)
