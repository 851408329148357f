"""Whatever is in the file: a Sidecar or Invalid, and nothing that cannot be stored."""

import json
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datagen.errors import Invalid
from datagen.records import Location
from datagen.sources.sidecar import read_sidecar

_stamps = count()
_FAST = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "any.vtt"


def check(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        sidecar = read_sidecar(Location(str(path)), (next(_stamps), 0), ("v", "v.mp4"))
    except Invalid as error:
        assert "any.vtt: " in str(error) and "\n" not in str(error)
        return
    msgspec.json.encode(sidecar)
    for row in sidecar.narrations:
        assert 0 <= row.start <= row.end <= 1e7 and row.text == row.text.strip() != ""
        assert (row.modality == "audio") == (row.kind == "speech")
        assert all(row.start <= a <= b for a, b, _ in row.words)


_TEMPLATES: list[Any] = [
    {
        "segments": [{"start": 1, "end": 2, "text": "a", "words": [{"word": "a", "start": 1, "end": 2}]}],
        "language": "en",
    },
    {"database": {"v": {"class": "MakeTea", "annotation": [{"segment": [1, 2], "label": "a"}]}}},
    {"database": {"v": {"recipe_type": "1", "annotations": [{"segment": [1, 2], "sentence": "a"}]}}},
    {"annotations": {"v": [{"rejected": False, "descriptions": [{"timestamp": 1, "text": "C a"}]}]}},
    {"v": {"status": "", "narration_pass_1": {"narrations": [{"timestamp_sec": 1, "narration_text": "a"}]}}},
    {"videos": {"v": {"narrations": [{"time": 1, "text": "a"}]}}},
    {"videos": [{"video_uid": "v", "segments": [
        {"start_time": 1, "end_time": 2, "step_description": "a", "is_relevant": "essential", "segments": [
            {"start_time": 1, "end_time": 2, "step_description": "b"}]}]}]},
    {"v": {"activity_name": "A", "steps": [
        {"start_time": 1, "end_time": 2, "description": "A-a", "has_errors": True}]}},
    {"Q": {"v.mp4": {"relevant": True, "steps": [{"heading": "a", "absolute_bounds": [1, 2]}]}}},
    [{"start": 1, "end": 2, "textAttribute_en": "1. a\n2. b"}],
    [{"role": "", "content": [{"video": "v", "title": "t"}]}, {"content": [{"text_stream": [[1, 2, "a"]]}]}],
]  # fmt: skip


def _places(value: Any, before: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [p for key, inner in items for p in [(*before, key), *_places(inner, (*before, key))]]


_keys = st.sampled_from(sorted({str(p[-1]) for t in _TEMPLATES for p in _places(t)}))
_odd = st.one_of(
    st.none(), st.booleans(), st.floats(), st.integers(), st.text(max_size=8),
    st.lists(st.floats(-5, 50), min_size=2, max_size=2),
    st.sampled_from(["#C C waves", "#unsure", "[Music]", "hi"]),
)  # fmt: skip
_json = st.recursive(
    _odd,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_keys, inner, max_size=6),
    max_leaves=40,
)


def _put(document: Any, place: tuple[str | int, ...], value: Any) -> None:
    for step in place[:-1]:
        document = document[step]
    document[place[-1]] = value


@pytest.mark.parametrize("number", range(len(_TEMPLATES)))
def test_templates_are_readable(path: Path, number: int) -> None:
    path.write_text(json.dumps(_TEMPLATES[number]))
    assert read_sidecar(Location(str(path)), (next(_stamps), 0), ("v",)).narrations


@_FAST
@given(data=st.data())
def test_records_with_any_value_anywhere(path: Path, data: st.DataObject) -> None:
    template = data.draw(st.sampled_from(_TEMPLATES))
    places = data.draw(st.lists(st.sampled_from(_places(template)), max_size=4))
    document = json.loads(json.dumps(template))
    for place in places:
        try:
            _put(document, place, data.draw(_json))
        except (IndexError, KeyError, TypeError):
            continue  # an earlier value took the place of a parent
    check(path, json.dumps(document).encode())


@_FAST
@given(_json)
def test_any_json(path: Path, value: Any) -> None:
    check(path, json.dumps(value).encode())


@_FAST
@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"WEBVTT\n\n", b"1\n00:01 --> 00:02\n", b"{", b'[{"role":', b"\xff\xfe"]),
)
def test_any_bytes(path: Path, data: bytes, start: bytes) -> None:
    check(path, start + data)


_LINES = st.sampled_from(
    [
        "",
        "1",
        "NOTE x",
        "STYLE",
        "00:01 --> 00:02",
        "00:00:01,5 --> 00:00:03",
        "-->",
        "1 --> 2",
        "a",
        "a<b",
        "<v X>",
        "{\\an8}",
        "[x]",
        "♪",
    ]
)


@_FAST
@given(
    st.lists(_LINES | st.text(max_size=12), max_size=25), st.booleans(), st.sampled_from(["\n", "\r\n", "\r"])
)
def test_any_cues(path: Path, lines: list[str], web: bool, end: str) -> None:
    text = end.join((["WEBVTT"] if web else []) + lines)
    check(path, text.encode("utf-8", "surrogatepass"))


@_FAST
@given(st.lists(st.lists(st.text(max_size=6) | st.sampled_from(["v", "1", "2"]), max_size=6), max_size=8))
def test_any_csv(path: Path, table: list[list[str]]) -> None:
    lines = ["video_uid,start_sec,end_sec,narration_en", *(",".join(row) for row in table)]
    check(path, "\n".join(lines).encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize(
    "text",
    [
        "<" * 200_000,
        "{\\" * 100_000,
        "[" * 200_000,
        "(" * 200_000,
        "&" * 200_000,
        "-->" * 70_000,
        "1:" * 100_000,
        "-" * 200_000,
    ],
)
def test_regular_expressions_are_linear(path: Path, text: str) -> None:
    """Quadratic ones would take minutes."""
    check(path, b"WEBVTT\n\n00:01 --> 00:02\n" + text.encode())
    segment = {"start": 1, "end": 2, "text": text[:9_999], "words": [{"word": text}]}
    check(path, json.dumps({"segments": [segment], "language": text}).encode())
    lines = "\n".join(f"{n} x" for n in range(20_000))
    check(path, f"WEBVTT\n\n00:01 --> 00:02\n{lines}\n\n00:02 --> 00:03\n{lines}\n".encode())
    narration = {"timestamp_sec": 1, "narration_text": "#C " + text[:9_000]}
    check(path, json.dumps({"v": {"status": "x", "narration_pass_1": {"narrations": [narration]}}}).encode())
