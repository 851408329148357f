from pathlib import Path

import msgspec
import pytest
import yaml

from datagen.config import Config
from datagen.errors import UsageError
from datagen.pipeline_file import load_config
from datagen.resources import resource

PIPELINES = sorted(resource("pipelines").glob("*.yaml"))


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_a_pipeline_file_shows_every_key_with_its_default(path):
    shown = yaml.safe_load(path.read_text())
    defaults = msgspec.json.decode(msgspec.json.encode(Config(name=path.stem)))
    types = {"1qna": "1qna", "nqna": "nqna", "mixed": "mixed"}
    defaults["dialogue"]["type"] = types[path.stem]
    assert {"name": path.stem, **shown} == defaults


def test_set_changes_one_value_and_types_are_kept():
    config = load_config("nqna", ["frames.interval=1", "export.jitter=[0.2, 0.4]", "scenes.threshold=30"])
    assert (config.frames.interval, config.export.jitter, config.scenes.threshold) == (1.0, (0.2, 0.4), 30.0)
    assert config.segment == load_config("nqna", []).segment


def test_a_file_of_ones_own_needs_only_what_differs(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("frames: {interval: 1}\n")
    config = load_config(str(path), [])
    assert (config.name, config.frames.interval, config.frames.quality) == ("mine", 1.0, 90)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["frames.intervall=1"], "unknown key `frames.intervall`, did you mean `interval`"),
        (["frame.interval=1"], "did you mean `frames`"),
        (["frames.interval=soon"], "`frames.interval`: Expected `float`"),
        (["frames.interval=0"], "`frames.interval` is 0, must lie between"),
        (["frames.interval=.nan"], "`frames.interval` is nan, must lie between"),
        (["segment.method=scene"], "did you mean `scenes`?; known values are auto, scenes, sentences"),
        (["dialogue.shapes=[Narate]"], "did you mean `narrate`?"),
        (["export.placement=middle"], "known values are end, jitter, first_evidence, start"),
        (["frames.interval.x=1"], "`interval` is a value, it has no keys of its own"),
        (["dataset.languages=[en-US, english]"], "`dataset.languages` holds 'english'"),
        (["scenes.threshold=.nan"], "`scenes.threshold` is nan, must lie between"),
        (["export.rl_window_seconds=[20, .inf]"], "`export.rl_window_seconds` ends at inf, at most"),
        (["segment.min_seconds=15"], "half of segment.max_seconds"),
        (["export.jitter=[0.8, 0.2]"], "`export.jitter` is 0.8, more than"),
        (["frames.interval"], "write it as key=value"),
        (["frames=3"], "`frames` must hold keys of its own"),
    ],
)
def test_a_wrong_value_is_named_with_its_key(overrides, words):
    with pytest.raises(UsageError) as error:
        load_config("nqna", overrides)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("frames:\n  intervall: 1\n", "unknown key `frames.intervall`"),
        ("[1, 2]", "must hold `key: value` lines"),
        ("frames: [", "cannot be read as YAML"),
        ("seed: !!python/object/apply:os.system ['true']", "cannot be read as YAML"),
        ("frames: 3", "`frames` must hold keys of its own"),
        ("seed: x", "`seed`: Expected `int`"),
        ("seed: " + "[" * 5000, "cannot be read as YAML"),
        ("frames: {interval: 1}\nseed: 1\nframes: {quality: 80}", "line 3: `frames` stands in line 1 too"),
        ("frames:\n  interval: 1\n  interval: 2", "line 3: `interval` stands in line 2 too"),
        ("prices: &p {x: *p}", "`prices[...]`"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text, words):
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as error:
        load_config(str(path), [])
    assert str(path) in str(error.value) and words in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_pipeline_is_answered_with_the_known_ones():
    with pytest.raises(UsageError, match=r"did you mean `nqna`.*1qna, mixed, nqna"):
        load_config("nqa", [])
    with pytest.raises(UsageError, match="no such file"):
        load_config("missing.yaml", [])
