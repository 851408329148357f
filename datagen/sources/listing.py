"""The videos a user means: those of a folder, a single file, or the rows of a manifest."""

import os
import stat
from pathlib import Path

from datagen.errors import UsageError
from datagen.records import Entry, Rejection
from datagen.remote import is_remote
from datagen.sources import beside, manifest
from datagen.sources.rows import VIDEO_TYPES
from datagen.sources.stores import list_store
from datagen.sources.texts import valid_name

_VIDEO_ENDINGS = tuple(sorted(VIDEO_TYPES))


def list_videos(path: Path | str) -> tuple[list[Entry], list[Rejection]]:
    """The videos of a folder (with its subfolders, by name), a video file, or a manifest (in its order).

    These are on disk or, by their address (s3://bucket/folder), in an object store or on a web server.

    Each with the sidecar named by its row or else lying beside it. Entries that cannot be used become
    rejections of stage `probe`, sidecars that cannot be found ones of stage `sidecar`. Nothing is opened
    but the manifest. Raises UsageError where the path holds no videos or the manifest is wrong as such.
    """
    if is_remote(str(path)):
        return list_store(str(path))
    path = Path(os.path.abspath(path))  # noqa: PTH100 resolving links would change the names people know
    shown = " ".join(valid_name(str(path)).split())
    try:
        if path.is_dir():
            entries, rejected = _scan(path)
        elif not path.exists():
            raise UsageError(f"{shown}: no such file or folder; give a folder of videos or a manifest")
        elif path.suffix.lower() in manifest.TYPES:
            return manifest.read_manifest(path)
        elif path.suffix.lower() in VIDEO_TYPES:
            entries, rejected = _one_file(path)
        else:
            raise UsageError(
                f"{shown}: neither a folder, nor a video, nor a manifest; manifests end in "
                f"{', '.join(manifest.TYPES)}"
            )
    except OSError as error:
        raise UsageError(f"{shown}: cannot be read: {error.strerror}") from None
    if not entries and not rejected:
        raise UsageError(f"{shown}: holds no videos; give a folder with some (.mp4, .mkv, ...) or a manifest")
    entries.sort(key=lambda entry: entry.name)
    return entries, sorted(rejected, key=lambda row: (row.video_id, row.stage))


def _one_file(path: Path) -> tuple[list[Entry], list[Rejection]]:
    names = [file.name for file in os.scandir(path.parent)]
    return _entries(path.parent, path.parent, {path.name: path.stat()}, names)


def _scan(root: Path) -> tuple[list[Entry], list[Rejection]]:
    """All video files below a folder. Links are followed, but no folder is entered twice."""
    entries: list[Entry] = []
    rejected: list[Rejection] = []
    seen: set[tuple[int, int]] = set()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            here = folder.stat()
            if (here.st_dev, here.st_ino) in seen:
                continue
            seen.add((here.st_dev, here.st_ino))
            with os.scandir(folder) as found:
                items = [item for item in found if not item.name.startswith(".")]
        except OSError as error:
            if folder == root:
                raise
            rejected.append(_rejection(root, folder, "Corrupt", f"folder cannot be read: {error.strerror}"))
            continue
        files: dict[str, os.stat_result] = {}
        folders: list[str] = []
        for item in items:
            try:
                if item.is_dir():
                    folders.append(item.name)
                elif item.name.lower().endswith(_VIDEO_ENDINGS):
                    files[item.name] = item.stat()
            except OSError as error:
                detail = f"cannot be read: {error.strerror}"
                rejected.append(_rejection(root, folder / item.name, "Corrupt", detail))
        waiting += [folder / name for name in sorted(folders, reverse=True)]
        more, bad = _entries(root, folder, files, [item.name for item in items if item.name not in files])
        entries += more
        rejected += bad
    return entries, rejected


def _entries(
    root: Path, folder: Path, files: dict[str, os.stat_result], names: list[str]
) -> tuple[list[Entry], list[Rejection]]:
    """The video files of one folder, given the names of what else is in it."""
    entries: list[Entry] = []
    rejected: list[Rejection] = []
    sidecars = beside.index(names)
    above = "" if folder == root else folder.relative_to(root).as_posix() + "/"
    place = os.path.join(folder, "")  # noqa: PTH118 once per folder, joined with every file name below
    for name, status in files.items():
        if not stat.S_ISREG(status.st_mode):
            rejected.append(_rejection(root, folder / name, "Invalid", "is not a regular file"))
        elif valid_name(place + name) != place + name:
            rejected.append(_rejection(root, folder / name, "Invalid", "path is not valid UTF-8; rename it"))
        else:
            chosen = beside.choose(sidecars, name) if sidecars else None
            sidecar, size, changed = manifest.stat_sidecar(place, chosen)
            entries.append(
                Entry(
                    path=place + name,
                    name=above + name,
                    size=status.st_size,
                    mtime_ns=status.st_mtime_ns,
                    sidecar=sidecar,
                    sidecar_size=size,
                    sidecar_mtime_ns=changed,
                )
            )
    return entries, rejected


def _rejection(root: Path, path: Path, code: str, detail: str) -> Rejection:
    name = valid_name(path.relative_to(root).as_posix())
    return Rejection("probe", name, name, code, detail)
