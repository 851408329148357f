"""ms-swift on the shards: no row dropped, exactly the replies learned, each frame in its turn."""

import pytest

from tests.consumers.reading import expected, read_frames, read_rows, shown
from tests.consumers.recipes import run_recipe
from tests.consumers.shards import PARTS

pytestmark = pytest.mark.consumers


@pytest.fixture(scope="module")
def processor(tiny):
    from swift import get_processor

    return get_processor(str(tiny), model_type="qwen2_5_vl")


def template(processor, **options):
    from swift import get_template

    made = get_template(processor, template_type="qwen2_5_vl", **options)
    made.set_mode("train")
    return made


def load(**options):
    """The rows of the folder `sft`; none of them may be dropped."""
    from swift import load_dataset

    return load_dataset("sft", strict=True, **options)[0]


def messages(processor, coded):
    visual = (coded["image_grid_thw"].prod(dim=1) // 4).tolist()
    return shown(processor.tokenizer, coded["input_ids"], coded["labels"], visual)


@pytest.mark.parametrize("part", PARTS, indirect=True)
@pytest.mark.parametrize("streaming", [False, True], ids=["plain", "streaming"])
def test_the_labels_are_the_replies_and_each_frame_stands_in_its_turn(part, processor, streaming):
    import torch

    rows = read_rows(part)
    loaded = list(load(streaming=streaming))
    assert len(loaded) == len(rows)
    coder = template(processor)
    for row, read in zip(rows, loaded, strict=True):
        coded = coder.encode(read)
        assert messages(processor, coded) == expected(row)
        assert torch.equal(coded["pixel_values"], read_frames(row, processor.image_processor))


def weighted(row):
    """A line of a user's own, with the weights of a row where ms-swift looks for them."""
    weights = iter(row["turn_weights"])
    spoken = [
        {**message, "loss_scale": next(weights)} if message["role"] == "assistant" else message
        for message in row["messages"]
    ]
    return {"messages": spoken, "images": row["images"]}


def test_each_turn_can_have_its_weight(part, processor):
    coder = template(processor, is_binary_loss_scale=False)
    for row in read_rows(part):
        coded = coder.encode(weighted(row))
        assert messages(processor, coded) == expected(row)
        learned = [n for n, label in enumerate(coded["labels"]) if label != -100]
        starts = [n for n in learned if n - 1 not in learned]
        assert [coded["loss_scale"][n] for n in starts] == row["turn_weights"]


def test_weights_are_ignored_without_being_asked_for(part, processor):
    """A trap: the weights stand in the line, and nothing says that they are of no effect."""
    assert template(processor).encode(weighted(read_rows(part)[0])).get("loss_scale") is None


def test_truncating_a_row_would_lose_its_replies(part, processor):
    """A trap: the tokens of the frames are kept and the text is dropped. The recipe does not truncate."""
    from swift.template import MaxLengthError

    row = {name: read_rows(part)[0][name] for name in ("messages", "images")}
    whole = template(processor).encode(dict(row))
    frames = whole["input_ids"].count(processor.image_token_id)
    cut = template(processor, max_length=frames, truncation_strategy="right").encode(dict(row))
    assert cut["input_ids"].count(processor.image_token_id) == frames
    assert not any(label != -100 for label in cut["labels"])
    with pytest.raises(MaxLengthError):
        template(processor, max_length=frames).encode(dict(row))


def test_blocks_are_not_for_ms_swift(part, processor):
    """They stand in the row for TRL; should ms-swift learn to read them, `messages` is no longer needed."""
    row = read_rows(part)[0]
    with pytest.raises(AssertionError, match="'type': 'text'"):
        template(processor).encode({"messages": row["messages_blocks"], "images": row["images"]})


@pytest.mark.parametrize("part", ["two_frames_a_turn"], indirect=True)
def test_the_recipe_trains(part, tiny, tmp_path):
    log = run_recipe(
        ["swift", "sft", "ms_swift.yaml", "--model", tiny, "--torch_dtype", "float32"], tmp_path / "run"
    )
    assert f"num_rows: {len(read_rows(part))}" in log
    assert "'global_step/max_steps': '2/2'" in log
    assert list((tmp_path / "run").rglob("model.safetensors"))
