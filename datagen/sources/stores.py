"""Videos in object stores and on web servers: those below an address, a single one, what lies beside one."""

import posixpath
import tempfile
from pathlib import Path

from datagen.errors import Failure, UsageError
from datagen.records import Entry, Rejection
from datagen.remote import Stamp, ask, fetched_to, find, without_keys
from datagen.sources import beside, manifest
from datagen.sources.rows import VIDEO_TYPES


def list_store(url: str) -> tuple[list[Entry], list[Rejection]]:
    """The videos at an address: of a folder, a single one, or those of a manifest.

    As `list_videos`. Raises UsageError too where the address holds a key, which would be shown.
    """
    if without_keys(url) != url:
        raise UsageError(
            f"--videos {without_keys(url)}: the address holds a password or a query; put the addresses of "
            "videos into a manifest, or keys where the store's library looks for them"
        )
    rejected: list[Rejection] = []
    ending = posixpath.splitext(url)[1].lower()
    if ending in manifest.TYPES:
        return _manifest(url)
    if ending in VIDEO_TYPES:
        folder, _, name = url.rpartition("/")
        known = ask([url])
        if isinstance(stamp := known.stamps[url], Failure):
            raise UsageError(f"--videos {stamp}")
        near = {
            n: one for n in known.names[folder] if isinstance(one := known.stamps[f"{folder}/{n}"], Stamp)
        }
        entries = _entries(folder, {**near, name: stamp}, {name})
    else:
        entries, rejected = _below(url)
    if not entries and not rejected:
        raise UsageError(f"{url}: holds no videos; give a folder with some (.mp4, .mkv, ...) or a manifest")
    return sorted(entries, key=lambda entry: entry.name), rejected


def _below(url: str) -> tuple[list[Entry], list[Rejection]]:
    found, root = find(url), url.removesuffix("/")
    files = {name: found[name] for name in found if not any(n.startswith(".") for n in name.split("/"))}
    videos = {name for name in files if posixpath.splitext(name)[1].lower() in VIDEO_TYPES}
    rejected = []
    unsized = {name: f"{root}/{name}" for name, stamp in files.items() if not stamp.size}
    told = ask(unsized.values()).stamps  # web servers list names alone
    for name, address in unsized.items():
        if isinstance(stamp := told[address], Stamp):
            files[name] = stamp
            continue
        if name in videos:
            rejected.append(Rejection("probe", name, name, type(stamp).__name__, str(stamp)))
        videos.discard(name)
        del files[name]
    return _entries(root, files, videos), rejected


def _manifest(url: str) -> tuple[list[Entry], list[Rejection]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / url.rpartition("/")[2]
        try:
            fetched_to(url, path)
        except Failure as failure:
            raise UsageError(f"--videos {failure}") from None
        return manifest.read_manifest(path, url.rpartition("/")[0])


def _entries(root: str, files: dict[str, Stamp], videos: set[str]) -> list[Entry]:
    """The videos among the files below an address, each with the sidecar beside it."""
    folders: dict[str, list[str]] = {}
    for name in files.keys() - videos:
        folders.setdefault(posixpath.dirname(name), []).append(posixpath.basename(name))
    sidecars = {folder: beside.index(names) for folder, names in folders.items()}
    entries = []
    for name in videos:
        folder, base = posixpath.split(name)
        chosen = beside.choose(sidecars.get(folder, {}), base)
        sidecar = posixpath.join(folder, chosen) if chosen else None
        size, mark = files[sidecar] if sidecar else (0, 0)
        entries.append(
            Entry(
                path=f"{root}/{name}",
                name=name,
                size=files[name].size,
                mtime_ns=files[name].mtime_ns,
                sidecar=f"{root}/{sidecar}" if sidecar else None,
                sidecar_size=size,
                sidecar_mtime_ns=mark,
            )
        )
    return entries
