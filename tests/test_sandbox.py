import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import psutil
import pytest

from datagen.errors import Corrupt, Crashed, Failure, OutOfMemory, Timeout
from datagen.records import Location, Video
from datagen.sandbox import Children
from tests import steps

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def call(function, *args, seconds=20.0, memory_mb=1024):
    async def run():
        children = Children(1, memory_mb)
        try:
            return msgspec.json.decode(await children.call(function, args, seconds))
        finally:
            await children.close()

    return asyncio.run(run())


def test_arguments_and_results_keep_their_types():
    video = Video(
        id="v", digest="d", name="ünïcode \u202e", duration=1.5, fps=30, width=4, height=2, codec="x"
    )
    assert call(steps.double, 21) == 42
    assert call(steps.rename, video)["name"] == "ÜNÏCODE \u202e"


@pytest.mark.parametrize(
    ("function", "args", "failure", "words"),
    [
        (steps.give_up, ("moov lost",), Corrupt, "moov lost"),
        (steps.stumble, (), Crashed, "KeyError at steps.py:"),
        (steps.eat_memory, (), OutOfMemory, "limits.memory_mb"),
        (steps.die, (int(signal.SIGSEGV),), Crashed, "SIGSEGV"),
    ],
)
def test_failures_keep_their_class_and_reason(function, args, failure, words):
    with pytest.raises(failure, match=words):
        call(function, *args)


@pytest.mark.parametrize("function", [steps.hang, steps.hang_in_c])
def test_a_step_that_never_returns_is_stopped_at_its_deadline(function):
    started = time.monotonic()
    with pytest.raises(Timeout, match="longer than 1 s"):
        call(function, seconds=1.0)
    assert time.monotonic() - started < 10


def test_a_step_whose_process_is_killed_from_outside_is_done_again(tmp_path):
    assert call(steps.die_once, Location(str(tmp_path / "marker"))) == 7


def test_what_libraries_print_does_not_disturb_the_reply():
    assert call(steps.chatter) == 1


def test_grandchildren_are_killed_with_the_child(tmp_path):
    pids = tmp_path / "pids"
    with pytest.raises(Timeout):
        call(steps.fork_and_hang, Location(str(pids)), seconds=2.0)
    assert _all_die(pids)


@pytest.mark.parametrize("and_hang", [False, True])
def test_what_a_step_leaves_behind_ends_with_it(tmp_path, and_hang):
    pids = tmp_path / "pids"

    async def run() -> None:
        children = Children(1, 1024)
        try:
            await children.call(steps.leave_a_daemon, (Location(str(pids)), and_hang), 2.0)
        except Timeout:
            assert and_hang
        assert await asyncio.to_thread(_all_die, pids)  # before the children are closed
        assert await children.call(steps.double, (4,), 20.0) == b"8"
        await children.close()

    asyncio.run(run())


DRIVER = """
import asyncio, sys
from datagen.records import Location
from datagen.sandbox import Children
from tests import steps
asyncio.run(Children(1, 1024).call(steps.leave_a_daemon, (Location(sys.argv[1]), True), 100.0))
"""


def test_what_a_step_has_started_ends_also_when_the_driver_is_killed(tmp_path):
    pids = tmp_path / "pids"
    with subprocess.Popen([sys.executable, "-c", DRIVER, str(pids)], cwd=ROOT) as driver:
        while not pids.exists() or not pids.read_text():
            time.sleep(0.01)
        family = psutil.Process(driver.pid).children(recursive=True)
        driver.kill()
    assert len(family) >= 3  # the child, the daemon it has adopted, the guard
    assert _all_die(pids)
    assert not psutil.wait_procs(family, timeout=5)[1]


def test_a_child_serves_many_calls_and_bad_ones_do_not_cost_the_good_ones():
    async def run():
        children = Children(2, 1024)

        async def one(number: int):
            function, args = [(steps.double, (number,)), (steps.stumble, ()), (steps.hang, ())][number % 3]
            try:
                return msgspec.json.decode(
                    await children.call(function, args, 0.5 if number % 3 == 2 else 30)
                )
            except Failure as failure:
                return type(failure).__name__

        try:
            return await asyncio.gather(*(one(n) for n in range(9)))
        finally:
            await children.close()

    assert asyncio.run(run()) == [0, "Crashed", "Timeout", 6, "Crashed", "Timeout", 12, "Crashed", "Timeout"]


def _all_die(pids: Path) -> bool:
    deadline = time.monotonic() + 5
    left = [int(pid) for pid in pids.read_text().split()]
    while any(_alive(pid) for pid in left) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(_alive(pid) for pid in left)


def _alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
