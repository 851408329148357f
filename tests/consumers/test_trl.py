"""TRL's SFT trainer on the shards: no row dropped, exactly the replies learned, each frame in its turn."""

import shutil
import sys

import pytest

from tests.consumers.reading import Message, expected, read_frames, read_rows, shown
from tests.consumers.recipes import run_recipe
from tests.consumers.shards import PARTS

pytestmark = pytest.mark.consumers


@pytest.fixture(scope="module")
def model(tiny, tmp_path_factory):
    """With the template of the real Qwen2.5-VL, as TRL keeps it: TRL must know how to mark replies in it."""
    from trl.chat_template_utils import qwen2_5_vl_chat_template

    folder = shutil.copytree(tiny, tmp_path_factory.mktemp("trl") / tiny.name)
    (folder / "chat_template.jinja").write_text(qwen2_5_vl_chat_template)
    return folder


@pytest.fixture(scope="module")
def processor(model):
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(model)


@pytest.fixture
def trainer(part, model, processor, tmp_path):
    """Makes a trainer of a dataset."""
    from transformers import AutoModelForImageTextToText
    from trl import SFTConfig, SFTTrainer

    def make(rows, **options):
        settings = {"assistant_only_loss": True, "max_length": None, **options}
        return SFTTrainer(
            model=AutoModelForImageTextToText.from_pretrained(model),
            processing_class=processor,
            train_dataset=rows,
            args=SFTConfig(
                output_dir=str(tmp_path / "run"),
                use_cpu=True,
                bf16=False,
                report_to="none",
                save_strategy="no",
                per_device_train_batch_size=1,
                gradient_checkpointing=False,
                **settings,
            ),
        )

    return make


def load(layout, streaming=False):
    """The rows as the recipe reads them.

    Pictures are cast last: renaming a column after that makes `datasets` write those of a stream anew, with
    losses.
    """
    from datasets import Image, List, load_dataset

    rows = load_dataset("parquet", data_files="sft/*.parquet", split="train", streaming=streaming)
    rows = rows.select_columns([layout, "images"])
    if layout != "messages":
        rows = rows.rename_column(layout, "messages")
    return rows.cast_column("images", List(Image()))


def batches(trainer):
    """Each row, one by one, as the trainer's own loader hands it to the model."""
    trainer.args.train_sampling_strategy = "sequential"
    return trainer.get_train_dataloader()


def messages(processor, batch) -> list[Message]:
    visual = (batch["image_grid_thw"].prod(dim=1) // 4).tolist()
    return shown(processor.tokenizer, batch["input_ids"][0].tolist(), batch["labels"][0].tolist(), visual)


@pytest.mark.parametrize("part", PARTS, indirect=True)
@pytest.mark.parametrize("streaming", [False, True], ids=["plain", "streaming"])
def test_the_labels_are_the_replies_and_each_frame_stands_in_its_turn(part, trainer, processor, streaming):
    import torch

    rows = read_rows(part)
    seen = list(batches(trainer(load("messages_blocks", streaming), max_steps=len(rows))))
    assert len(seen) == len(rows)
    for row, batch in zip(rows, seen, strict=True):
        assert messages(processor, batch) == expected(row)
        assert torch.equal(batch["pixel_values"], read_frames(row, processor.image_processor))


@pytest.mark.parametrize("part", ["two_frames_a_turn"], indirect=True)
def test_the_recipe_trains(part, model, tmp_path):
    from transformers import AutoModelForImageTextToText

    cpu = ["--use_cpu", "True", "--bf16", "False"]
    run_recipe([sys.executable, "trl_sft.py", "--model", model, *cpu], tmp_path / "run")
    before, after = (
        AutoModelForImageTextToText.from_pretrained(folder).lm_head.weight
        for folder in (model, tmp_path / "run")
    )
    assert before.shape == after.shape and (before != after).any()


def test_messages_of_strings_would_put_all_frames_before_the_first_question(part, trainer, processor):
    """The trap that `messages_blocks` is there for; should TRL mend it, it is no longer needed."""
    row = read_rows(part)[0]
    read = messages(processor, next(iter(batches(trainer(load("messages"))))))
    users = [message.images for message in read if message.role == "user"]
    assert users == [len(row["images"])] + [0] * (len(users) - 1)


def test_a_limit_on_length_cuts_frames_in_two(part, trainer):
    """The trap that `max_length: None` of the recipe is there for; TRL's own limit is 1024 tokens."""
    with pytest.raises(ValueError, match="Mismatch"):
        next(iter(batches(trainer(load("messages_blocks"), max_length=300))))
