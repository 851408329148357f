"""Hostile and odd files of every format that is not a subtitle."""

import json
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from datagen.errors import Invalid
from datagen.records import Location, Sidecar
from datagen.sources import captaincook4d, ego4d, egoexolearn, rows, sidecar, whisper
from datagen.sources.sidecar import read_sidecar

_stamps = count()
_ODD: list[Any] = [None, "x", "", [], {}, True, -1, float("nan"), float("inf"), 10**400, 1e300, [1], {"a": 1}]


def read(folder: Path, content: object, *names: str, file: str = "notes.json") -> Sidecar:
    path = folder / file
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode("utf-8"))
    return read_sidecar(Location(str(path)), (next(_stamps), 0), names or ("vid",))


def segment(start: Any, end: Any, text: Any, **more: Any) -> dict[str, Any]:
    return {"start": start, "end": end, "text": text, **more}


def test_bad_segments_go_one_by_one(tmp_path: Path) -> None:
    bad = [segment(odd, 2, "a") for odd in _ODD] + [segment(1, odd, "a") for odd in _ODD]
    bad += [segment(1, 2, odd) for odd in _ODD] + [segment(2, 1, "a"), {}, 7, None, "x"]
    found = read(tmp_path, {"segments": [*bad, segment(5, 6, " fine "), segment(3.5, "4", "earlier")]})
    assert [(n.start, n.end, n.text, n.key) for n in found.narrations][-2:] == [
        (3.5, 4.0, "earlier", f"segments[{len(bad) + 1}]"),
        (5.0, 6.0, "fine", f"segments[{len(bad)}]"),
    ]
    # "x" is a text like any other.
    assert [n.text for n in found.narrations] == ["x", "earlier", "fine"]
    assert len(found.rejected) == len(bad) - 1
    assert all(
        row.item_id.startswith("notes.json:segments[") and row.detail.isprintable() for row in found.rejected
    )


def test_values_too_deep_or_long_to_print(tmp_path: Path) -> None:
    deep, long = "[" * 500 + "]" * 500, "9" * 5000
    for value in (deep, f"[{deep}]", long, "[" * 90_000, '{"a":' * 900 + "1" + "}" * 900):
        for text in (
            f'{{"segments": [{{"start": {value}, "end": {value}, "text": {value}}}]}}',
            f'{{"segments": {value}}}',
        ):
            try:
                found = read(tmp_path, text.encode())
            except Invalid:
                continue
            assert found.narrations == () and all(len(row.detail) < 200 for row in found.rejected)


def test_words_without_times_share_the_gap() -> None:
    words = [
        {"word": "a"},
        {"word": " b", "start": 2.0, "end": 3.0},
        {"word": "[noise]", "start": 3, "end": 3.1},
    ]
    words += [
        {"word": "c", "start": "x"},
        {"word": "d"},
        {"word": "e", "start": 5.0, "end": 5.5},
        {"word": "f"},
    ]
    assert whisper.timed(words, 1.0, 6.0) == (
        (1.0, 2.0, "a"), (2.0, 3.0, "b"), (3.0, 4.0, "c"), (4.0, 5.0, "d"), (5.0, 5.5, "e"), (5.5, 6.0, "f"),
    )  # fmt: skip
    assert whisper.timed([{"word": "late", "start": 9, "end": 8}, 5, None], 1.0, 2.0) == ((1.0, 2.0, "late"),)


def test_made_up_speech_is_rejected(tmp_path: Path) -> None:
    doubtful = [
        segment(0, 1, "Thanks for watching", no_speech_prob=0.9, avg_logprob=-0.8),
        segment(1, 2, "no no no no", compression_ratio=9.0),
    ]
    sure = [
        segment(2, 3, "loud", no_speech_prob=0.9, avg_logprob=-0.1),
        segment(3, 4, "quiet", no_speech_prob=0.1, avg_logprob=-0.9),
    ]
    found = read(tmp_path, {"segments": doubtful + sure, "language": "en"})
    assert [n.text for n in found.narrations] == ["loud", "quiet"] and len(found.rejected) == 2


def test_nan_and_other_encodings_do_not_cost_the_file(tmp_path: Path) -> None:
    document = {"a": {"activity_name": "Tea", "steps": [
        {"start_time": float("nan"), "end_time": 2, "description": "x-y", "has_errors": False},
        {"start_time": 1, "end_time": 2, "description": "Gieß -Gieß Wasser auf", "has_errors": True},
    ]}}  # fmt: skip
    text = json.dumps(document, ensure_ascii=False)
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "cp1252"):
        found = read(tmp_path, text.encode(encoding), "a")
        assert [(n.text, n.mistake) for n in found.narrations] == [("Gieß Wasser auf", True)]
        assert len(found.rejected) == 1


def test_lone_surrogates_and_control_characters_leave_the_text(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        b'{"segments": [{"start": 1, "end": 2, "text": "a\\ud800\\u0000b\\u202e\\n c"}], "language": 5}',
    )
    [row] = found.narrations
    assert row.text == "a? b c" and found.language is None
    row.text.encode("utf-8")


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("#C C picks up a spanner", "The camera wearer picks up a spanner"),
        ("#c c opens C's bag", "The camera wearer opens the camera wearer's bag"),
        (
            "# C C takes vitamin C, a USB C cable and a C-clamp",
            "The camera wearer takes vitamin C, a USB C cable and a C-clamp",
        ),
        ("#O A man X gives C a cup.", "A man X gives the camera wearer a cup."),
        ("#O B waves", "Person B waves"),
        ("O walks out", "Another person walks out"),
        ("#Summary C fixed it", "The camera wearer fixed it"),
        ("#C", ""),
        ("", ""),
    ],
)
def test_ego4d_in_plain_english(text: str, plain: str) -> None:
    assert ego4d.plain_english(text) == plain


@pytest.mark.parametrize(
    ("description", "sentence"),
    [
        ("Coat -Coat a 6-oz. cup", "Coat a 6-oz. cup"),
        ("Pour-Pour 1 egg", "Pour 1 egg"),
        ("add-Measure flour and add it", "Measure flour and add it"),
        ("Add-1 tablespoon of oil", "Add 1 tablespoon of oil"),
        ("Mix the 6-oz. cup well", "Mix the 6-oz. cup well"),
        ("No dash", "No dash"),
        ("-", "-"),
        ("Stir-", "Stir-"),
    ],
)
def test_captaincook4d_sentences(description: str, sentence: str) -> None:
    assert captaincook4d.plain_step(description) == sentence


def test_numbered_lists_become_sentences() -> None:
    assert egoexolearn.plain_list("1. Cut.\n2. Then, stir \n\n 3) 2 eggs;") == "Cut. Then, stir. 2 eggs."
    assert egoexolearn.plain_list("1. Open the fridge") == "Open the fridge"


def test_redacted_narrations_and_both_passes(tmp_path: Path) -> None:
    redacted = {
        "videos": {"u": {"narrations": [{"time": 2.5, "text": "#C C waves", "_annotation_uid": "x"}]}}
    }
    [row] = read(tmp_path, redacted, "u").narrations
    assert (row.start, row.end, row.text) == (2.5, 2.5, "The camera wearer waves")
    told = [{"timestamp_sec": t, "narration_text": "#C C waves"} for t in (4, 1)]
    passes = {"u": {"narration_pass_1": {"narrations": told[:1]}, "narration_pass_2": {"narrations": told}}}
    found = read(tmp_path, passes, "u")
    assert [n.start for n in found.narrations] == [1.0, 4.0]
    assert [r.item_id for r in found.rejected] == ["notes.json:narration_pass_1"]


def test_hirest_takes_the_query_that_has_steps(tmp_path: Path) -> None:
    step = {"index": 0, "heading": "stir ", "absolute_bounds": [1, 2]}
    bad = [{"heading": "x", "absolute_bounds": bounds} for bounds in ([5, 5], [3], None, ["a", 2], [-1, 4])]
    document = {
        "Sit": {"v.mp4": {"relevant": False, "clip": False, "steps": []}},
        "Stir": {"v.mp4": {"relevant": True, "clip": True, "steps": [step, *bad, "junk"]}},
    }
    found = read(tmp_path, document, "v")
    assert found.title == "Stir" and [n.text for n in found.narrations] == ["stir"]
    assert [r.item_id for r in found.rejected] == [f"notes.json:steps[{n}]" for n in range(1, 7)]


def test_csv_with_odd_rows(tmp_path: Path) -> None:
    text = (
        "\ufeffstart_sec,video_uid,end_sec,narration_en\r\n"
        '4,v,5,"second, with\r\na line break"\r\n1,v,2,first\r\n3,v\r\nx,v,2,no time\r\n2,v,2,no length\r\n'
        "1,w,2,other\r\n1,,2,nobody's\r\n9,v,10,\r\n"
    )
    found = read(tmp_path, text.encode(), "v", file="fine.csv")
    assert [(n.text, n.key) for n in found.narrations] == [("first", "4"), ("second, with a line break", "2")]
    assert {r.item_id for r in found.rejected} == {f"fine.csv:{line}" for line in (5, 6, 7, 9, 10)}
    assert len(read(tmp_path, text.encode(), "w", file="fine.csv").rejected) == 0


def live(video: str, stream: Any, **text: Any) -> str:
    user = {
        "role": "user",
        "content": [{"type": "video", "video": video}, {"type": "text", "text": "", **text}],
    }
    return json.dumps(
        [user, {"role": "assistant", "content": [{"type": "text_stream", "text_stream": stream}]}]
    )


def test_live_whisperx_lines(tmp_path: Path) -> None:
    lines = [
        live(
            "x/a.mp4",
            [[0, 1, "One"], [1, 2, "two."], [2, 3, "three"], [9, 10, "four"], [9], None, [1, "b", "c"]],
            title="T",
        ),
        "[{broken",
        live("y/a.mp4", [[0, 1, "Elsewhere."]]),
        live("x/a.mp4", [[30, 31, f"w{n}"] for n in range(70)]),
        live("x/b.mp4", None),
        "[0, 200, 400]",
    ]
    content = ("\ufeff" + "\r\n".join(lines)).encode()
    found = read(tmp_path, content, "x/a.mp4", file="live.jsonl")
    assert [n.text for n in found.narrations][:3] == ["One two.", "three", "four"]
    assert [len(n.words) for n in found.narrations] == [2, 1, 1, 60, 10]
    assert found.title == "T" and found.narrations[0].key == "1:0"
    assert {r.item_id for r in found.rejected} == {
        "live.jsonl:1:4",
        "live.jsonl:1:5",
        "live.jsonl:1:6",
        "live.jsonl:2",
    }
    with pytest.raises(Invalid, match="none of them called `a`"):  # two videos have that stem
        read(tmp_path, content, "a", file="live.jsonl")
    assert len(read(tmp_path, content, "b.mp4", file="live.jsonl").rejected) == 1


def test_a_video_that_is_not_in_the_collection(tmp_path: Path) -> None:
    document = {"database": {"abc": {"annotation": [], "class": "MakeTea"}}}
    assert read(tmp_path, document, "xyz", "abc.mp4").title == "Make Tea"
    with pytest.raises(Invalid, match=r"notes\.json: describes 1 videos, none of them called `xyz`, `x y`"):
        read(tmp_path, document, "xyz", "x y")


def test_a_collection_is_parsed_once_for_all_its_videos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "coin.json"
    steps = [{"segment": [1, 2], "label": "pour"}]
    path.write_text(
        json.dumps({"database": {f"v{n}": {"annotation": steps, "class": "A"} for n in range(50)}})
    )
    reads = []
    original = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: reads.append(self) or original(self))
    for number in range(50):
        assert len(read_sidecar(Location(str(path)), (1, 1), (f"v{number}",)).narrations) == 1
    assert reads == [path]
    read_sidecar(Location(str(path)), (1, 2), ("v1",))
    assert reads == [path, path]


def test_more_than_anyone_needs_is_cut_with_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sidecar, "_MOST_NARRATIONS", 3)
    monkeypatch.setattr(sidecar, "_MOST_REJECTIONS", 2)
    found = read(tmp_path, {"segments": [segment(t, t + 1, "a") for t in range(5)] + [{}] * 9})
    assert [n.start for n in found.narrations] == [0.0, 1.0, 2.0]
    assert [r.item_id for r in found.rejected] == [
        "notes.json:segments[5]",
        "notes.json:segments[6]",
        "notes.json:rest",
    ]


@pytest.mark.parametrize(
    "content",
    [b"{", b"[1, 2]", b"{}", b"[]", b'{"a": 1}', b"[" * 200_000, b'{"a":' * 200_000, b'{"segments": {}}'],
)
def test_json_in_no_known_format(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(Invalid, match=r"notes\.json: .*(no known format|not)"):
        read(tmp_path, content)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "gone.srt", tmp_path / "nul\0.srt"):
        with pytest.raises(Invalid, match="cannot be read"):
            read_sidecar(Location(str(path)), (0, next(_stamps)), ("v",))


def test_stems_and_seconds() -> None:
    assert [rows.stem(n) for n in ("a/b.c.MP4", "b.v2", ".mp4", "")] == ["b.c", "b.v2", ".mp4", ""]
    assert [rows.seconds(v) for v in (1, "2.5", " 3 ", True, "nan", 1e9, None)] == [
        1,
        2.5,
        3,
        None,
        None,
        None,
        None,
    ]
