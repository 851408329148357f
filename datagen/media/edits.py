"""Edit lists of MP4 and QuickTime files (ISO/IEC 14496-12, 8.6.6) that FFmpeg does not follow."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_LARGEST = 1 << 20
"""Bytes of an edit list that are looked at."""


def stands_still(path: str, track: int) -> bool:
    """Whether the edit list of a track (by its place in the file, from 0) pauses or holds a picture.

    FFmpeg shows other pictures there. An empty edit at the very beginning is no pause.
    """
    with Path(path).open("rb") as file:
        moov = next((place for kind, *place in _boxes(file, 0, file.seek(0, 2)) if kind == b"moov"), None)
        traks = [place for kind, *place in _boxes(file, *moov) if kind == b"trak"] if moov else []
        for kind, *place in _boxes(file, *traks[track]) if track < len(traks) else ():
            for inner, start, end in _boxes(file, *place) if kind == b"edts" else ():
                if inner == b"elst":
                    file.seek(start)
                    return _stands_still(file.read(min(end - start, _LARGEST)))
    return False


def _stands_still(elst: bytes) -> bool:
    if len(elst) < 8:
        return False
    (count,) = struct.unpack(">I", elst[4:8])
    entry = struct.Struct(">Qqhh" if elst[0] == 1 else ">Iihh")
    whole = min(count, len(elst[8:]) // entry.size) * entry.size
    edits = [(begin, rate) for _, begin, rate, _ in entry.iter_unpack(elst[8 : 8 + whole])]
    while edits and edits[0][0] < 0:
        del edits[0]
    # Of a single edit, a rate of 0 is a slip of the writer.
    return len(edits) > 1 and any(begin < 0 or rate == 0 for begin, rate in edits)


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, begin and end of the content of each box between two places."""
    while start + 8 <= end:
        file.seek(start)
        head = file.read(16)
        if len(head) < 8:
            return
        size, kind = struct.unpack(">I4s", head[:8])
        header = 8
        if size == 1 and len(head) == 16:
            (size,), header = struct.unpack(">Q", head[8:]), 16
        size = end - start if size == 0 else size
        if size < header:
            return
        yield kind, start + header, min(start + size, end)
        start += size
