"""The files in which a runner keeps its results until the driver has them."""

import fcntl
import os
from pathlib import Path

import msgspec

_FULL_BYTES = 32 << 20
"""About so much a spool holds twice: older results have been on the ledger's disk for long."""


class Spool:
    """Appends results to one file, and begins another when it is full. Both are locked while written."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._open()

    def append(self, event: msgspec.Struct) -> None:
        """Write one event, whole; it survives the death of this process from here on.

        Raises OSError when it cannot be written; then nothing of it is.
        """
        line = msgspec.json.encode(event) + b"\n"
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError:
            os.ftruncate(self._file, self._size)  # what comes next must not stand behind half a line
            raise
        self._size += len(line)

    def turn(self) -> None:
        """Begin a new file if this one is full, and let go of the one before it.

        To be called when all that had been handed to the driver at the last call is in its ledger.
        """
        if self._size > _FULL_BYTES:
            self._path.replace(self._path.with_suffix(".earlier.jsonl"))
            os.close(self._file)
            self._open()

    def close(self) -> None:
        """Let the driver take the spool in."""
        os.close(self._file)

    def _open(self) -> None:
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._size = os.fstat(self._file).st_size
