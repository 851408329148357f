"""A folder with a model's files: whether it is one, and a name for it that holds no path of this machine."""

import importlib.util
import json
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, get_args

from datagen.errors import UsageError

LocalBackend = Literal["transformers", "vllm"]
"""What runs a model in this process; written in the place of an endpoint's URL."""

LOCAL_BACKENDS: tuple[str, ...] = get_args(LocalBackend)

_NEEDED = {"transformers": (("torch", "transformers"), "torch"), "vllm": (("vllm",), "vllm")}
"""The packages a backend imports, and the extra of ours that installs them."""

_SMALL = {".json", ".jinja", ".txt", ".model"}
_WEIGHTS = {".safetensors", ".bin", ".pt", ".pth"}
_BLOCKS = 64
_BLOCK_BYTES = 1024


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
