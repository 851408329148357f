"""Asks a model that is loaded in this process; has the face of `datagen.llm.client.Client`.

    LocalClient(backend: "transformers" | "vllm", folder: Path, frames: Path, flag="--llm-model", batch=16)

Calls wait in a queue. One thread takes what has gathered there, up to a batch, and lets the model answer all
of it at once, so that the event loop stays free. The model is loaded when it is first asked something.
"""

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from datagen.errors import Failure, OutOfMemory, Provider, UsageError
from datagen.llm.chat import Attempt, ChatReply, ChatRequest
from datagen.llm.local_messages import has_pictures
from datagen.llm.local_model import LocalBackend, check_local

_GATHER_SECONDS = 0.02
"""After the first call of a batch: the others of its video are being put into the queue right now."""

_CLOSE_SECONDS = 30.0
"""A step of a large model on a processor takes that long at most."""


class Question(NamedTuple):
    """One try at a call."""

    request: ChatRequest
    max_tokens: int


class Answer(NamedTuple):
    """What the model said to a question."""

    text: str
    finish_reason: str
    """`stop`, or `length` where it was cut off."""
    prompt_tokens: int
    completion_tokens: int


class LocalModel(Protocol):
    """A loaded model."""

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """An answer to each question; raises a Failure if only one of them cannot be answered."""


class _Waiting(NamedTuple):
    question: Question
    future: asyncio.Future[tuple[Answer, float]]
    loop: asyncio.AbstractEventLoop


class LocalClient:
    """Asks one model folder. Belongs to one event loop; any number of calls may be under way."""

    def __init__(
        self,
        backend: LocalBackend,
        folder: Path,
        frames: Path,
        flag: str = "--llm-model",
        batch: int = 16,
    ) -> None:
        """`flag` is the option that named the folder, for messages; `batch` the most calls answered at once.

        Raises UsageError where the folder is no model or a package is missing.
        """
        self._backend = backend
        self._folder = folder
        self._frames = frames.resolve()
        self._flag = flag
        self._batch = batch
        self._sees = "vision_config" in check_local(backend, folder, flag)
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"model {folder.name}", daemon=True)
        self._thread.start()

    async def ask(self, request: ChatRequest) -> ChatReply:
        """Get the model's reply to a request; one that is cut off is asked for again with twice the tokens.

        Raises Corrupt or Invalid (the request itself cannot be put to a model), OutOfMemory, Provider (the
        prompt is too long, or the model's code failed), and UsageError, which is meant to stop the run: the
        folder cannot be loaded, or is shown pictures and cannot see.
        """
        if has_pictures(request) and not self._sees:
            raise UsageError(
                f"{self._flag} {self._folder}: cannot see pictures; --vlm-model needs a vision-language model"
            )
        reply = await self._try(request, request.max_tokens, ())
        if reply.finish_reason != "length":
            return reply
        try:
            return await self._try(request, 2 * request.max_tokens, reply.attempts)
        except Failure:
            return reply

    async def close(self) -> None:
        """End what is under way and let go of the model."""
        self._stopped.set()
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join, _CLOSE_SECONDS)

    async def _try(self, request: ChatRequest, max_tokens: int, before: tuple[Attempt, ...]) -> ChatReply:
        if self._stopped.is_set():
            raise asyncio.CancelledError
        loop = asyncio.get_running_loop()
        future: asyncio.Future[tuple[Answer, float]] = loop.create_future()
        self._queue.put(_Waiting(Question(request, max_tokens), future, loop))
        answer, seconds = await future
        cut_off = answer.finish_reason == "length" and not before
        attempt = Attempt(
            status=200,
            seconds=seconds,
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.completion_tokens,
            finish_reason=answer.finish_reason,
            fault=f"cut off at max_tokens {max_tokens}" if cut_off else "",
        )
        return ChatReply(
            text=answer.text,
            finish_reason=answer.finish_reason,
            model=request.model,
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.completion_tokens,
            attempts=(*before, attempt),
        )

    def _work(self) -> None:
        """What the thread does: answer batches until it is told to stop."""
        model: LocalModel | None = None
        fatal: UsageError | None = None
        while batch := self._gather():
            began = time.monotonic()
            outcomes: Sequence[Answer | Exception]
            try:
                if fatal is None and model is None:
                    model = self._load()
                    began = time.monotonic()
            except UsageError as error:
                fatal = error
            if fatal is not None or model is None:
                outcomes = [fatal or Provider("stopped")] * len(batch)
            else:
                outcomes = self._answers(model, [waiting.question for waiting in batch])
            for waiting, outcome in zip(batch, outcomes, strict=True):
                self._settle(waiting, outcome, time.monotonic() - began)

    def _gather(self) -> list[_Waiting]:
        """The calls that wait, a batch at most; none when it is time to stop."""
        first = self._queue.get()
        time.sleep(_GATHER_SECONDS)
        found = [first]
        with contextlib.suppress(queue.Empty):
            while found[-1] is not None and len(found) < self._batch:
                found.append(self._queue.get_nowait())
        calls = [waiting for waiting in found if waiting is not None]
        if not self._stopped.is_set():
            return calls
        with contextlib.suppress(queue.Empty):
            while True:
                calls += filter(None, [self._queue.get_nowait()])
        for waiting in calls:
            self._settle(waiting, Provider("stopped"), 0.0)
        return []

    def _load(self) -> LocalModel:
        if self._backend == "vllm":
            from datagen.llm.local_vllm import VllmModel

            return VllmModel(self._folder, self._frames, self._flag)
        from datagen.llm.local_transformers import TransformersModel

        return TransformersModel(self._folder, self._frames, self._flag, self._sees, self._stopped)

    def _answers(self, model: LocalModel, questions: list[Question]) -> list[Answer | Failure]:
        """The answers; where a batch fails it is halved, until the question that is to blame stands alone."""
        failure: Failure
        try:
            return list(model.answer(questions))
        except OutOfMemory as error:
            self._batch = max(1, len(questions) // 2)
            failure = error
        except Failure as error:
            failure = error
        except Exception as error:
            text = " ".join(str(error).split())[:300]
            failure = Provider(f"{questions[0].request.model}: {type(error).__name__}: {text}")
        if len(questions) == 1 or self._stopped.is_set():
            return [failure] * len(questions)
        half = len(questions) // 2
        return self._answers(model, questions[:half]) + self._answers(model, questions[half:])

    def _settle(self, waiting: _Waiting, outcome: Answer | Exception, seconds: float) -> None:
        """Hand an outcome to the call that waits for it, if it still does."""

        def settle() -> None:
            if waiting.future.done():
                return
            if not isinstance(outcome, Exception):
                waiting.future.set_result((outcome, seconds))
            elif self._stopped.is_set():  # it has not failed: the next run asks again
                waiting.future.cancel()
            else:
                waiting.future.set_exception(outcome)

        with contextlib.suppress(RuntimeError):  # the event loop has ended
            waiting.loop.call_soon_threadsafe(settle)
