"""The card as the Hub's own parser reads it, also with hostile names."""

import json

import pyarrow.parquet as pq
import pytest
import yaml
from datasets import load_dataset
from huggingface_hub import DatasetCard
from msgspec.structs import replace

from datagen.errors import UsageError
from datagen.publish.card import CONFIGS, Published, card_text, write_card
from datagen.publish.licences import Terms
from datagen.records import Call
from tests.export.samples import built
from tests.inspect.samples import config, cooking, write
from tests.publish.samples import dataset

HOSTILE = "</code>`|\n---\n# <script>alert(1)</script> [x](javascript:1) ``` \u202eevil \\| www.evil.example"


def test_the_hubs_parser_reads_the_card_and_its_configurations_load(tmp_path):
    out = dataset(tmp_path / "out", ["cc-by-4.0"] * 8)
    card = DatasetCard.load(write_card(out))
    assert card.data.license == "cc-by-4.0"
    assert card.data.language == ["en"]
    assert card.data.size_categories == ["n<1K"]
    names = [config["config_name"] for config in card.data.configs]
    assert names == [
        name for name in CONFIGS if any(pq.read_metadata(p).num_rows for p in (out / name).glob("*.parquet"))
    ]
    assert {"sft", "rl", "preview"} <= set(names)
    for name in names:
        for split, rows in load_dataset(str(out), name, cache_dir=str(tmp_path / "cache")).items():
            assert len(rows) == sum(
                pq.read_metadata(path).num_rows for path in (out / name).glob(f"{split}-*.parquet")
            )
    for text in ("`rule`", "seed 0", "2512.06810", "live_whisperx", "position", "dialogues_per_shard"):
        assert text in card.text


def test_all_prompts_that_had_a_part_are_named(tmp_path):
    def call(prompt, role="wrote"):
        return Call(id="0" * 32, role=role, prompt=prompt, model="m", served="m")

    made = built(cooking("v1"), id="v1", frames=60)
    (asked,) = made.dialogues[0].questions
    judged = (call("n_qna/v2:aa"), call("judge/v1:bb", "judged"))
    answers = tuple(replace(answer, calls=judged) for answer in asked.answers)
    question = replace(asked, answers=answers, calls=(call("silence/v1:cc"),))
    captions = tuple(replace(one, calls=(call("caption/v1:dd+repair/v1:ee"),)) for one in made.captions)
    dialogue = replace(made.dialogues[0], questions=(question,))
    out = write(tmp_path / "out", [replace(made, captions=captions, dialogues=(dialogue,))], config())
    card = DatasetCard.load(write_card(out))
    said = next(line for line in card.text.splitlines() if line.startswith("Prompts that"))
    names = ("caption/v1:dd", "judge/v1:bb", "n_qna/v2:aa", "repair/v1:ee", "silence/v1:cc")
    assert said.endswith(f": {', '.join(f'`{name}`' for name in names)}.")


def test_the_same_dataset_gives_the_same_card(tmp_path):
    out = dataset(tmp_path / "out", ["mit", None] * 3)
    written = []
    for _ in range(2):
        path = write_card(out)
        written.append((path.read_bytes(), (out / "preview/train-00000-of-00001.parquet").read_bytes()))
    assert written[0] == written[1]


def test_without_an_open_licence_there_is_no_preview(tmp_path):
    out = dataset(tmp_path / "out", [None, "Ego4D"] * 3)
    card = DatasetCard.load(write_card(out))
    assert not (out / "preview").exists()
    assert "preview" not in [config["config_name"] for config in card.data.configs]
    assert card.data.license == "other"
    assert "times alone" in card.text


def test_a_preview_of_licences_that_changed_is_taken_away(tmp_path):
    out = dataset(tmp_path / "out", ["mit"] * 3)
    write_card(out)
    assert list((out / "preview").iterdir())
    dataset(tmp_path / "closed", ["closed"] * 3)
    (tmp_path / "closed" / "videos" / "train-00000-of-00001.parquet").replace(
        out / "videos" / "train-00000-of-00001.parquet"
    )
    write_card(out)
    assert not list((out / "preview").iterdir())


def test_names_from_outside_are_no_markup():
    run = {
        "pipeline": {"name": HOSTILE, "seed": 0, "dataset": {"exclude_videos": HOSTILE}},
        "models": {"llm": HOSTILE},
        "spent": {"stages": {"caption": {"calls": 1}}, "usd": 0.5, "unpriced": [HOSTILE]},
        "versions": {"python": HOSTILE},
        "statistics": {
            "all": {"dialogues": 0},
            "flags": [{"code": "c", "where": HOSTILE, "detail": HOSTILE}],
        },
    }
    text = card_text(
        Published(
            run=run,
            rows={"sft/train-00000-of-00001.parquet": 3},
            terms=(Terms(HOSTILE, HOSTILE, 1, 3.0, False),),
            writers=(("segments", HOSTILE, 1),),
            languages=("en",),
        )
    )
    card = DatasetCard(text)
    assert HOSTILE.split("\n")[0] in card.data.pretty_name
    assert [c["config_name"] for c in card.data.configs] == ["sft"]
    assert "\u202e" not in text
    outside = False
    for line in card.text.splitlines():
        outside ^= line.startswith("```")
        if not line.startswith("```") and "script" in line and outside is False:
            spans = line.split("`")
            assert len(spans) % 2 == 1
            assert not any("script" in text or "evil" in text for text in spans[::2])
        if line.startswith("|") and "script" in line:
            assert line.count("|") in (4, 7)
    fenced = card.text.split("```yaml\n")[1]
    assert yaml.safe_load(fenced[: fenced.index("\n```")])["name"] == HOSTILE


def test_what_is_no_finished_build_has_no_card(tmp_path):
    with pytest.raises(UsageError, match=r"run\.json|no videos|cannot be read"):
        write_card(tmp_path)
    out = dataset(tmp_path / "out", ["mit"] * 3)
    run = json.loads((out / "run.json").read_text())
    run["statistics"] = {"all": 3}
    (out / "run.json").write_text(json.dumps(run))
    with pytest.raises(UsageError, match="not as a build writes it"):
        write_card(out)
