"""A model folder loaded by vLLM's offline engine (`vllm.LLM`, version 0.11 and newer).

vLLM batches by itself, and each request has its own sampling parameters and seed. It too promises equal
answers in unequal batches only with batch invariance switched on (VLLM_BATCH_INVARIANT=1, its documentation).
Replies are held to the JSON Schema of their request by its structured outputs.
"""

from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datagen.errors import Provider
from datagen.llm.chat import Picture
from datagen.llm.local import Answer, Question
from datagen.llm.messages import chat_messages, read_frame
from datagen.llm.replies import schema_text


class VllmModel:
    """A loaded model. Belongs to one thread."""

    def __init__(self, folder: Path, frames: Path) -> None:
        """Load it. Raises whatever vLLM does."""
        from vllm import LLM

        self._frames = frames
        self._llm = LLM(model=str(folder), seed=0)
        added = self._llm.get_tokenizer().added_tokens_decoder.values()
        self._control_tokens = tuple(str(token) for token in added if token.special)
        self._structured = True

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """An answer to each question.

        Raises Corrupt and Invalid for a request that cannot be put to a model, Provider for one that vLLM
        does not take, such as a prompt longer than the model's window.
        """
        chats = [chat_messages(question.request, self._show, self._control_tokens) for question in questions]
        try:
            outputs = self._chat(chats, questions)
        except ValueError as error:  # vLLM's word for a request that is wrong
            if len(questions) > 1:
                raise Provider("one of several requests is not taken") from None
            outputs = self._without_schema(chats, questions, error)
        return [_read(output) for output in outputs]

    def _chat(self, chats: list[Any], questions: Sequence[Question]) -> list[Any]:
        params = [self._params(question) for question in questions]
        found: list[Any] = self._llm.chat(chats, sampling_params=params, use_tqdm=False)
        return found

    def _without_schema(self, chats: list[Any], questions: Sequence[Question], error: Exception) -> list[Any]:
        """A second try at a single request: its schema may be one that this vLLM cannot enforce."""
        if self._structured and questions[0].request.schema is not None:
            self._structured = False
            try:
                return self._chat(chats, questions)
            except ValueError as again:
                self._structured = True  # the schema was not to blame
                error = again
        text = " ".join(str(error).split())[:300]
        raise Provider(f"{questions[0].request.model}: {text}") from None

    def _params(self, question: Question) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        request = question.request
        structured = None
        if self._structured and request.schema is not None:
            structured = StructuredOutputsParams(json=schema_text(request.schema).decode())
        return SamplingParams(
            temperature=request.temperature,
            max_tokens=question.max_tokens,
            seed=(request.seed or 0) + request.sample,
            structured_outputs=structured,
        )

    def _show(self, picture: Picture) -> dict[str, Any]:
        data = b64encode(read_frame(self._frames, picture)).decode()
        return {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}}


def _read(output: Any) -> Answer:
    """The answer in a vllm.RequestOutput."""
    (said,) = output.outputs
    return Answer(
        text=said.text,
        finish_reason=said.finish_reason or "",
        prompt_tokens=len(output.prompt_token_ids or ()),
        completion_tokens=len(said.token_ids),
    )
