"""Steps for the tests of the engine: what a child process may do to its parent."""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

from datagen.errors import Corrupt
from datagen.records import Location, Video


def double(number: int) -> int:
    return 2 * number


def double_and_count(log: Location, number: int, seconds: float) -> int:
    """Leaves a line for every time it is really run."""
    time.sleep(seconds)
    with Path(log.path).open("a") as file:
        file.write(f"{number}\n")
    return 2 * number


def give_up(reason: str) -> int:
    raise Corrupt(reason)


def stumble() -> int:
    return {}["nothing here"]


def hang() -> int:
    while True:
        time.sleep(10)


def hang_in_c() -> int:
    return len(str(7 ** (10**9)))


def misbehave(folder: Location, number: int) -> int:
    """One in three never returns, one eats memory, one leaves a daemon behind."""
    if number % 3 == 2:
        return leave_a_daemon(Location(f"{folder.path}/daemon-{number}"), and_hang=False)
    return hang() if number % 3 == 0 else eat_memory()


def eat_memory() -> int:
    return len(bytearray(8 << 30))


def die(signal_number: int) -> int:
    os.kill(os.getpid(), signal_number)
    return 0


def die_once(marker: Location) -> int:
    path = Path(marker.path)
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 7


def chatter() -> int:
    """Prints on every channel, as libraries do."""
    print("noise")
    sys.stdout.flush()
    os.write(1, b"more noise")
    os.write(2, b"and errors")
    return 1 + len(sys.stdin.read())


def talk_nonsense() -> int:
    """Writes into the pipe on which its reply would go."""
    for file in range(3, 20):
        with contextlib.suppress(OSError):
            os.write(file, b"\0\0\0\5hello")
    return 1


def fork_and_hang(pids: Location) -> int:
    child = os.fork()
    if child == 0:
        time.sleep(1000)
    Path(pids.path).write_text(f"{os.getpid()} {child}")
    time.sleep(1000)
    return 0


def rename(video: Video) -> Video:
    return Video(**{f: getattr(video, f) for f in video.__struct_fields__} | {"name": video.name.upper()})


def leave_a_daemon(pids: Location, and_hang: bool) -> int:
    """Leaves a process behind that has left session and group, as daemons do."""
    path = Path(pids.path)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            path.write_text(str(os.getpid()))
            time.sleep(1000)
        os._exit(0)
    while not path.exists() or not path.read_text():
        time.sleep(0.01)
    time.sleep(1000 if and_hang else 0)
    return 1
