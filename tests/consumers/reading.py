"""What a row says, read from the shards alone, and what a trainer made of it, read from its tokens."""

import io
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq


def read_rows(part: Path, table: str = "sft") -> list[dict]:
    """All rows of a table, by pyarrow and nothing else."""
    paths = sorted((part / table).glob("*.parquet"))
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


def read_frames(row: dict, image_processor):
    """What a model sees of a row's frames, each read by itself, in the order of their paths."""
    import torch
    from PIL import Image

    files = [io.BytesIO(frame["bytes"]) if isinstance(frame, dict) else frame for frame in row["images"]]
    frames = [image_processor(Image.open(file), return_tensors="pt")["pixel_values"] for file in files]
    different = {frame.numpy().tobytes() for frame in frames}
    assert len(different) > len(frames) / 2, "frames so much alike would not tell that they are in order"
    return torch.cat(frames)


@dataclass
class Message:
    """A message as a model is shown it; `learned` is the part of it that its loss is about."""

    role: str
    text: str
    images: int
    learned: str


def expected(row: dict) -> list[Message]:
    """The messages of an SFT row; a reply's end is learned with it."""
    return [
        Message(
            role=message["role"],
            text=message["content"].replace("<image>", ""),
            images=message["content"].count("<image>"),
            learned=f"{message['content']}<|im_end|>" if message["role"] == "assistant" else "",
        )
        for message in row["messages"]
    ]


def shown(tokenizer, tokens, labels, visual_tokens) -> list[Message]:
    """The messages in a sequence of tokens.

    `visual_tokens` are those of each image in order: an image that stands elsewhere, or takes up another
    number of tokens, is an error, as is a label that is not its token.
    """
    assert all(label in (-100, token) for token, label in zip(tokens, labels, strict=True))
    start, picture, opens, closes = tokenizer.convert_tokens_to_ids(
        ["<|im_start|>", "<|image_pad|>", "<|vision_start|>", "<|vision_end|>"]
    )
    starts = [place for place, token in enumerate(tokens) if token == start]
    lengths = iter(visual_tokens)
    messages = []
    for begin, end in zip(starts, [*starts[1:], len(tokens)], strict=True):
        images, text, place = 0, [], begin + 1
        while place < end:
            if tokens[place] == opens:
                length = next(lengths)
                assert list(tokens[place + 1 : place + 1 + length]) == [picture] * length
                assert tokens[place + 1 + length] == closes
                images += 1
                place += length + 2
            else:
                assert tokens[place] not in (picture, closes)
                text.append(tokens[place])
                place += 1
        role, _, content = tokenizer.decode(text).partition("\n")
        content = content.split("<|endoftext|>")[0].rstrip("\n").removesuffix("<|im_end|>")
        learned = tokenizer.decode([label for label in labels[begin:end] if label != -100])
        messages.append(Message(role, content, images, learned.rstrip("\n")))
    assert next(lengths, None) is None, "an image stands nowhere"
    return messages
