"""Which models write: endpoints, batches or model folders that the user named. Without any, the rules do."""

import os
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from datagen.config import CallOptions
from datagen.errors import UsageError
from datagen.llm.batch import FOLDER_SCHEME, open_batch_client
from datagen.llm.chat import Asks
from datagen.llm.client import Client, ClientLimits
from datagen.llm.client_address import KEY_VARIABLE
from datagen.llm.local import LOCAL_BACKENDS, LocalClient, check_local, model_identity
from datagen.llm.prompts import load_prompt

_PROMPTS = {
    "vlm": ("caption", "sufficient", "repair"),
    "llm": ("one_qna", "n_qna", "question", "reply", "judge", "silence", "repair"),
}
"""All that a build may ask each of them."""


class Models(Struct, frozen=True, kw_only=True):
    """What the user named; `vlm` writes captions, `llm` dialogues."""

    llm_url: str | None = None
    """An endpoint's URL, jsonl:FOLDER for batches as files, or one of LOCAL_BACKENDS."""
    llm_model: str | None = None
    """As it stands in requests and provenance."""
    llm_folder: str | None = None
    """Where the files of a local model lie."""
    vlm_url: str | None = None
    vlm_model: str | None = None
    vlm_folder: str | None = None
    max_in_flight: int | None = None
    """Calls under way at each endpoint; None: as many as it takes."""
    file_urls: bool = False
    """Frames go as file:// paths, which the endpoint must be allowed to read."""
    batch: bool = False
    """Calls go through the endpoint's Batch API."""

    @property
    def in_batches(self) -> bool:
        """Whether replies may take hours."""
        folders = (str(url).startswith(FOLDER_SCHEME) for url in (self.llm_url, self.vlm_url))
        return self.batch or any(folders)


def check_models(models: Models) -> Models:
    """The same, if it makes sense; a local model's folder becomes its name and digest.

    Raises UsageError naming the option that is missing or wrong.
    """
    for kind in ("llm", "vlm"):
        url, name = getattr(models, f"{kind}_url"), getattr(models, f"{kind}_model")
        if bool(url) != bool(name):
            missing = f"--{kind}-model" if url else f"--{kind}-url"
            raise UsageError(f"{missing}: needed with --{kind}-{'url' if url else 'model'}")
        if url == FOLDER_SCHEME:
            raise UsageError(f"--{kind}-url {url}: name the folder for requests too, such as {url}REQUESTS")
        if url in LOCAL_BACKENDS:
            folder = Path(name).resolve()
            check_local(url, folder, f"--{kind}-model")
            changes = {f"{kind}_model": model_identity(folder), f"{kind}_folder": str(folder)}
            models = replace(models, **changes)
    if models.vlm_url and not models.llm_url:
        raise UsageError("--llm-url: needed with --vlm-url; the rules cannot write from a model's captions")
    if models.batch and not str(models.llm_url).startswith(("http://", "https://")):
        raise UsageError("--batch: needs the URL of an endpoint with a Batch API as --llm-url")
    return models


def models_key(models: Models) -> tuple[str, ...]:
    """What results depend on: the names of models and the prompts they are asked with, not the endpoints."""
    key: list[str] = []
    for kind, prompts in _PROMPTS.items():
        if model := getattr(models, f"{kind}_model"):
            key += [kind, model, *(load_prompt(name).id for name in prompts)]
    return tuple(key)


def open_clients(models: Models, frames: Path, batches: Path, calls: CallOptions) -> dict[str, Asks]:
    """A client for each model, `llm` and `vlm`; one and the same where both are at one place.

    `batches` is the folder that remembers batches under way. The key comes from the environment and stays
    inside the client.
    """
    key = os.environ.get(KEY_VARIABLE)
    limits = ClientLimits(
        max_in_flight=models.max_in_flight,
        call_seconds=calls.call_seconds,
        budget_seconds=calls.budget_seconds,
    )

    def opened(kind: str, url: str, folder: str | None) -> Asks:
        if folder is not None:
            return LocalClient(url, Path(folder), frames, f"--{kind}-model")
        if models.batch or url.startswith(FOLDER_SCHEME):
            return open_batch_client(url, key, frames, batches, file_urls=models.file_urls)
        return Client(url, key, frames, limits, file_urls=models.file_urls)

    clients: dict[str, Asks] = {}
    for kind in _PROMPTS:
        url, folder = getattr(models, f"{kind}_url"), getattr(models, f"{kind}_folder")
        if url:
            same = clients and (url, folder) == (models.vlm_url, models.vlm_folder)
            clients[kind] = clients["vlm"] if same else opened(kind, url, folder)
    return clients
