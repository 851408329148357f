import asyncio
import functools
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from datagen.engine import run_tasks
from datagen.errors import NoSpace, UsageError
from datagen.ledger import FLOW, Ledger
from tests import flows

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def run(folder: Path, count: int, seconds: float = 0.0) -> list:
    events: list = []
    ledger = Ledger(folder)
    try:
        todo = flows.tasks(ledger, count)
        make = functools.partial(flows.make_runner, folder, seconds)
        asyncio.run(run_tasks(todo, len(todo), make, ledger, events.extend, "local", window=8))
    finally:
        ledger.close()
    return events


def outcomes(folder: Path) -> dict:
    ledger = Ledger(folder)
    try:
        return ledger.flows()
    finally:
        ledger.close()


def times_run(folder: Path) -> Counter:
    return Counter((folder / "log").read_text().split())


def test_every_video_ends_built_or_rejected_and_the_second_run_does_nothing(tmp_path):
    events = run(tmp_path, 25)
    assert Counter(e.code for e in events if e.step == FLOW) == {None: 23, "Corrupt": 2}
    assert set(times_run(tmp_path).values()) == {1}
    assert run(tmp_path, 25) == []
    assert run(tmp_path, 26) != []
    assert set(times_run(tmp_path).values()) == {1}


DRIVER = """
import sys
from pathlib import Path
from tests.test_engine import run
run(Path(sys.argv[1]), 30, seconds=0.1)
"""


def test_a_killed_driver_loses_nothing_that_had_arrived(tmp_path):
    for moment in (0.9, 1.3, 0.7, 1.7):
        driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(tmp_path)], cwd=ROOT)
        time.sleep(moment)
        family = psutil.Process(driver.pid).children(recursive=True)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        assert not psutil.wait_procs(family, timeout=10)[1]
    subprocess.run([sys.executable, "-c", DRIVER, str(tmp_path)], cwd=ROOT, check=True)
    assert Counter(code for _, code in outcomes(tmp_path).values()) == {None: 27, "Corrupt": 3}
    # at most two steps were under way at each of the four kills
    assert sum(times_run(tmp_path).values()) <= 30 + 4 * 2


def test_a_full_disk_stops_the_run_and_keeps_what_was_done(tmp_path):
    events: list = []
    ledger = Ledger(tmp_path)

    def fill(found: list) -> None:
        events.extend(found)
        if len(events) > 10:  # from here on no file may grow: every append fails as on a full disk
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    make = functools.partial(flows.make_runner, tmp_path, 0.0)
    todo = flows.tasks(ledger, 40)
    try:
        with pytest.raises((NoSpace, sqlite3.OperationalError)):
            asyncio.run(run_tasks(todo, 40, make, ledger, fill, "local", window=4))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        ledger.close()
    assert len(outcomes(tmp_path)) < 40
    run(tmp_path, 40)
    assert len(outcomes(tmp_path)) == 40


def test_what_the_ledger_could_not_take_stays_in_the_spool(tmp_path, monkeypatch):
    ledger = Ledger(tmp_path)

    def full(self: Ledger, events: list) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    make, todo = functools.partial(flows.make_runner, tmp_path, 0.0), flows.tasks(ledger, 8)
    with monkeypatch.context() as patch, pytest.raises(sqlite3.OperationalError, match="full"):
        patch.setattr(Ledger, "add", full)
        asyncio.run(run_tasks(todo, 8, make, ledger, lambda events: None, "local", window=4))
    ledger.close()
    arrived = times_run(tmp_path)
    run(tmp_path, 8)
    assert len(outcomes(tmp_path)) == 8
    # Two children may have been at work when the ledger failed.
    assert arrived and sum(times_run(tmp_path).values()) <= 8 + 2


def test_steps_that_hang_bloat_or_leave_daemons_cost_their_own_video_alone(tmp_path):
    (tmp_path / "misbehave").touch()
    run(tmp_path, 8)
    codes = {key: code for key, (_, code) in outcomes(tmp_path).items()}
    ends = dict(enumerate(["Timeout", "OutOfMemory", None] * 2 + [None] * 2))
    assert codes == {f"flow-{n}.mp4": code for n, code in ends.items()}
    assert set(times_run(tmp_path).values()) == {1}
    daemons = [int(path.read_text()) for path in tmp_path.glob("daemon-*")]
    assert len(daemons) == 2 and not any(map(psutil.pid_exists, daemons))


def test_a_cluster_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    work = run_tasks([], 0, flows.make_runner, ledger, list, ray_address="127.0.0.1:1")
    try:
        with pytest.raises(UsageError, match=r"--ray-address 127\.0\.0\.1:1: no cluster answers there"):
            asyncio.run(work)
    finally:
        ledger.close()
