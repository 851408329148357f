"""Files in object stores and on web servers, by fsspec: listed, fetched, and told of without their keys.

Keys come from where each store's own library looks for them: environment, configuration files, roles. Which
library that is follows from the address: s3fs for s3://, gcsfs for gs://, adlfs for abfs://.
"""

import errno
import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from datagen.errors import Corrupt, Failure, Invalid, Provider, UsageError
from datagen.records import Location

SLOWEST = 1e6
"""Bytes a second that are waited for."""

_QUIET_SECONDS = 15
"""A web server that sends nothing for so long is given up."""

_PAUSES = (0.5, 2.0)
"""Seconds between tries."""

_AT_ONCE = 32
"""Files asked about at a time."""

_HASHES = ("ETag", "etag", "md5", "md5Hash", "Content-MD5", "blob_id", "oid")
_DATES = ("generation", "mtime", "LastModified", "Last-Modified", "last_modified", "updated", "created")
"""Where stores tell whether a file has changed; of several the first counts."""


class Stamp(NamedTuple):
    """Which version of a file it is."""

    size: int
    """Bytes."""
    mtime_ns: int
    """Differs when the content does: a hash of what the store says of it, or else of the address. It stands
    where files on disk have their date."""


def is_remote(path: str) -> bool:
    """Whether fsspec must read it: an address such as s3://bucket/a.mp4, not a path."""
    return "://" in path


def without_keys(url: str) -> str:
    """An address without what may be a key: password, and on web servers user, query and fragment."""
    parts = urlsplit(url) if url.startswith(("http://", "https://")) else None
    if parts:
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    return re.sub(r"://[^/@:]*:[^/]*@", "://", url)


def join(folder: str, name: str) -> str:
    """The path or address of `name` as seen from a folder, which may be an address."""
    if is_remote(name):
        return name
    if not is_remote(folder):
        return os.path.normpath(os.path.join(folder, name))  # noqa: PTH118 speed
    scheme, _, rest = folder.partition("://")
    place = os.path.normpath(os.path.join("/" + rest, name.lstrip("/")))  # noqa: PTH118 not on this disk
    return f"{scheme}://{'/' if rest.startswith('/') else ''}{place.lstrip('/')}"


def open_store(url: str) -> tuple[Any, str]:
    """The file system of an address, and the path that the address has there.

    Raises UsageError where its library is not installed, or there is none.
    """
    # What was listed before may have changed.
    options: dict[str, Any] = {"use_listings_cache": False}
    try:
        import fsspec

        if "::" in url:
            raise ValueError("addresses are not chained here")
        if url.startswith(("http://", "https://")):
            import aiohttp

            # Its own limit is five minutes for a file, however large.
            waits = aiohttp.ClientTimeout(total=None, sock_connect=_QUIET_SECONDS, sock_read=_QUIET_SECONDS)
            options["client_kwargs"] = {"timeout": waits}
        return fsspec.core.url_to_fs(url, **options)  # type: ignore[no-any-return]
    except Exception as error:
        raise UsageError(f"{without_keys(url)}: cannot be opened: {reason(error)}") from None


def reason(error: BaseException) -> str:
    """What went wrong, in one line without addresses' keys."""
    if isinstance(status := getattr(error, "status", None), int):
        return f"the server answers {status} {getattr(error, 'message', '')}".strip()
    if isinstance(error, TimeoutError):
        return "no answer in time"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    text = re.sub(r"\S+://\S+", lambda url: without_keys(url.group()), " ".join(text.split()))
    text = re.sub(r"\?\S+", "", text)
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


def find(url: str) -> dict[str, Stamp]:
    """The files below an address, by their paths from there. Raises UsageError if they cannot be listed."""
    store, root = open_store(url)
    try:
        found = store.find(root, detail=True)
    except Exception as error:
        raise UsageError(f"{without_keys(url)}: cannot be listed: {reason(error)}") from None
    top = root.rstrip("/") + "/"
    return {
        path.removeprefix(top): _stamp(url, info)
        for path, info in sorted(found.items())
        if path.startswith(top) and path != top
    }


def _stamp_of(url: str) -> Stamp | Failure:
    try:
        store, path = open_store(url)
        info = store.info(path)
    except UsageError as error:
        return Invalid(str(error))
    except Exception as error:
        return _failure(url, error)
    if info["type"] != "file":
        return Invalid(f"{without_keys(url)}: is a folder")
    if not isinstance(info.get("size"), int):
        return Invalid(f"{without_keys(url)}: the server does not tell its size")
    return _stamp(url, info)


def _stamp(url: str, info: dict[str, Any]) -> Stamp:
    name = str(info["name"])
    said = next((str(info[key]) for key in _HASHES if info.get(key)), "")
    if not said:
        date = next((str(info[key]) for key in _DATES if info.get(key)), "")
        # What comes after `?` may be new at each listing, but also all that tells two files apart.
        said = f"{date} {without_keys(name)}" if date else f"{url} {name}"
    mark = int.from_bytes(hashlib.blake2b(said.encode(), digest_size=7).digest(), "big")
    return Stamp(info.get("size") or 0, mark)


class Known(NamedTuple):
    """What is known of remote files that somebody has named."""

    stamps: dict[str, Stamp | Failure]
    """By address."""
    names: dict[str, list[str]]
    """Of all files in the folders of remote videos, by the folder's address."""


def ask(videos: Iterable[str], others: Iterable[str] = ()) -> Known:
    """Ask about the remote ones among videos and other files, folder by folder where that is possible."""
    wanted = {path for path in videos if is_remote(path)}
    folders = sorted({without_keys(path).rpartition("/")[0] for path in wanted})
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        listed = dict(zip(folders, threads.map(_listed, folders), strict=True))
        stamps = {f"{folder}/{name}": stamp for folder in folders for name, stamp in listed[folder].items()}
        rest = sorted((wanted | set(filter(is_remote, others))) - stamps.keys())
        told = zip(rest, threads.map(_stamp_of, rest), strict=True)
        return Known({**stamps, **dict(told)}, {folder: list(listed[folder]) for folder in folders})


def _listed(folder: str) -> dict[str, Stamp]:
    """The files of one folder by name; none where they cannot be listed, and on web servers."""
    if folder.startswith(("http://", "https://")):
        return {}
    try:
        store, root = open_store(folder)
        infos = store.ls(root, detail=True)
    except Exception:  # a folder whose files one may read but not list: each is asked about
        return {}
    return {info["name"].rpartition("/")[2]: _stamp(folder, info) for info in infos if info["type"] == "file"}


def fetched(location: Location) -> Location:
    """The file on disk: where it is, or its copy, which is made if it is not there yet.

    Raises Corrupt where the file is gone, Provider where it cannot be had whole, and OSError where there
    is no room for it on disk.
    """
    if not location.copy:
        return location
    copy = Path(location.copy)
    if not copy.exists():
        _fetch(location.path, location.size, copy)
    return Location(location.copy)


def _fetch(url: str, size: int, copy: Path) -> None:
    copy.parent.mkdir(parents=True, exist_ok=True)
    part = copy.parent / f".{os.getpid()}"
    if shutil.disk_usage(copy.parent).free < size:
        raise _no_room(url)
    try:
        for pause in (*_PAUSES, None):
            try:
                fetched_to(url, part)
                found = part.stat().st_size
                if found == size:
                    part.replace(copy)
                    return
                raise Provider(f"{without_keys(url)}: {found} bytes came of {size} listed")
            except Provider:
                if pause is None:
                    raise
                time.sleep(pause)
    finally:
        part.unlink(missing_ok=True)


def fetched_to(url: str, path: Path) -> None:
    """Copy a remote file to a path. Fails as `fetched` does, at the first try."""
    try:
        store, place = open_store(url)
        store.get_file(place, str(path))
    except UsageError as error:
        raise Provider(str(error)) from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _no_room(url) from None
        raise _failure(url, error) from None


def _failure(url: str, error: Exception) -> Failure:
    """Of a web server's files every refusal arrives as one not found; its cause has the answer."""
    hidden = url.startswith(("http://", "https://")) and isinstance(error, FileNotFoundError)
    why = error.__cause__ if hidden and error.__cause__ else error
    if isinstance(why, FileNotFoundError) or getattr(why, "status", None) in (404, 410):
        return Corrupt(f"{without_keys(url)}: is not there")
    return Provider(f"{without_keys(url)}: {reason(why)}")


def _no_room(url: str) -> OSError:
    what = f"no room on this machine's disk for a copy of {without_keys(url)}"
    return OSError(errno.ENOSPC, f"{what}; TMPDIR says where copies go")
