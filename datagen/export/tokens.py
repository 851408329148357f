"""How many tokens a row is worth to the model that will be trained on it.

With a processor or a tokenizer (`export.tokenizer`) its own tokens are counted: of a picture as the processor
expands it, of the marks around a message as the chat template writes them, of each text by itself, which is
exact where marks are tokens of their own, as in ChatML, and else off by at most one a message. Without one
a rule counts: a token for every 28 x 28 pixels of a frame (at most 128 with the default `frames.max_pixels`)
and two around it, 8 around a message, and for text one for every three Latin letters of a word and for every
other sign, two for a sign beyond ASCII: rather too many (for English half as many again as GPT-4's tokenizer,
from which Qwen's is made), so that a bound by the rule holds.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from datagen.config import Config
from datagen.errors import UsageError
from datagen.export.content import frame_counts, spoken
from datagen.llm.prices import PIXELS_PER_TOKEN
from datagen.media.size import frame_size
from datagen.records import NO_REPLY, SYSTEM_PROMPT, Turn, Video

_MARKS_OF_MESSAGE = 8
_MARKS_OF_PICTURE = 2
_PIECE = re.compile(r"[a-zA-Z]+|[^\sa-zA-Z]|\n")
_frame_size = lru_cache(maxsize=4096)(frame_size)
_REMEMBERED = 100_000
"""Texts whose tokens are remembered: most turns of a dataset say one of few things."""


class TokenCounter:
    """Counts by a processor or tokenizer that transformers loads, or by the rule."""

    def __init__(self, config: Config) -> None:
        """Raises UsageError where `export.tokenizer` cannot be loaded or used."""
        self._max_pixels = config.frames.max_pixels
        self._count: Callable[[list[str]], list[int]] = _by_rule
        self._picture: Callable[[int, int], int] = _picture_by_rule
        self._marks = (_MARKS_OF_MESSAGE,) * 3
        self._end = 0
        self._known: dict[str, int] = {}
        if config.export.tokenizer:
            self._load(config.export.tokenizer)

    def _load(self, name: str) -> None:
        processor = _load(name)
        sees = hasattr(processor, "image_processor")
        tokenizer = getattr(processor, "tokenizer", processor)

        def count(texts: list[str]) -> list[int]:
            return [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]

        try:
            *marks, self._end = count(_pieces(processor, blocks=sees))
            if sees:
                self._picture = lru_cache(maxsize=4096)(lambda w, h: _expanded(processor, w, h))
                self._picture(28, 28)
        except UsageError:
            raise
        except Exception as error:  # a template or a processor of anybody's making
            why = " ".join(str(error).split())[:300]
            raise UsageError(f"export.tokenizer: {name}: cannot count a dialogue: {why}") from None
        self._marks = (marks[0], max(marks[1], marks[3]), max(marks[2], marks[4]))
        self._count = count

    def _texts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without marks."""
        new = [text for text in texts if text not in self._known]
        if new:
            if len(self._known) > _REMEMBERED:
                self._known.clear()
                new = list(texts)
            new = list(dict.fromkeys(new))
            self._known.update(zip(new, self._count(new), strict=True))
        return [self._known[text] for text in texts]

    def opening(self, question: str | None = None) -> int:
        """Tokens of a row beside its turns: system prompt, end, and a question carried over from before."""
        return self._marks[0] + self._end + sum(self._texts([SYSTEM_PROMPT, question or ""]))

    def turns(self, turns: Sequence[Turn], video: Video) -> list[int]:
        """Tokens of each turn: its frames, what is asked, and the reply or the silence.

        Raises UsageError where the processor cannot take a frame.
        """
        picture = self._picture(*_frame_size(video.width, video.height, self._max_pixels))
        said = spoken(turns)
        asked = [turns[n].user or "" for n in said]
        replies = [turns[n].text if turns[n].label == "reply" else NO_REPLY for n in said]
        nothing, silence, *told = self._texts(["", NO_REPLY, *asked, *replies])
        silent = self._marks[1] + self._marks[2] + nothing + silence
        counts = [frames * picture + silent for frames in frame_counts(turns)]
        for place, number in enumerate(said):
            counts[number] += told[place] - nothing + told[len(said) + place] - silence
        return counts


def _by_rule(texts: list[str]) -> list[int]:
    pieces = (_PIECE.findall(text) for text in texts)
    return [sum([(len(piece) + 2) // 3 if piece.isascii() else 2 for piece in found]) for found in pieces]


def _picture_by_rule(width: int, height: int) -> int:
    return -(-width * height // PIXELS_PER_TOKEN) + _MARKS_OF_PICTURE


def _load(name: str) -> Any:
    """A processor, or the tokenizer alone where there is none or its picture code cannot be imported."""
    try:
        from transformers import AutoProcessor, AutoTokenizer
    except ImportError:
        raise UsageError("export.tokenizer: needs transformers: pip install 'datagen[torch]'") from None
    try:
        try:
            return AutoProcessor.from_pretrained(name)
        except ImportError:
            return AutoTokenizer.from_pretrained(name)
    except Exception as error:  # files of anybody's making
        why = " ".join(str(error).split())[:300]
        raise UsageError(f"export.tokenizer: {name}: cannot be loaded: {why}") from None


def _pieces(processor: Any, blocks: bool) -> list[str]:
    """What the chat template writes around the messages of two turns."""
    roles = ("system", "user", "assistant", "user", "assistant")
    texts = [f"@{number}@" for number in range(len(roles))]
    messages = [
        {"role": role, "content": [{"type": "text", "text": text}] if blocks else text}
        for role, text in zip(roles, texts, strict=True)
    ]
    pieces = re.split("|".join(texts), processor.apply_chat_template(messages, tokenize=False))
    if len(pieces) != len(roles) + 1:
        raise ValueError("its chat template does not write every message once")
    return pieces


def _expanded(processor: Any, width: int, height: int) -> int:
    """Tokens that a picture adds to a message, marks around it included."""
    from PIL import Image

    def length(blocks: list[dict[str, str]], **pictures: Any) -> int:
        text = processor.apply_chat_template([{"role": "user", "content": blocks}], tokenize=False)
        return len(processor(text=[text], **pictures)["input_ids"][0])

    said = {"type": "text", "text": "x"}
    pictures = [Image.new("RGB", (width, height))]
    return length([{"type": "image"}, said], images=pictures) - length([said])
