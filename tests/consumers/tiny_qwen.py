"""A Qwen2.5-VL with random weights and all the files of the real one, made in seconds, without a network."""

import json
from pathlib import Path

from tests.tiny_models import CONTROL, VISION, make_tokenizer, qwen_vision_model

TEMPLATE = """\
{%- if messages[0]['role'] != 'system' -%}
<|im_start|>system
You are a helpful assistant.<|im_end|>
{% endif -%}
{%- for message in messages -%}
<|im_start|>{{ message['role'] }}
{% if message['content'] is string %}{{ message['content'] }}{% else %}
{%- for block in message['content'] -%}
{%- if block['type'] == 'image' or 'image' in block or 'image_url' in block -%}
<|vision_start|><|image_pad|><|vision_end|>
{%- elif block['type'] == 'video' or 'video' in block -%}
<|vision_start|><|video_pad|><|vision_end|>
{%- elif 'text' in block -%}{{ block['text'] }}{%- endif -%}
{%- endfor -%}{% endif %}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant
{% endif -%}
"""
"""Says what Qwen's own template says."""

IDS = dict(zip((*CONTROL, *VISION), (*range(151643, 151646), *range(151652, 151657)), strict=True))
"""The control tokens' numbers in Qwen2.5-VL: ms-swift has them in its code."""


def tokenizer_like_qwen():
    """A byte-level tokenizer of some hundred tokens whose control tokens have Qwen's numbers."""
    from tokenizers import Tokenizer

    tokenizer = make_tokenizer(tuple(IDS))
    spelling = json.loads(tokenizer.backend_tokenizer.to_str())
    spelling["model"]["vocab"] |= IDS
    for token in spelling["added_tokens"]:
        token["id"] = IDS[token["content"]]
    arguments = {
        "eos_token": tokenizer.eos_token,
        "pad_token": tokenizer.pad_token,
        "additional_special_tokens": [name for name in IDS if name not in ("<|im_end|>", "<|endoftext|>")],
    }
    return type(tokenizer)(tokenizer_object=Tokenizer.from_str(json.dumps(spelling)), **arguments)


def build(folder: Path) -> Path:
    """Model, tokenizer and processor in `folder`."""
    return qwen_vision_model(folder, short=False, tokenizer=tokenizer_like_qwen(), template=TEMPLATE)
