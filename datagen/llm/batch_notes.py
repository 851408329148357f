"""What is known of batches under way, in files that outlive the process: one note a batch.

Beside MARK.json lie MARK.jsonl, the requests, until the batch has been created, and MARK.taken, the requests
whose replies have been used.
"""

import os
import secrets
from pathlib import Path

import msgspec
from msgspec import Struct

from datagen.llm.batch_files import take_lock


class Note(Struct, frozen=True, kw_only=True):
    """One batch. Without a `batch_id` it is an intention."""

    mark: str
    """Its name here; also in the batch's metadata."""
    endpoint: str
    model: str
    ids: tuple[str, ...]
    """Names of its requests, in the order of the lines."""
    file_id: str = ""
    batch_id: str = ""


def new_mark() -> str:
    """A name that no other batch has."""
    return secrets.token_hex(8)


def requests_path(folder: Path, mark: str) -> Path:
    """Where the requests of a batch are written."""
    return folder / f"{mark}.jsonl"


def write_note(folder: Path, note: Note) -> None:
    """Write a note as one change; it is on the disk when this returns."""
    path = folder / f"{note.mark}.json"
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        file.write(msgspec.json.encode(note))
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def read_note(folder: Path, mark: str) -> Note | None:
    """A note; None where there is none (any more), or none that can be read."""
    try:
        return msgspec.json.decode((folder / f"{mark}.json").read_bytes(), type=Note)
    except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def marks_in(folder: Path) -> list[str]:
    """The batches that have notes."""
    return sorted(path.stem for path in folder.glob("*.json"))


def drop_note(folder: Path, mark: str) -> None:
    """Forget a batch."""
    for ending in (".json", ".jsonl", ".taken"):
        (folder / f"{mark}{ending}").unlink(missing_ok=True)


def drop_torn(folder: Path) -> None:
    """Delete requests that a dead process was still gathering: whoever wants them asks again."""
    for path in sorted(folder.glob("*.jsonl")):
        if path.with_suffix(".json").exists():
            continue
        try:
            file = take_lock(path)
        except FileNotFoundError:
            continue
        if file is not None:
            with file:
                # Its writer may have noted it and ended between the two looks.
                if not path.with_suffix(".json").exists():
                    path.unlink(missing_ok=True)


def add_taken(folder: Path, mark: str, ids: list[str]) -> set[str]:
    """Note that replies have been used; returns all of the batch's that have been, by anyone."""
    if not (folder / f"{mark}.json").exists():
        return set()
    with (folder / f"{mark}.taken").open("ab") as file:
        file.write("".join(f"{name}\n" for name in ids).encode())
    return taken_of(folder, mark)


def taken_of(folder: Path, mark: str) -> set[str]:
    """Requests of a batch whose replies have been used."""
    try:
        return set((folder / f"{mark}.taken").read_text("utf-8", "replace").split())
    except FileNotFoundError:
        return set()
