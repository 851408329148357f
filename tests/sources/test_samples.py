"""Every sidecar of the development set, with figures counted from the files by other means."""

import csv
import json
from pathlib import Path

import pytest

from datagen.errors import Invalid
from datagen.records import Location, Narration, Sidecar
from datagen.sources.sidecar import read_sidecar

SHARED = Path(__file__).resolve().parents[2] / "../shared"
MADE = SHARED / "sidecars/SYNTHETIC_formats"

pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="development sidecars are not here")


def read(path: Path, *names: str) -> Sidecar:
    status = path.stat()
    sidecar = read_sidecar(Location(str(path)), (status.st_size, status.st_mtime_ns), names or (path.stem,))
    order = [(n.start, n.end, n.text) for n in sidecar.narrations]
    assert order == sorted(order)
    assert all(0 <= n.start <= n.end and n.text == " ".join(n.text.split()) for n in sidecar.narrations)
    for row in sidecar.rejected:
        assert (row.stage, row.video_id, row.code) == ("sidecar", (names or (path.stem,))[0], "Invalid")
        assert row.item_id.startswith(path.name + ":")
    return sidecar


def kinds(sidecar: Sidecar) -> set[tuple[str, str]]:
    return {(n.modality, n.kind) for n in sidecar.narrations}


def test_whisperx() -> None:
    sidecar = read(MADE / "whisperx_bike.json")
    assert kinds(sidecar) == {("audio", "speech")} and sidecar.language == "en" and sidecar.rejected == ()
    assert [n.speaker for n in sidecar.narrations] == ["SPEAKER_00"] * 4 + ["SPEAKER_01", "SPEAKER_00"]
    assert sidecar.narrations[0].text.startswith("Okay, first flip")
    for narration in sidecar.narrations:
        assert " ".join(word for _, _, word in narration.words) == narration.text
        times = [t for start, end, _ in narration.words for t in (start, end)]
        assert times == sorted(times) and narration.start <= times[0] and times[-1] <= narration.end
    fifteen = next(w for w in sidecar.narrations[1].words if w[2] == "15")
    assert fifteen[:2] == pytest.approx((5.055, 5.247))
    assert read(MADE / "whisperx_silent_clip.json").narrations == ()


def test_openai_whisper() -> None:
    sidecar = read(MADE / "openai_whisper_words.json")
    assert [n.text for n in sidecar.narrations] == ["Pour the milk in."]
    assert [w[2] for w in sidecar.narrations[0].words] == ["Pour", "the", "milk", "in."]
    assert "no_speech_prob" in sidecar.rejected[0].detail


def test_live_whisperx() -> None:
    path = MADE / "live_whisperx_with_seeks.jsonl"
    sidecar = read(path, "AAAA0000001")
    assert [(n.start, n.end, n.text) for n in sidecar.narrations] == [
        (10.2, 11.7, "First flip the bike over."),
        (24.0, 25.6, "Now remove the wheel."),
    ]
    assert sidecar.title == "Fixing a puncture" and sidecar.rejected == ()
    assert sidecar.narrations[1].words[-1] == (25.0, 25.6, "wheel.")
    assert read(path, "demo/AAAA0000002.mp4").title == "Derby highlights"


def test_ego4d_narrations() -> None:
    path = MADE / "ego4d_narration.json"
    sidecar = read(path, "00000000-aaaa-4000-8000-000000000001")
    assert kinds(sidecar) == {("visual", "narration")} and all(n.start == n.end for n in sidecar.narrations)
    assert [n.text for n in sidecar.narrations][1:6] == [
        "The camera wearer picks up a spanner from the bench with his right hand",
        "The camera wearer loosens the bolt with the spanner",
        "The camera wearer loosens the bolt with the spanner",
        "A man X walks towards the bench",
        "The camera wearer hands the spanner to man X",
    ]
    assert {row.item_id.split(":")[1] for row in sidecar.rejected} == {
        "narration_pass_1.narrations[6]",
        "narration_pass_2",
    }
    with pytest.raises(Invalid, match="redacted"):
        read(path, "00000000-aaaa-4000-8000-000000000002")


def test_ego4d_goalstep() -> None:
    sidecar = read(MADE / "ego4d_goalstep.json", "00000000-aaaa-4000-8000-000000000003.mp4")
    assert sidecar.title == "Make a cup of tea" and kinds(sidecar) == {("visual", "step")}
    assert [(n.start, n.end) for n in sidecar.narrations] == [(3.0, 12.0), (3.0, 22.5), (80.2, 97.0)]
    assert "irrelevant" in sidecar.rejected[0].detail


@pytest.mark.parametrize(
    "name",
    [
        "11111111-aaaa-4000-8000-000000000001",
        "demo_cooking_01_2",
        "takes/demo_cooking_01_2/x/aria01_214-1.mp4",
    ],
)
def test_egoexo4d_by_take_uid_name_and_folder(name: str) -> None:
    sidecar = read(MADE / "egoexo4d_atomic_descriptions.json", name)
    assert [n.start for n in sidecar.narrations] == [2.41, 5.08, 11.72, 19.95]
    assert sidecar.narrations[0].text.startswith("The camera wearer picks a tomato")
    assert len(sidecar.rejected) == 2


def test_egoexolearn_fine() -> None:
    assert (
        len(
            read(
                MADE / "egoexolearn_fine_annotation_trainval_en.csv", "22222222-aaaa-11ee-819f-000000000001"
            ).narrations
        )
        == 2
    )
    path = SHARED / "sidecars/egoexolearn/exo_train.sample.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for uid in {row["video_uid"] for row in rows}:
        expected = sorted(
            (float(r["start_sec"]), r["narration_en"].strip()) for r in rows if r["video_uid"] == uid
        )
        sidecar = read(path, uid + ".mp4")
        assert sorted((n.start, n.text) for n in sidecar.narrations) == expected
        assert kinds(sidecar) == {("visual", "narration")}


def test_egoexolearn_without_narrations_says_so() -> None:
    with pytest.raises(
        Invalid, match=r"fine_annotation_test\.sample\.csv: has times but no narration column"
    ):
        read(
            SHARED / "sidecars/egoexolearn/fine_annotation_test.sample.csv",
            "bee9f31c-ac78-11ee-819f-80615f12b59e",
        )


def test_egoexolearn_coarse() -> None:
    for path in sorted((SHARED / "sidecars/egoexolearn/coarse_l1").glob("*.json")):
        sidecar = read(path)
        assert len(sidecar.narrations) == len(json.loads(path.read_text())) and kinds(sidecar) == {
            ("visual", "step")
        }
        assert not any(n.text.startswith("1.") or " 2. " in n.text for n in sidecar.narrations)
    first = read(
        SHARED / "sidecars/egoexolearn/coarse_l1/bee93bfc-ac78-11ee-819f-80615f12b59e.json"
    ).narrations[0]
    assert (
        first.text
        == "Take out the tomato from the bag. Rinse it under the tap. Put it back on the cutting board."
    )


def test_coin_and_youcook2() -> None:
    coin = read(MADE / "COIN.json", "CCCCCCCCCC1")
    assert coin.title == "Replace A Bulb" and [n.start for n in coin.narrations] == [9.0, 26.0, 41.0, 60.0]
    youcook = read(MADE / "youcookii_annotations.json", "AAAAAAAAAA1.mp4")
    assert [n.text for n in youcook.narrations][1] == "melt butter in a pan"
    assert (coin.format, youcook.format) == ("coin", "youcook2")


def test_hirest() -> None:
    path = SHARED / "sidecars/hirest/all_data_val.sample.json"
    for query, files in json.loads(path.read_text()).items():
        for name, video in files.items():
            sidecar = read(path, name.removesuffix(".mp4"))
            assert sidecar.title == query and len(sidecar.narrations) == len(video["steps"])
            assert [n.text for n in sidecar.narrations] == [s["heading"].strip() for s in video["steps"]]


def test_captaincook4d() -> None:
    path = SHARED / "sidecars/captaincook4d/complete_step_annotations.sample.json"
    for name, recording in json.loads(path.read_text()).items():
        sidecar = read(path, "somewhere", name + "_360p.mp4") if name == "1_7" else read(path, name)
        done = [step for step in recording["steps"] if step["start_time"] >= 0]
        assert sidecar.title == recording["activity_name"] and len(sidecar.narrations) == len(done)
        assert sum(n.mistake for n in sidecar.narrations) == sum(step["has_errors"] for step in done)
        assert len(sidecar.rejected) == len(recording["steps"]) - len(done)
        assert all(n.text in step_texts(done) for n in sidecar.narrations)
    with pytest.raises(Invalid, match="no known format"):
        read(SHARED / "sidecars/captaincook4d/video_information.sample.csv")


def step_texts(steps: list[dict[str, str]]) -> set[str]:
    after = {step["description"].partition("-")[2] for step in steps}
    return after | {"Add 1 tablespoon of olive oil to the mug"}


def test_descriptions_are_seen_captions_are_heard() -> None:
    sidecar = read(SHARED / "sidecars/vtt/elephantsdream.descriptions.en.vtt")
    assert len(sidecar.narrations) == 63 and kinds(sidecar) == {("visual", "narration")}
    assert sidecar.language == "en" and sidecar.narrations[-1].text.endswith("Blender Foundation")
    for name, count, language in (
        ("subs_interview.en.vtt", 22, "en"),
        ("subs_sintel.de.vtt", 13, "de"),
        ("subs_sintel.en.vtt", 13, "en"),
        ("subs_small.srt", 5, None),
    ):
        sidecar = read(SHARED / "videos" / name)
        assert (len(sidecar.narrations), sidecar.language, kinds(sidecar)) == (
            count,
            language,
            {("audio", "speech")},
        )


def test_no_text_keeps_markup() -> None:
    narrations: list[Narration] = []
    for name in ("subs_interview.en.vtt", "subs_sintel.de.vtt", "subs_sintel.en.vtt"):
        narrations += read(SHARED / "videos" / name).narrations
    assert not [n.text for n in narrations if "<" in n.text or "[" in n.text or "NOTE" in n.text]
    assert "The source of that change is you" in {n.text for n in narrations}
