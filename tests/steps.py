"""Steps for the tests of the engine: what a child process may do to its parent."""

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


def fork_and_hang(pids: Location) -> int:
    child = os.fork()
    if child == 0:
        time.sleep(1000)
    Path(pids.path).write_text(f"{os.getpid()} {child}")
    time.sleep(1000)
    return 0


def rename(video: Video) -> Video:
    return Video(**{f: getattr(video, f) for f in video.__struct_fields__} | {"name": video.name.upper()})
