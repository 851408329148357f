"""Leaves no process behind: kills what a process has started, also when that process is killed itself.

All that a process starts carries its mark in the environment, daemons included, which have left its group
and session. A guard is a small process beside it that waits for its end and then kills all that carry it.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

MARK = "DATAGEN_MARK"
"""The variable that holds the mark."""

_PATIENCE = 10.0
"""Seconds after which a process that does not die of SIGKILL is left to the system."""


def new_mark() -> str:
    """A mark that nobody else has."""
    return os.urandom(8).hex()


def start_guard(mark: str) -> subprocess.Popen[bytes]:
    """Start a process that kills all that carry the mark once this one has ended, or closes its `stdin`."""
    unmarked = {name: value for name, value in os.environ.items() if name != MARK}
    return subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, mark],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=unmarked,
    )


def end_guard(guard: subprocess.Popen[bytes]) -> None:
    """Let a guard do its work now, and wait until it has."""
    assert guard.stdin is not None
    guard.stdin.close()
    guard.wait()


def kill_tree(pid: int) -> None:
    """Kill a process, its group, and all that they have started."""
    family = _descendants(pid)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    for member in family:
        _kill(member)


def end_children() -> None:
    """Kill all children of this process, and theirs: as a subreaper it inherits orphans."""
    began = time.monotonic()
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() - began < _PATIENCE:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                for pid, parent in _parents().items():
                    if parent == os.getpid():
                        _kill(pid)
                time.sleep(0.002)


def _watch(mark: str) -> None:
    """What a guard does."""
    sys.stdin.buffer.read()
    began = time.monotonic()
    while (found := _marked(mark)) and time.monotonic() - began < _PATIENCE:
        for pid in found:
            _kill(pid)
        time.sleep(0.01)


def _marked(mark: str) -> list[int]:
    wanted = f"{MARK}={mark}".encode()
    return [pid for pid in _pids() if wanted in _read(pid, "environ").split(b"\0")]


def _descendants(pid: int) -> list[int]:
    parents = _parents()
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def _parents() -> dict[int, int]:
    """Parent of every process. The name in `stat`, in parentheses, may hold anything."""
    stats = {pid: _read(pid, "stat").rpartition(b")")[2].split() for pid in _pids()}
    return {pid: int(fields[1]) for pid, fields in stats.items() if len(fields) > 1}


def _pids() -> list[int]:
    """All processes; none where there is no /proc, and process groups have to do."""
    folder = Path("/proc")
    return [int(path.name) for path in folder.iterdir() if path.name.isdigit()] if folder.is_dir() else []


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    _watch(sys.argv[1])
