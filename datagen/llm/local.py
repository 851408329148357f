"""Asks a model that is loaded in this process; has the face of `datagen.llm.client.Client`.

Calls wait in a queue. One thread takes what has gathered there, up to a batch, and lets the model answer all
of it at once, so that the event loop stays free. The model is loaded when it is first asked something.
"""

import asyncio
import importlib.util
import json
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from datagen.errors import Failure, OutOfMemory, Provider, UsageError
from datagen.llm.chat import ChatReply, ChatRequest
from datagen.llm.client_address import Place
from datagen.llm.client_reply import Choice, Completion, Message, Usage
from datagen.llm.messages import has_pictures
from datagen.llm.tries import Tries

_GATHER_SECONDS = 0.02
"""After the first call of a batch: the others of its video are being put into the queue right now."""

_CLOSE_SECONDS = 30.0
"""A step of a large model on a processor takes that long at most."""


_NEEDED = {"transformers": (("torch", "transformers"), "torch"), "vllm": (("vllm",), "vllm")}
"""The packages a backend imports, and the extra of ours that installs them."""
LOCAL_BACKENDS = tuple(_NEEDED)
"""What runs a model in this process; written in the place of an endpoint's URL."""

_SMALL = {".json", ".jinja", ".txt", ".model"}
_WEIGHTS = {".safetensors", ".bin", ".pt", ".pth"}
_BLOCKS = 64
_BLOCK_BYTES = 1024


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


def check_local(backend: str, folder: Path, flag: str) -> dict[str, Any]:
    """The config.json of a model folder that `backend` can be asked to load.

    Raises UsageError naming the flag, such as --llm-model, where the folder is no model or a package is
    missing. Neither torch nor anything else heavy is imported.
    """
    names, extra = _NEEDED[backend]
    for name in names:
        if importlib.util.find_spec(name) is None:
            url = flag.replace("-model", "-url")
            raise UsageError(f"{url} {backend}: {name} is not installed; pip install 'datagen[{extra}]'")
    if not folder.is_dir():
        raise UsageError(f"{flag} {folder}: no such folder; it must hold config.json and weights")
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except FileNotFoundError:
        raise UsageError(f"{flag} {folder}: holds no config.json, so it is no model's folder") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{flag} {folder}: its config.json cannot be read: {error}") from None
    if not isinstance(config, dict):
        raise UsageError(f"{flag} {folder}: its config.json must hold an object")
    if not any(path.suffix in _WEIGHTS for path in folder.iterdir()):
        raise UsageError(f"{flag} {folder}: holds no weights ({', '.join(sorted(_WEIGHTS))})")
    return config


def model_identity(folder: Path) -> str:
    """Name and digest of a model, as it stands in requests and provenance: Qwen2.5-VL-7B@1f3a9c2e.

    The digest covers configuration, tokenizer and template in full; of the weights, which are large, names,
    sizes and 64 blocks of 1 KiB of each file, so that another checkpoint of the same model is another model.
    Raises UsageError where a file cannot be read.
    """
    folder = folder.resolve()
    digest = blake2b(digest_size=4)
    try:
        for path in sorted(folder.iterdir()):
            if path.suffix in _SMALL | _WEIGHTS and path.is_file():
                content = path.read_bytes() if path.suffix in _SMALL else _blocks(path)
                digest.update(f"{path.name}\0{path.stat().st_size}\0".encode() + content)
    except OSError as error:
        raise UsageError(f"model folder {folder}: {error.strerror}") from None
    return f"{folder.name}@{digest.hexdigest()}"


def _blocks(path: Path) -> bytes:
    """Evenly spaced blocks of a file, the first and the last bytes among them."""
    last = max(0, path.stat().st_size - _BLOCK_BYTES)
    found = []
    with path.open("rb") as file:
        for n in range(_BLOCKS):
            file.seek(last * n // (_BLOCKS - 1))
            found.append(file.read(_BLOCK_BYTES))
    return b"".join(found)


def load_model(
    backend: str, folder: Path, frames: Path, flag: str, sees: bool, stopped: threading.Event
) -> LocalModel:
    """Load a model folder. `stopped` ends an answer under way. Raises UsageError naming the flag."""
    try:
        if backend == "vllm":
            from datagen.llm.local_vllm import VllmModel

            return VllmModel(folder, frames)
        from datagen.llm.local_transformers import TransformersModel

        return TransformersModel(folder, frames, sees, stopped)
    except Exception as error:  # whatever the library makes of such a folder
        text = " ".join(str(error).split())[:500]
        raise UsageError(f"{flag} {folder}: cannot be loaded: {type(error).__name__}: {text}") from None


class _Waiting(NamedTuple):
    question: Question
    future: Future[tuple[Answer, float]]


class LocalClient:
    """Asks one model folder. Belongs to one event loop; any number of calls may be under way."""

    def __init__(
        self, backend: str, folder: Path, frames: Path, flag: str = "--llm-model", batch: int = 16
    ) -> None:
        """`backend` is one of `LOCAL_BACKENDS`, `flag` the option that named the folder, for messages, and
        `batch` the most calls answered at once.

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
        """See Asks. A prompt that is too long is a matter of Provider, as is code of the model that fails."""
        if has_pictures(request) and not self._sees:
            raise UsageError(
                f"{self._flag} {self._folder}: cannot see pictures; --vlm-model needs a vision-language model"
            )
        tries = Tries(request, Place(str(self._folder)))
        reply = None
        while reply is None:
            if self._stopped.is_set():
                raise asyncio.CancelledError
            waiting = _Waiting(Question(request, tries.max_tokens), Future())
            self._queue.put(waiting)
            try:
                answer, seconds = await asyncio.wrap_future(waiting.future)
            except Failure:
                if tries.attempts:  # the reply that was cut off is better than none
                    return tries.give_up()
                raise
            choice = Choice(Message(answer.text), answer.finish_reason)
            usage = Usage(answer.prompt_tokens, answer.completion_tokens)
            reply = tries.take(Completion(choices=[choice], usage=usage), seconds)
        return reply

    async def close(self) -> None:
        """End what is under way and let go of the model."""
        self._stopped.set()
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join, _CLOSE_SECONDS)

    def _work(self) -> None:
        """What the thread does: answer batches until it is told to stop."""
        model: LocalModel | UsageError | None = None
        while batch := self._gather():
            if model is None:
                try:
                    model = load_model(
                        self._backend, self._folder, self._frames, self._flag, self._sees, self._stopped
                    )
                except UsageError as error:
                    model = error
            began = time.monotonic()
            outcomes: Sequence[Answer | Exception]
            if isinstance(model, UsageError):
                outcomes = [model] * len(batch)
            else:
                outcomes = self._answers(model, [waiting.question for waiting in batch])
            for waiting, outcome in zip(batch, outcomes, strict=True):
                self._settle(waiting.future, outcome, time.monotonic() - began)

    def _gather(self) -> list[_Waiting]:
        """The calls that wait, a batch at most; none when it is time to stop."""
        found = [self._queue.get()]
        time.sleep(_GATHER_SECONDS)
        while len(found) < self._batch and not self._queue.empty():
            found.append(self._queue.get())
        if not self._stopped.is_set():
            return list(filter(None, found))
        while not self._queue.empty():
            found.append(self._queue.get())
        for waiting in filter(None, found):
            waiting.future.cancel()
        return []

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

    def _settle(
        self, future: Future[tuple[Answer, float]], outcome: Answer | Exception, seconds: float
    ) -> None:
        """Hand an outcome to the call that waits for it, if it still does."""
        if isinstance(outcome, Exception) and self._stopped.is_set():
            future.cancel()  # it has not failed: the next run asks again
        elif future.set_running_or_notify_cancel():
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result((outcome, seconds))
