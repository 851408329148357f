"""Tiny models with random weights and all the files of real ones, made in seconds and without a network.

`python -m tests.tiny_models FOLDER` makes FOLDER/tiny-text and FOLDER/tiny-vision.
"""

import sys
from pathlib import Path

CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
VISION = ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")
TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message['role'] }}
{% if message['content'] is string %}{{ message['content'] }}{% else %}
{%- for block in message['content'] -%}
{%- if block['type'] in ('image', 'image_url') -%}<|image_pad|>
{%- else -%}{{ block['text'] }}{%- endif -%}
{%- endfor -%}{% endif %}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant
{% endif -%}
"""
LESSONS = (
    "A person puts a pot on the stove and pours water into it.",
    'Reply with one JSON object: {"seen": "...", "heard": null, "actions": [], "objects": []}',
    "user assistant system What is happening now? The hand turns the handle of the door.",
)


def make_tokenizer(control=CONTROL):
    """Byte-level BPE, so that it can spell anything."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    spelling = Tokenizer(models.BPE())
    spelling.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    spelling.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=list(control)
    )
    spelling.train_from_iterator(LESSONS * 20, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=spelling,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=[
            token for token in control if token not in ("<|im_end|>", "<|endoftext|>")
        ],
        chat_template=TEMPLATE,
    )


def text_sizes(tokenizer):
    """The part of a configuration that is language."""
    return {
        "vocab_size": max(tokenizer.get_vocab().values()) + 1,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32768,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def save(model, folder, tokenizer, short):
    """Weights of float32. In a `short` model many tokens end a reply, or nonsense would run on for ever."""
    ends = [tokenizer.eos_token_id, *range(20, len(tokenizer), 3)] if short else tokenizer.eos_token_id
    model.generation_config.eos_token_id = ends
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    return folder


def text_model(folder: Path, seed: int = 0, positions: int = 32768, short: bool = True) -> Path:
    """A language model in `folder`."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    tokenizer = make_tokenizer()
    config = Qwen2Config(**text_sizes(tokenizer) | {"max_position_embeddings": positions})
    tokenizer.save_pretrained(folder)
    return save(Qwen2ForCausalLM(config), folder, tokenizer, short)


def vision_model(folder: Path, seed: int = 0, short: bool = True) -> Path:
    """A vision-language model in `folder`: LLaVA, whose pictures need no torchvision."""
    import torch
    from transformers import LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    torch.manual_seed(seed)
    tokenizer = make_tokenizer((*CONTROL, "<|image_pad|>"))
    picture = tokenizer.convert_tokens_to_ids("<|image_pad|>")
    sides = {"image_size": 56, "patch_size": 14}
    config = LlavaConfig(
        text_config={"model_type": "qwen2", "tie_word_embeddings": False, **text_sizes(tokenizer)},
        vision_config={
            "model_type": "clip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            **sides,
        },
        image_token_id=picture,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=False,
    )
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessorPil(
            size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}
        ),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<|image_pad|>",
        chat_template=TEMPLATE,
    )
    processor.save_pretrained(folder)
    return save(LlavaForConditionalGeneration(config), folder, tokenizer, short)


def qwen_vision_model(folder: Path, seed: int = 0, short: bool = True, tokenizer=None, template=None) -> Path:
    """A Qwen2.5-VL in `folder`; its processor needs torchvision."""
    import torch
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    torch.manual_seed(seed)
    tokenizer = tokenizer or make_tokenizer((*CONTROL, *VISION))
    number = tokenizer.convert_tokens_to_ids
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]}
    config = Qwen2_5_VLConfig(
        text_config={**text_sizes(tokenizer), "rope_parameters": rope},
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 32,
            "fullatt_block_indexes": [1],
        },
        image_token_id=number("<|image_pad|>"),
        video_token_id=number("<|video_pad|>"),
        vision_start_token_id=number("<|vision_start|>"),
        vision_end_token_id=number("<|vision_end|>"),
        tie_word_embeddings=False,
    )
    processor = Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=template
        or TEMPLATE.replace("<|image_pad|>", "<|vision_start|><|image_pad|><|vision_end|>"),
    )
    processor.save_pretrained(folder)
    return save(Qwen2_5_VLForConditionalGeneration(config), folder, tokenizer, short)


if __name__ == "__main__":
    text_model(Path(sys.argv[1]) / "tiny-text")
    vision_model(Path(sys.argv[1]) / "tiny-vision")
