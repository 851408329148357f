"""A dataset in an object store, or a new version of it: files sent one by one, each whole or not at all.

`SHA256SUMS` beside them tells what is there (`sha256sum -c` reads it). It is written anew after each file, so
an interrupted push goes on where it was, and a later version sends only what has changed. Files of an earlier
version that are gone from this one are deleted at the end; nothing is touched that no push has sent.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datagen.errors import UsageError
from datagen.remote import open_store, without_keys

_SUMS = "SHA256SUMS"
_LAST = ("README.md", "run.json")
"""Sent after the tables that they describe."""


def push_to_store(files: dict[str, Path], url: str, tell: Callable[[str], None] = print) -> None:
    """Send files (path below the address to path on disk) to the folder at an address.

    Raises UsageError where the address cannot be opened or its bucket is not there, and whatever the store's
    library raises where the store cannot be reached or declines.
    """
    store, root = open_store(url)
    root = root.rstrip("/")
    bucket = root[: (root + "/").index("/", 1)]
    if not store.exists(bucket):  # some libraries would make one, and a slip of the pen costs money
        raise UsageError(f"TO {without_keys(url)}: there is no {bucket!r}; make it first")
    there = _read_sums(store, root)
    sums = {name: _digest(path) for name, path in files.items()}
    left = [name for name in sums if there.get(name) != sums[name] or not store.exists(f"{root}/{name}")]
    left.sort(key=lambda name: (name in _LAST, name))
    total = sum(files[name].stat().st_size for name in left)
    tell(f"{len(files) - len(left)} files are there already; {len(left)}, {total / 1e6:.1f} MB, to send")
    for number, name in enumerate(left, 1):
        # No sum may vouch for a file while it is replaced.
        if there.pop(name, None):
            _write_sums(store, root, there)
        _send(store, files[name], f"{root}/{name}")
        there[name] = sums[name]
        _write_sums(store, root, there)
        tell(f"sent {number} of {len(left)}: {name}")
    for name in sorted(there.keys() - files.keys()):
        if store.exists(f"{root}/{name}"):
            store.rm_file(f"{root}/{name}")
        del there[name]
        _write_sums(store, root, there)


def _send(store: Any, path: Path, place: str) -> None:
    """Nobody sees a part of a file: it appears when all of it has been sent."""
    store.makedirs(place.rpartition("/")[0], exist_ok=True)
    with path.open("rb") as source, store.transaction, store.open(place, "wb") as target:
        while block := source.read(16 << 20):
            target.write(block)


def _read_sums(store: Any, root: str) -> dict[str, str]:
    try:
        text = store.cat_file(f"{root}/{_SUMS}").decode()
    except FileNotFoundError:
        return {}
    lines = [line.partition("  ") for line in text.splitlines()]
    bad = [name for _, _, name in lines if not name or name.startswith("/") or ".." in name.split("/")]
    if bad:
        raise UsageError(f"{_SUMS}: was not written by a push; choose another folder, or delete it")
    return {name: digest for digest, _, name in lines}


def _write_sums(store: Any, root: str, sums: dict[str, str]) -> None:
    text = "".join(f"{sums[name]}  {name}\n" for name in sorted(sums))
    store.makedirs(root, exist_ok=True)
    with store.transaction, store.open(f"{root}/{_SUMS}", "wb") as target:
        target.write(text.encode())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
