"""The recipe that learns from shards, shrunk: it must beat, on videos held out, what needs no video."""

import sys
from pathlib import Path

import pytest

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "learn"


@pytest.fixture(scope="module")
def learn():
    pytest.importorskip("torch")
    sys.path.insert(0, str(RECIPE))
    try:
        import learn

        yield learn
    finally:
        sys.path.remove(str(RECIPE))


@pytest.mark.torch
@pytest.mark.slow
def test_a_model_learns_from_shards_when_to_speak_and_what_to_say(learn, tmp_path, capfd):
    out = learn.build(tmp_path, 96, "1qna")
    found = learn.experiment(out, 12)
    best = max(found["trivial"].values())
    assert found["curve"][0] < best
    assert found["curve"][-1] > best + 0.15
    assert found["outside"] < found["replies"] / 2

    capfd.readouterr()
    learn.datagen("evaluate", str(out), str(out / "predictions.jsonl"))
    printed = capfd.readouterr().out
    assert f"{100 * found['curve'][-1]:.1f}" in printed

    nothing = learn.experiment(out, 8, "shuffled")
    assert max(nothing["curve"]) < best
