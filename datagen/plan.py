"""What is to be done: the videos listed, less what the ledger has already."""

import hashlib
import os
import shutil
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from datagen.config import Config
from datagen.flow import flow_keys, frames_key
from datagen.ledger import Ledger, item_of
from datagen.llm.models import Models
from datagen.records import Entry, Rejection, Video
from datagen.remote import is_remote
from datagen.runner import Task

EXPORT_VERSION = 3
"""Raise it when the same results become other shards."""

_END = 64 << 10


class Plan(Struct, frozen=True):
    """The videos of this build with the keys of their outcomes, and which of them are owed."""

    entries: list[Entry]
    keys: list[str]
    listing_rejected: list[Rejection]
    owed: list[int]


def make_plan(
    entries: list[Entry],
    rejected: list[Rejection],
    config: Config,
    models: Models,
    ledger: Ledger,
    frames: Path,
) -> Plan:
    """Compare the listing with the ledger. Results whose frames are gone are forgotten."""
    keys = flow_keys(entries, config, models)
    done = ledger.flows()
    on_disk = {item.name for item in os.scandir(frames)} if frames.is_dir() else set()
    if ledger.note("frames") != frames_key(config):
        done = {key: outcome for key, outcome in done.items() if outcome[1] is not None}
        on_disk = set()
    owed = [
        n
        for n, key in enumerate(keys)
        if key not in done or (done[key][1] is None and done[key][0] not in on_disk)
    ]
    return Plan(entries, keys, rejected, owed)


def prepare(plan: Plan, config: Config, ledger: Ledger, frames: Path) -> None:
    """Make ledger and folder true before work begins.

    What was said of frames no longer there is forgotten; what a killed run left half written is deleted.
    """
    drop_leftovers(frames)
    if ledger.note("frames") != frames_key(config):
        ledger.forget_step("watch", ("frames", frames_key(config)))
    done = ledger.flows()
    for n in plan.owed:
        if plan.keys[n] in done:
            ledger.forget_item_step(item_of(plan.entries[n]), "watch")
            ledger.forget([plan.keys[n]])


def drop_leftovers(frames: Path) -> None:
    """Delete what steps that were killed left half written, while none is at work."""
    for leftover in frames.glob(".*"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)


def owed_tasks(plan: Plan, ledger: Ledger, frames: Path) -> Iterator[Task | None]:
    """The tasks that are owed, each with what is known of it and its copies, read when it is handed out.

    Of several copies one goes first and the others after all else, when it is done: they find all that it
    has found. None: only copies are left, and their originals are still under way.
    """
    first: dict[str, str] = {}
    copies: deque[tuple[int, str]] = deque()
    for n in plan.owed:
        mark = mark_of(plan.entries[n])
        ledger.note_content(item_of(plan.entries[n]), mark)
        if mark and first.setdefault(mark, plan.keys[n]) != plan.keys[n]:
            copies.append((n, first[mark]))
        else:
            yield make_task(plan, n, ledger, frames)
    while copies:
        n, original = copies[0]
        if ledger.is_done(original):
            copies.popleft()
            yield make_task(plan, n, ledger, frames)
        else:
            yield None


def make_task(plan: Plan, n: int, ledger: Ledger, frames: Path) -> Task:
    """The task of video number `n`, with what is known of it and its copies."""
    item = item_of(plan.entries[n])
    # A copy may have been watched whose frames somebody has deleted since.
    videos = [msgspec.json.decode(value, type=Video) for value in ledger.yields(item, "probe")]
    lost = any(not (frames / video.id).is_dir() for video in videos)
    return Task(plan.keys[n], item, plan.entries[n], ledger.known(item, but="watch" if lost else ""))


def mark_of(entry: Entry) -> str:
    """What a copy has in common with its original, whatever its name and date: size, span, and a hash of the
    first and the last 64 KiB. Empty where the file cannot be read.

    It serves to find copies and no more: what is found is used under keys that cover all of the content. Of a
    remote file what its store says of the content must do.
    """
    if is_remote(entry.path):
        said = [entry.size, entry.start, entry.end, entry.mtime_ns]
        return hashlib.blake2b(msgspec.json.encode(said), digest_size=12).hexdigest()
    try:
        with Path(entry.path).open("rb") as file:
            ends = file.read(_END)
            file.seek(max(0, entry.size - _END))
            ends += file.read(_END)
    except OSError:
        return ""
    span = msgspec.json.encode([entry.size, entry.start, entry.end])
    return hashlib.blake2b(span + ends, digest_size=12).hexdigest()


class Outcome(Struct, frozen=True):
    """What has come of all videos of a plan."""

    built_keys: list[str]
    """Keys of the videos that were built, in the order of their ids, no id twice."""
    rejected: list[Rejection]
    """Videos that were not, and listed rows that could not be."""
    failures: dict[str, int]
    """Failed videos by class; a copy of another video is no failure."""
    listed: int
    """All videos the user named."""


def outcome(plan: Plan, ledger: Ledger) -> Outcome:
    """Sort the videos into built and rejected; of several with one id the first by name is kept."""
    flows = ledger.flows()
    listed = sorted(
        (flows[key][0], entry.name, key)
        for key, entry in zip(plan.keys, plan.entries, strict=True)
        if key in flows
    )
    failed = [key for _, _, key in listed if flows[key][1] is not None]
    unlisted = [rejection for rejection in plan.listing_rejected if rejection.stage == "probe"]
    lost = [msgspec.json.decode(value, type=Rejection) for value in ledger.values(failed)]
    failures = Counter(rejection.code for rejection in (*unlisted, *lost))
    rejected = [*plan.listing_rejected, *lost]
    built: dict[str, tuple[str, str]] = {}
    for video_id, name, key in listed:
        if flows[key][1] is not None:
            continue
        if video_id in built:
            same = f"the same content as {built[video_id][0]}"
            rejected.append(Rejection("probe", video_id, name, "Rejected", same))
        else:
            built[video_id] = (name, key)
    keys = [key for _, key in built.values()]
    return Outcome(keys, rejected, dict(sorted(failures.items())), len(plan.entries) + len(unlisted))


def export_key(found: Outcome, config: Config) -> str:
    """Key of the shards: all that they depend on."""
    lists = [path for path in (config.dataset.exclude_videos, config.dataset.exclude_questions) if path]
    read = [*lists, *_tokenizer_files(config.export.tokenizer)]
    excluded = [hashlib.blake2b(Path(path).read_bytes(), digest_size=16).hexdigest() for path in read]
    options = [config.export, config.dataset, excluded, config.frames, config.seed]
    what = [EXPORT_VERSION, found.built_keys, found.rejected, options]
    return hashlib.blake2b(msgspec.json.encode(what), digest_size=16).hexdigest()


def _tokenizer_files(name: str | None) -> list[str]:
    """Files of a local tokenizer by which its counts may change."""
    folder = Path(name or "")
    if not name or not folder.is_dir():
        return []
    kinds = {".json", ".jinja", ".model", ".txt"}
    return [str(path) for path in sorted(folder.iterdir()) if path.suffix in kinds and path.is_file()]
