from itertools import count
from pathlib import Path

import pytest

from datagen.errors import Invalid
from datagen.records import Location, Sidecar
from datagen.sources.sidecar import read_sidecar

_stamps = count()


def read(folder: Path, content: str | bytes, name: str = "talk.srt") -> Sidecar:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return read_sidecar(Location(str(path)), (next(_stamps), 0), ("talk",))


def said(sidecar: Sidecar) -> list[tuple[float, float, str]]:
    return [(n.start, n.end, n.text) for n in sidecar.narrations]


def test_loose_srt(tmp_path: Path) -> None:
    sidecar = read(
        tmp_path,
        "\ufeff1\r\n00:00:5,000 --> 00:00:6.25 X1:10 X2:20\r\n{\\an8}<i>Tom &amp; Ann</i>\r\nsay "
        "<b>hi</b>\r\n\r\n"
        "2\r\n01:00,5 --> 01:02\r\nNo hours\r\n3\r\n100:00:00,000 --> 100:00:01,000\r\nNo empty line\r\n\r\n"
        "4\r\n00:00:07,000 --> 00:00:08,000\r\n\r\n- After an empty line\r\n",
    )
    assert said(sidecar) == [
        (5.0, 6.25, "Tom & Ann say hi"),
        (7.0, 8.0, "After an empty line"),
        (60.5, 62.0, "No hours"),
        (360000.0, 360001.0, "No empty line"),
    ]
    assert sidecar.format == "srt" and sidecar.rejected == ()


def test_a_number_may_be_what_is_said(tmp_path: Path) -> None:
    sidecar = read(tmp_path, "1\n00:01 --> 00:02\n1984\n\n2\n00:03 --> 00:04\n42\n")
    assert [n.text for n in sidecar.narrations] == ["1984", "42"]


def test_bad_cues_are_rejected_by_line(tmp_path: Path) -> None:
    cues = [
        ("00:00:02,000 --> 00:00:01,000", "backwards"),
        ("00:00:03,000 --> 00:00:03,000", "no time at all"),
        ("-00:00:01,000 --> 00:00:03,000", "negative"),
        ("00:00:61,000 --> 00:01:03,000", "61 seconds"),
        ("soon --> later", "words for times"),
        ("00:00:04,000 -->", "no end"),
        ("00:00:04,000 --> 00:00:05,000", ""),
        ("00:00:04,000 --> 00:00:05,000", "[Music]"),
        ("00:00:04,000 --> 00:00:05,000", "(applause) (cheering)"),
        ("00:00:04,000 --> 00:00:05,000", "♪ la la la ♪"),
        ("00:00:04,000 --> 00:00:05,000", "..."),
        ("00:00:04,000 --> 00:00:05,000", "word " * 5000),
        ("00:00:04,000 --> 00:00:05,000", "sprites.jpg#xywh=0,0,160,90"),
    ]
    text = "".join(f"{n}\n{timing}\n{words}\n\n" for n, (timing, words) in enumerate(cues, 1))
    sidecar = read(tmp_path, text + "99\n00:00:08,000 --> 00:00:09,000\n[sighs] Well, (maybe) yes.\n")
    assert said(sidecar) == [(8.0, 9.0, "Well, (maybe) yes.")]
    assert [row.item_id for row in sidecar.rejected] == [
        f"talk.srt:{4 * n - 2}" for n in range(1, len(cues) + 1)
    ]
    assert {(row.stage, row.video_id, row.code) for row in sidecar.rejected} == {
        ("sidecar", "talk", "Invalid")
    }


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"]
)
def test_encodings(tmp_path: Path, encoding: str) -> None:
    sidecar = read(tmp_path, "1\n00:00:01,000 --> 00:00:02,000\nGrüße – naïve café\n".encode(encoding))
    assert said(sidecar) == [(1.0, 2.0, "Grüße – naïve café")]


def test_vtt_with_everything(tmp_path: Path) -> None:
    sidecar = read(
        tmp_path,
        "WEBVTT - a title\nKind: captions\nLanguage: de-CH\n\nSTYLE\n::cue { color: red }\n\nREGION\nid:a\n\n"
        "NOTE 00:00:00.000 --> 00:00:09.000\nnot said\n\n"
        "first cue\n00:01.000 --> 00:02.000 D:vertical A:start\n"
        "<v.loud Mary Ann>Hello <c.yellow>there</c> &lt;b&gt;<00:01.500> you</v>\n\n"
        "00:00:03.000 --> 00:00:04.000\nsecond\n\nstray text\n",
        "talk.en.vtt",
    )
    assert said(sidecar) == [(1.0, 2.0, "Hello there <b> you"), (3.0, 4.0, "second")]
    assert sidecar.narrations[0].speaker == "Mary Ann" and sidecar.narrations[0].key == "15"
    assert (sidecar.format, sidecar.language) == ("vtt", "de-CH")


def test_descriptions_are_seen(tmp_path: Path) -> None:
    cue = "\n\n00:01.000 --> 00:02.000\nA dog [a poodle] runs\n"
    by_header = read(tmp_path, "WEBVTT\nKind: descriptions" + cue, "talk.vtt")
    by_name = read(tmp_path, "WEBVTT" + cue, "talk.descriptions.en.vtt")
    for sidecar in (by_header, by_name):
        [row] = sidecar.narrations
        assert (row.modality, row.kind, row.text) == ("visual", "narration", "A dog [a poodle] runs")
    with pytest.raises(Invalid, match="chapters"):
        read(tmp_path, "WEBVTT\nKind: chapters" + cue, "talk.vtt")


def test_rolling_captions_are_said_once(tmp_path: Path) -> None:
    sidecar = read(
        tmp_path,
        "WEBVTT\nKind: captions\nLanguage: en\n\n"
        "00:00:00.000 --> 00:00:02.000 align:start position:0%\n \nhello<00:00:00.500><c> there</c>\n\n"
        "00:00:02.000 --> 00:00:02.010 align:start position:0%\nhello there\n \n\n"
        "00:00:02.010 --> 00:00:04.000 align:start position:0%\nhello there\n"
        "this<00:00:02.500><c> is it</c>\n\n"
        "00:00:04.000 --> 00:00:04.010 align:start position:0%\nthis is it\n \n\n"
        "00:00:04.010 --> 00:00:06.000 align:start position:0%\nthis is it\nbye\n",
        "talk.vtt",
    )
    assert said(sidecar) == [(0.0, 2.0, "hello there"), (2.01, 4.0, "this is it"), (4.01, 6.0, "bye")]


def test_what_is_said_twice_is_kept_twice(tmp_path: Path) -> None:
    sidecar = read(
        tmp_path, "1\n00:01 --> 00:02\nNo!\n\n2\n00:02 --> 00:03\nNo!\n\n3\n00:03 --> 00:04\nYes.\n"
    )
    assert [n.text for n in sidecar.narrations] == ["No!", "No!", "Yes."]


@pytest.mark.parametrize(
    "content", ["", " \n\n", "\ufeff", "hello", "\x00\x01\x02" * 900, "<html>", "path,id\na.mp4,1\n"]
)
def test_what_is_no_sidecar_names_the_file(tmp_path: Path, content: str) -> None:
    with pytest.raises(Invalid, match=r"talk\.srt: (is empty|is in no known format)"):
        read(tmp_path, content)
