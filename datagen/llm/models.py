"""Which models write: the endpoints the user named. Without any, the rules do."""

import os
from pathlib import Path

from msgspec import Struct

from datagen.errors import UsageError
from datagen.llm.client import KEY_VARIABLE, Client, ClientLimits
from datagen.llm.prompts import load_prompt


class Models(Struct, frozen=True, kw_only=True):
    """Endpoints by URL and model name; `vlm` writes captions, `llm` dialogues."""

    llm_url: str | None = None
    llm_model: str | None = None
    vlm_url: str | None = None
    vlm_model: str | None = None
    max_in_flight: int | None = None
    """Calls under way at each endpoint; None: as many as it takes."""
    file_urls: bool = False
    """Frames go as file:// paths, which the endpoint must be allowed to read."""
    batch: bool = False
    """Calls go through the endpoint's Batch API."""


def check_models(models: Models) -> Models:
    """The same, if it makes sense. Raises UsageError naming the option that is missing."""
    for kind in ("llm", "vlm"):
        url, name = getattr(models, f"{kind}_url"), getattr(models, f"{kind}_model")
        if bool(url) != bool(name):
            missing = f"--{kind}-model" if url else f"--{kind}-url"
            raise UsageError(f"{missing}: needed with --{kind}-{'url' if url else 'model'}")
    if models.vlm_url and not models.llm_url:
        raise UsageError("--llm-url: needed with --vlm-url; the rules cannot write from a model's captions")
    return models


def models_key(models: Models) -> tuple[str, ...]:
    """What results depend on: the names of models and the prompts they are asked with, not the endpoints."""
    key: list[str] = []
    if models.vlm_model:
        key += ["vlm", models.vlm_model, load_prompt("caption").id, load_prompt("repair").id]
    if models.llm_model:
        names = ("one_qna", "n_qna", "repair")
        key += ["llm", models.llm_model, *(load_prompt(name).id for name in names)]
    return tuple(key)


def open_clients(models: Models, frames: Path) -> dict[str, Client]:
    """A client for each endpoint, `llm` and `vlm`; one and the same where both are one endpoint.

    The key comes from the environment and stays inside the client.
    """
    limits = ClientLimits(max_in_flight=models.max_in_flight)
    key = os.environ.get(KEY_VARIABLE)

    def open_client(url: str) -> Client:
        return Client(url, key, frames, limits, file_urls=models.file_urls)

    clients: dict[str, Client] = {}
    if models.llm_url:
        clients["llm"] = open_client(models.llm_url)
    if models.vlm_url:
        same = models.vlm_url == models.llm_url
        clients["vlm"] = clients["llm"] if same else open_client(models.vlm_url)
    return clients
