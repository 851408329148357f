import json
import os
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datagen.errors import UsageError
from datagen.sources.listing import list_videos

SHARED = Path(__file__).resolve().parents[2] / "../shared"


def touch(path: Path, content: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def rows_as_jsonl(folder: Path, *rows: object) -> Path:
    return touch(folder / "m.jsonl", "\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows))


def names(path: Path) -> list[str]:
    return [entry.name for entry in list_videos(path)[0]]


# Folders


def test_a_folder_is_scanned_with_its_subfolders_in_order(tmp_path: Path) -> None:
    for name in (
        "b.mp4",
        "A.MKV",
        "sub/c.webm",
        "sub/deep/d.MoV",
        "e.m4a",
        "notes.txt",
        ".hidden.mp4",
        ".h/x.mp4",
    ):
        touch(tmp_path / name, "123")
    entries, rejected = list_videos(tmp_path)
    assert [e.name for e in entries] == ["A.MKV", "b.mp4", "e.m4a", "sub/c.webm", "sub/deep/d.MoV"]
    assert rejected == []
    entry = entries[3]
    assert entry.path == str(tmp_path / "sub/c.webm")
    assert (entry.size, entry.mtime_ns) == (3, (tmp_path / "sub/c.webm").stat().st_mtime_ns)
    assert entry.id is None and entry.source == "local"


def test_links_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    touch(tmp_path / "real/a.mp4")
    (tmp_path / "real/again").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    (tmp_path / "x.mp4").symlink_to(tmp_path / "x.mp4")
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nowhere")
    entries, rejected = list_videos(tmp_path)
    assert [e.name for e in entries] == ["real/a.mp4"]
    assert {(r.stage, r.video_id, r.code) for r in rejected if r.video_id.endswith("mp4")} == {
        ("probe", "gone.mp4", "Corrupt"),
        ("probe", "x.mp4", "Corrupt"),
    }


def test_what_is_no_regular_file_is_rejected_not_opened(tmp_path: Path) -> None:
    touch(tmp_path / "a.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "folder.mp4").mkdir()
    entries, rejected = list_videos(tmp_path)
    assert [e.name for e in entries] == ["a.mp4"]
    assert [(r.video_id, r.code) for r in rejected] == [("pipe.mp4", "Invalid")]


def test_names_that_are_not_utf8_are_rejected_each_by_its_own_name(tmp_path: Path) -> None:
    touch(tmp_path / "ü 视频.mp4")
    for byte in (b"\xff", b"\xfe"):
        with open(os.fsencode(tmp_path) + b"/a" + byte + b".mp4", "wb"):  # noqa: PTH123
            pass
    entries, rejected = list_videos(tmp_path)
    assert [e.name for e in entries] == ["ü 视频.mp4"]
    assert [r.video_id for r in rejected] == ["a\\xfe.mp4", "a\\xff.mp4"]
    for row in rejected:
        row.video_id.encode("utf-8")


@pytest.mark.parametrize("name", ["missing", "empty", "notes.txt", "x" * 300, "nul\0"])
def test_what_holds_no_videos_is_a_usage_error_of_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    touch(tmp_path / "notes.txt")
    with pytest.raises(UsageError) as error:
        list_videos(tmp_path / name)
    assert name[:5] in str(error.value) and "\n" not in str(error.value)


def test_a_single_file_finds_its_sidecar(tmp_path: Path) -> None:
    touch(tmp_path / "a.mp4")
    touch(tmp_path / "a.srt", "12345")
    ([entry], rejected) = list_videos(tmp_path / "a.mp4")
    assert (entry.name, entry.sidecar, entry.sidecar_size) == ("a.mp4", str(tmp_path / "a.srt"), 5)
    assert rejected == []


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        (["talk.SRT"], "talk.SRT"),
        (["talk.mp4.json"], "talk.mp4.json"),
        (["talk.en-US.vtt"], "talk.en-US.vtt"),
        (["talk.descriptions.en.vtt"], "talk.descriptions.en.vtt"),
        (["talk.csv", "talk.jsonl", "talk.json", "talk.vtt", "talk.srt"], "talk.srt"),
        (["talk.de.srt", "talk.vtt"], "talk.vtt"),
        (["talk.de.srt", "talk.en.vtt"], "talk.en.vtt"),
        (["talk.fr.srt", "talk.de.srt"], "talk.de.srt"),
        (["talk.captions.en.vtt", "talk.descriptions.en.vtt"], "talk.descriptions.en.vtt"),
        (["talk.mp4.cuts.json", "talk.cuts.json", "talk.times.json", "talk.raw.json", "talk.txt"], None),
        (["talking.srt", ".talk.srt", "other.srt"], None),
    ],
)
def test_the_sidecar_beside_a_video(tmp_path: Path, files: list[str], chosen: str | None) -> None:
    touch(tmp_path / "talk.mp4")
    for name in files:
        touch(tmp_path / name)
    ([entry], _) = list_videos(tmp_path)
    assert entry.sidecar == (str(tmp_path / chosen) if chosen else None)


@pytest.mark.parametrize(
    ("language", "chosen"), [("de", "t.de.srt"), ("DE-at", "t.de.srt"), ("fr", "t.srt"), ("", "t.srt")]
)
def test_the_language_of_a_row_decides(tmp_path: Path, language: str, chosen: str) -> None:
    for name in ("t.mp4", "t.srt", "t.de.srt", "t.en.srt"):
        touch(tmp_path / name)
    ([entry], _) = list_videos(rows_as_jsonl(tmp_path, {"path": "t.mp4", "language": language}))
    assert entry.sidecar == str(tmp_path / chosen)


# Manifests


def test_a_row_carries_all_its_columns(tmp_path: Path) -> None:
    touch(tmp_path / "v/a.mp4", "abc")
    touch(tmp_path / "s/notes.json", "{}")
    row = {
        "path": "v/a.mp4",
        "id": "Kochen-1.β",
        "start": 1,
        "end": "2.5",
        "licence": "CC0",
        "source": "mine",
        "sidecar": "s/notes.json",
        "sidecar_licence": "Ego4D",
        "language": "de",
        "comment": {"ignored": True},
    }
    ([entry], rejected) = list_videos(rows_as_jsonl(tmp_path, row))
    assert rejected == []
    assert (entry.path, entry.name, entry.id) == (str(tmp_path / "v/a.mp4"), "v/a.mp4", "Kochen-1.β")
    assert (entry.start, entry.end, entry.licence, entry.source, entry.language) == (
        1.0,
        2.5,
        "CC0",
        "mine",
        "de",
    )
    assert (entry.sidecar, entry.sidecar_size) == (str(tmp_path / "s/notes.json"), 2)
    assert entry.sidecar_licence == "Ego4D"
    # Without the column an entry is what it was before there was one, and so is the key of its results.
    ([plain], _) = list_videos(rows_as_jsonl(tmp_path, {"path": "v/a.mp4"}))
    assert b"sidecar_licence" not in msgspec.json.encode(plain)


def test_the_three_kinds_of_manifest_say_the_same(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4", "b.srt"):
        touch(tmp_path / name)
    rows_as_jsonl(
        tmp_path, "\ufeff" + json.dumps({"path": "b.mp4", "start": 2}), "", {"path": "a.mp4", "id": "7"}
    )
    touch(tmp_path / "m.csv", "\ufeffid,path,start\r\n,b.mp4,2\r\n7,a.mp4,\r\n")
    table = {"path": ["b.mp4", "a.mp4"], "id": [None, "7"], "start": [2.0, float("nan")], "x": [1, 2]}
    pq.write_table(pa.table(table), tmp_path / "m.parquet")
    listed = [list_videos(tmp_path / f"m.{kind}") for kind in ("jsonl", "csv", "parquet")]
    assert listed[0] == listed[1] == listed[2]
    entries, rejected = listed[0]
    assert [(e.name, e.id, e.start, e.end) for e in entries] == [
        ("b.mp4", None, 2.0, None),
        ("a.mp4", "7", None, None),
    ]
    assert entries[0].sidecar == str(tmp_path / "b.srt") and rejected == []


def test_a_bad_row_is_rejected_and_the_rest_goes_on(tmp_path: Path) -> None:
    touch(tmp_path / "a.mp4")
    bad: list[tuple[dict[str, object], str]] = [
        ({"path": "gone.mp4"}, "Corrupt"),
        ({"path": "."}, "Invalid"),
        ({"path": "nul\0.mp4"}, "Invalid"),
        ({"path": "a.mp4", "id": "../up", "start": 1}, "Invalid"),
        ({"path": "a.mp4", "id": ".hidden", "start": 2}, "Invalid"),
        ({"path": "a.mp4", "id": "a b", "start": 3}, "Invalid"),
        ({"path": "a.mp4", "id": "x" * 101, "start": 4}, "Invalid"),
        ({"path": "a.mp4", "id": "ก" * 90, "start": 4.5}, "Invalid"),
        ({"path": "a.mp4", "start": "soon"}, "Invalid"),
        ({"path": "a.mp4", "start": -1}, "Invalid"),
        ({"path": "a.mp4", "start": True, "end": 8}, "Invalid"),
        ({"path": "a.mp4", "start": 5, "end": 5}, "Invalid"),
        ({"path": "a.mp4", "end": 0}, "Invalid"),
        ({"path": "a.mp4", "source": ["x"], "start": 6}, "Invalid"),
    ]
    path = rows_as_jsonl(tmp_path, *(row for row, _ in bad), {"path": "a.mp4", "id": "हिन्दी"})
    entries, rejected = list_videos(path)
    assert [e.id for e in entries] == ["हिन्दी"]
    assert [(r.stage, r.video_id, r.code) for r in rejected] == [
        ("probe", row["path"], code) for row, code in bad
    ]
    assert [r.detail.split(":")[1].strip() for r in rejected] == [f"line {n}" for n in range(1, len(bad) + 1)]
    assert all("\n" not in r.detail for r in rejected)


def test_a_missing_sidecar_costs_the_sidecar_alone(tmp_path: Path) -> None:
    touch(tmp_path / "a.mp4")
    touch(tmp_path / "a.srt")
    ([entry], [row]) = list_videos(rows_as_jsonl(tmp_path, {"path": "a.mp4", "sidecar": "gone.srt"}))
    assert entry.sidecar is None
    assert (row.stage, row.video_id, row.item_id, row.code) == ("sidecar", "a.mp4", "gone.srt", "Invalid")


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("m.jsonl", '{"path": "a.mp4"}\n{"id": "b"}', ["m.jsonl", "line 2", "`path`", "add"]),
        ("m.jsonl", '{"path": ""}', ["line 1", "`path`"]),
        ("m.jsonl", '{"path": 5}', ["line 1", "`path`"]),
        ("m.jsonl", '{"path": "a.mp4"}\n["a.mp4"]', ["line 2", "JSON object"]),
        ("m.jsonl", '{"path": "a.mp4"}\n{"path": "b', ["line 2", "JSON object"]),
        ("m.jsonl", '{"path": "\\ud800.mp4"}', ["line 1", "JSON object"]),
        ("m.jsonl", "[" * 100_000, ["line 1", "JSON object"]),
        ("m.jsonl", "", ["no rows"]),
        (
            "m.jsonl",
            '{"path": "a.mp4", "id": "x"}\n{"path": "b.mp4", "id": "x"}',
            ["line 2", "line 1", "`id`"],
        ),
        (
            "m.jsonl",
            '{"path": "a.mp4"}\n{"path": "./v/../a.mp4", "start": 0}',
            ["line 2", "line 1", "`path`"],
        ),
        ("m.csv", "video\na.mp4\n", ["line 1", "`path`"]),
        ("m.csv", 'path,id\n"a,\nb.mp4",x\n,y\n', ["line 4", "`path`"]),
        ("m.csv", "path,id\na.mp4,x,y\n", ["line 2", "3 values for 2 columns"]),
        ("m.csv", "path,id\n", ["no rows"]),
        ("m.parquet", "PAR1 not really", ["m.parquet", "Parquet"]),
    ],
)
def test_a_manifest_that_is_wrong_as_such(tmp_path: Path, name: str, content: str, parts: list[str]) -> None:
    touch(tmp_path / "a.mp4")
    touch(tmp_path / name, content)
    with pytest.raises(UsageError) as error:
        list_videos(tmp_path / name)
    message = str(error.value)
    assert "\n" not in message and all(part in message for part in parts), message


def test_manifests_of_the_wrong_encoding_or_columns(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_bytes(b"path\n\xff\xfe.mp4\n")
    pq.write_table(pa.table({"video": ["a.mp4"]}), tmp_path / "m.parquet")
    (tmp_path / "semicolons.csv").write_text("path;id\na.mp4;x\n")
    (tmp_path / "twice.csv").write_text("path,id,id\na.mp4,x,y\n")
    for name, part in (
        ("m.csv", "UTF-8"),
        ("m.parquet", "`path`"),
        ("semicolons.csv", "no column `path` in `path;id`; .* commas"),
        ("twice.csv", "two columns `id`"),
    ):
        with pytest.raises(UsageError, match=part):
            list_videos(tmp_path / name)


@pytest.mark.parametrize("column", ["license", "Start", "sidecars", " id "])
def test_a_column_that_looks_like_one_of_ours_is_not_ignored(tmp_path: Path, column: str) -> None:
    (tmp_path / "m.jsonl").write_text(
        json.dumps({"path": "a.mp4"}) + "\n" + json.dumps({"path": "b", column: "x"})
    )
    with pytest.raises(UsageError, match=f"line 2: column `{column.strip()}`: did you mean"):
        list_videos(tmp_path / "m.jsonl")
    pq.write_table(pa.table({"path": ["a.mp4"], column: ["x"]}), tmp_path / "m.parquet")
    with pytest.raises(UsageError, match="did you mean"):
        list_videos(tmp_path / "m.parquet")


def test_other_columns_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    row = {"path": "a.mp4", "uid": "x", "resource": "x", "duration": 3, "send": "x", "": "x"}
    (tmp_path / "m.jsonl").write_text(json.dumps(row))
    assert len(list_videos(tmp_path / "m.jsonl")[0]) == 1


@pytest.mark.skipif(not SHARED.is_dir(), reason="development videos are not here")
def test_the_development_videos() -> None:
    entries, rejected = list_videos(SHARED / "videos")
    on_disk = [
        p
        for p in (SHARED / "videos").rglob("*")
        if p.suffix in {".mp4", ".mkv", ".webm", ".ts", ".gif", ".m4a"}
    ]
    assert len(entries) == len(on_disk) and rejected == []
    assert all(entry.sidecar is None for entry in entries)
