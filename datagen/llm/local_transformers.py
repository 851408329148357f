"""A model folder loaded by the `transformers` library: any that generates text and has a chat template.

One batch may hold requests of any temperature, seed and length. Each row draws its own random numbers, seeded
by its request, so companions change an answer only as far as padding changes the rounding of the arithmetic:
with float32 hardly ever, with bfloat16 now and then, where two tokens are about equally likely.
The JSON Schema of a request is not enforced here; its reply is checked like any other.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
from PIL import Image, UnidentifiedImageError

from datagen.errors import Corrupt, OutOfMemory, Provider
from datagen.llm.chat import ChatRequest, Picture
from datagen.llm.local import Answer, Question
from datagen.llm.messages import chat_messages, has_pictures, read_frame, without_system


class TransformersModel:
    """A loaded model. Belongs to one thread."""

    def __init__(self, folder: Path, frames: Path, sees: bool, stopped: threading.Event) -> None:
        """Load it, on the GPU when there is one. `stopped` ends a generation under way.

        Raises whatever the library does.
        """
        self._frames = frames
        self._sees = sees
        self._stopped = stopped
        self._speaker, self._model = _load(folder, sees)
        self._tokenizer = self._speaker.tokenizer if sees else self._speaker
        self._knows_system = _knows_system(self._speaker, sees)
        self._tokenizer.padding_side = "left"
        self._tokenizer.pad_token = self._tokenizer.pad_token or self._tokenizer.eos_token
        added = self._tokenizer.added_tokens_decoder.values()
        self._control_tokens = tuple(str(token) for token in added if token.special)
        text_config = self._model.config.get_text_config()
        self._window = getattr(text_config, "max_position_embeddings", None) or 1 << 30
        self._ends = _ends(self._model, self._tokenizer)

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """An answer to each question.

        Raises Corrupt and Invalid for a request that cannot be put to the model, Provider for one that does
        not fit into its window, OutOfMemory.
        """
        found: dict[int, Answer] = {}
        # Processors differ in what they make of a batch in which only some have pictures.
        for pictures in (False, True):
            same = [n for n, question in enumerate(questions) if has_pictures(question.request) is pictures]
            if same:
                found |= zip(same, self._generate([questions[n] for n in same]), strict=True)
        return [found[n] for n in range(len(questions))]

    def _generate(self, questions: Sequence[Question]) -> list[Answer]:
        import torch
        from transformers import LogitsProcessorList, StoppingCriteriaList

        with _memory_watched():
            inputs = self._encode([question.request for question in questions])
            width = inputs["input_ids"].shape[1]
            lengths = inputs["attention_mask"].sum(dim=1).tolist()
            limits = [
                self._limit(length, question) for length, question in zip(lengths, questions, strict=True)
            ]
            choose = _chooser([question.request for question in questions], limits, width, self._ends)

            def stopped(ids: Any, scores: Any, **_: Any) -> Any:
                return torch.full((ids.shape[0],), self._stopped.is_set(), device=ids.device)

            with torch.inference_mode():
                output = self._model.generate(
                    **inputs,
                    max_new_tokens=max(limits),
                    logits_processor=LogitsProcessorList([choose]),
                    stopping_criteria=StoppingCriteriaList([stopped]),
                )
        if self._stopped.is_set():
            raise Provider(f"{questions[0].request.model}: stopped")
        rows = output[:, width:].tolist()
        return [self._read(*row) for row in zip(rows, limits, lengths, strict=True)]

    def _encode(self, requests: Sequence[ChatRequest]) -> dict[str, Any]:
        """Tensors of a batch, padded on the left."""
        chats, pictures, block = [], [], {"type": "image"}
        for request in requests:
            told = request if self._knows_system else without_system(request)
            chats.append(chat_messages(told, lambda _: block, self._control_tokens, in_blocks=self._sees))
            parts = [part for message in told.messages for part in message.parts]
            pictures.append([self._picture(part) for part in parts if isinstance(part, Picture)])
        texts = self._speaker.apply_chat_template(chats, tokenize=False, add_generation_prompt=True)
        options: dict[str, Any] = {"padding": True, "return_tensors": "pt"}
        if any(pictures):
            options["images"] = pictures
        # A template writes what a tokenizer would add; that of some older vision models does not.
        bos = self._tokenizer.bos_token
        options["add_special_tokens"] = self._sees and not (bos and texts[0].startswith(bos))
        inputs = self._speaker(text=texts, **options)
        if not self._sees:
            return {name: inputs[name].to(self._model.device) for name in ("input_ids", "attention_mask")}
        placed = inputs.to(self._model.device, dtype=self._model.dtype)  # only fractions get this type
        return {name: value for name, value in placed.items() if hasattr(value, "to")}

    def _picture(self, picture: Picture) -> Image.Image:
        try:
            return Image.open(BytesIO(read_frame(self._frames, picture))).convert("RGB")
        except (UnidentifiedImageError, OSError):
            raise Corrupt(f"frame {picture.name}: is no JPEG that can be read") from None

    def _limit(self, length: int, question: Question) -> int:
        """Tokens this answer may have."""
        limit = min(question.max_tokens, self._window - length)
        if limit < 1:
            model = question.request.model
            raise Provider(f"{model}: a prompt of {length} tokens; the model's window is {self._window}")
        return limit

    def _read(self, row: list[int], limit: int, prompt_tokens: int) -> Answer:
        """The answer in a row of output: up to the token that ends it, or to its limit."""
        tokens = row[:limit]
        end = next((n for n, token in enumerate(tokens) if token in self._ends), None)
        text = self._tokenizer.decode(tokens[:end], skip_special_tokens=True)
        if end is None:
            return Answer(text, "length", prompt_tokens, len(tokens))
        return Answer(text, "stop", prompt_tokens, end + 1)


def _load(folder: Path, sees: bool) -> tuple[Any, Any]:
    """Processor or tokenizer, and model. Nothing is downloaded, and no code out of the folder is run."""
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    source: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    if sees:
        speaker = transformers.AutoProcessor.from_pretrained(folder, **source)
        kind = transformers.AutoModelForImageTextToText
    else:
        speaker = transformers.AutoTokenizer.from_pretrained(folder, **source)
        kind = transformers.AutoModelForCausalLM
    model = kind.from_pretrained(folder, dtype="auto", **source)
    return speaker, model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def _knows_system(speaker: Any, sees: bool) -> bool:
    """Whether the chat template takes a system message. Raises where there is no template at all."""

    def render(*roles: str) -> None:
        content = [{"type": "text", "text": "."}] if sees else "."
        chat = [{"role": role, "content": content} for role in roles]
        speaker.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)

    render("user")
    try:
        render("system", "user")
    except Exception:  # a template says so by raising what it likes
        return False
    return True


def _ends(model: Any, tokenizer: Any) -> frozenset[int]:
    """The tokens that end a reply; what else the folder wishes for generation is set aside.

    Only the request decides on how its answer is drawn.
    """
    import transformers

    told = model.generation_config.eos_token_id
    ends = {*(told if isinstance(told, list) else [told]), tokenizer.eos_token_id} - {None}
    model.generation_config = transformers.GenerationConfig(
        do_sample=False, eos_token_id=sorted(ends) or None, pad_token_id=tokenizer.pad_token_id
    )
    return frozenset(ends)


def _chooser(
    requests: Sequence[ChatRequest], limits: Sequence[int], width: int, ends: frozenset[int]
) -> Callable[[Any, Any], Any]:
    """Turns the scores of the next token into ones whose highest is the token to take, row by row.

    Adding Gumbel noise to logits / temperature and taking the highest is drawing from their softmax
    (Maddison et al., 2014): so greedy and sampled rows, each with its own seed, go through one greedy search.
    """
    import torch

    # Drawn on the CPU, so that every device draws the same; by all that the answer depends on.
    digests = [blake2b(msgspec.json.encode(request), digest_size=7).digest() for request in requests]
    dice = [torch.Generator().manual_seed(int.from_bytes(digest)) for digest in digests]

    def choose(ids: Any, scores: Any) -> Any:
        scores = scores.float()
        for row, request in enumerate(requests):
            if request.temperature > 0:
                drawn = torch.empty(scores.shape[1]).exponential_(generator=dice[row])
                scores[row] = scores[row] / request.temperature - drawn.log().to(scores.device)
            if ends and ids.shape[1] - width >= limits[row]:
                scores[row] = float("-inf")
                scores[row, min(ends)] = 0.0
        return scores

    return choose


@contextmanager
def _memory_watched() -> Iterator[None]:
    """Turns the library's ways of running out of memory into OutOfMemory."""
    import torch

    try:
        yield
    except (MemoryError, RuntimeError) as error:
        known = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not known and "allocate memory" not in str(error):
            raise
        raise OutOfMemory(f"the model needs more memory: {' '.join(str(error).split())[:200]}") from None
