"""What happens to processes and files from outside, each in small; whole builds are in test_builds."""

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from datagen.build import main
from datagen.config import FrameOptions, SceneOptions
from datagen.engine import stop_signals, stoppable
from datagen.errors import Corrupt, Crashed, UsageError
from datagen.flow import flow_keys
from datagen.ledger import Event, Ledger
from datagen.llm.models import Models
from datagen.media.probe import probe
from datagen.media.watch import watch
from datagen.pipeline_file import load_config
from datagen.plan import drop_leftovers
from datagen.records import Location
from datagen.salvage import salvage
from datagen.samples import make_samples
from datagen.sandbox import Children
from datagen.sources.listing import list_videos
from tests import steps

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def test_children_end_though_their_guard_was_killed():
    async def run() -> None:
        children = Children(1, 1024)
        assert await children.call(steps.double, (4,), 20.0) == b"8"
        children._guard.kill()
        await asyncio.wait_for(children.close(), 20)

    asyncio.run(run())


def test_what_a_child_sends_beside_its_reply_is_no_result():
    async def run() -> None:
        children = Children(1, 1024)
        try:
            with pytest.raises(Crashed, match="3 times"):
                await children.call(steps.talk_nonsense, (), 20.0)
            assert await children.call(steps.double, (4,), 20.0) == b"8"
        finally:
            await children.close()

    asyncio.run(run())


STOPPED = """
import asyncio
from datagen.records import Location
from datagen.sandbox import Children
from tests import steps

async def run():
    children = Children(1, 1024)
    await children.call(steps.double, (1,), 20.0)
    print("ready", flush=True)
    print(await children.call(steps.double_and_count, (Location("/dev/null"), 4, 1.0), 2.5))
    await children.close()

asyncio.run(run())
"""


@pytest.mark.slow
def test_while_a_run_is_stopped_no_deadline_passes():
    with subprocess.Popen(
        [sys.executable, "-c", STOPPED], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as driver:
        assert driver.stdout.readline() == "ready\n"
        time.sleep(0.3)
        driver.send_signal(signal.SIGSTOP)
        time.sleep(3.0)
        driver.send_signal(signal.SIGCONT)
        assert driver.stdout.read() == "b'8'\n" and driver.wait() == 0


@pytest.fixture
def terminal():
    """As if run in one: whoever runs the tests may want its end ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_stop_is_heard_once(number, terminal):
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with stoppable():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        signal.raise_signal(number)  # an impatient user
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


def test_nohup_is_respected(terminal):
    assert signal.SIGHUP in stop_signals()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with stoppable():
        signal.raise_signal(signal.SIGHUP)


READ_ALONG = (
    "import sys; from datagen.progress import tell; [tell(f'line {n}', sys.stdout) for n in range(9)]"
)


def test_a_reader_who_has_seen_enough_does_not_end_a_run():
    here, there = os.pipe()
    os.close(here)
    done = subprocess.run([sys.executable, "-c", READ_ALONG], cwd=ROOT, stdout=there, stderr=subprocess.PIPE)
    os.close(there)
    assert (done.returncode, done.stderr) == (0, b"")


def test_what_killed_steps_left_half_written_goes_and_nothing_else(tmp_path):
    for name in ("v1/000001.jpg", ".v2.x1/new/000001.jpg", ".DS_Store"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    drop_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"v1", ".DS_Store"}


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_samples(tmp_path_factory.mktemp("samples"))


def test_a_video_that_grows_while_it_is_read_is_rejected_and_read_anew_by_the_next_run(samples, tmp_path):
    path = shutil.copy(samples / "dawn.mp4", tmp_path)
    (before,), _ = list_videos(tmp_path)
    place = Location(before.path, changed_ns=before.mtime_ns)
    facts = probe(place, before)
    with Path(path).open("ab") as file:
        file.write(b"more")
    os.utime(path, ns=(0, before.mtime_ns + 1))
    with pytest.raises(Corrupt, match="changed while it was read"):
        probe(place, before)
    folder = Location(str(tmp_path / "frames" / facts.id))
    with pytest.raises(Corrupt, match="changed while it was read"):
        watch(place, folder, 0.0, None, SceneOptions(), FrameOptions())
    (after,), _ = list_videos(tmp_path)
    config = load_config("nqna", [])
    assert flow_keys([before], config, Models()) != flow_keys([after], config, Models())
    assert probe(Location(after.path, changed_ns=after.mtime_ns), after).digest != facts.digest


RESULTS = {f"{n:032x}": msgspec.json.encode(f"{n} " * (n % 400)) for n in range(200)}


@pytest.fixture(scope="module")
def ledger_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    work = tmp_path_factory.mktemp("work")
    ledger = Ledger(work)
    ledger.add([Event(key, "item", "ask", msgspec.Raw(value)) for key, value in RESULTS.items()])
    ledger.close()
    return (work / "ledger.sqlite").read_bytes()


@pytest.mark.parametrize("how", ["cut off", "a page of zeros", "a bit", "noise"])
def test_of_a_damaged_ledger_all_that_can_be_read_is_kept_and_nothing_else(ledger_file, how, tmp_path):
    chance, kept = random.Random(how), []
    for number in range(6):
        work = tmp_path / str(number)
        work.mkdir()
        (work / "ledger.sqlite").write_bytes(damaged(ledger_file, how, chance))
        try:
            assert "was damaged" in salvage(work)
        except UsageError as error:  # the root of the results, or all of them, are gone
            assert "nothing in it can be read" in str(error)
            continue
        ledger = Ledger(work)
        found = {bytes(known.value) for known in ledger.known("item").values()}
        ledger.close()
        assert found <= set(RESULTS.values())
        kept.append(len(found))
    assert how == "cut off" or (len(kept) >= 4 and sum(kept) > 0.9 * len(kept) * len(RESULTS))


def damaged(file: bytes, how: str, chance: random.Random) -> bytes:
    content, at = bytearray(file), chance.randrange(len(file))
    if how == "cut off":
        del content[at:]
    elif how == "a bit":
        content[at] ^= 1 << chance.randrange(8)
    elif how == "noise":
        content[at : at + 600] = chance.randbytes(600)[: len(content) - at]
    else:
        page = at // 4096 * 4096
        content[page : page + 4096] = bytes(4096)
    return bytes(content)


@pytest.mark.slow
def test_a_build_goes_on_with_what_is_left_of_its_ledger_and_says_so(samples, tmp_path, capsys):
    command = ["--videos", str(samples), "--out", str(tmp_path / "out"), "--quiet"]
    assert main(command) == 0
    shards = {path: path.read_bytes() for path in sorted((tmp_path / "out").glob("*/*.parquet"))}
    with (tmp_path / "out/.work/ledger.sqlite").open("r+b") as file:
        file.seek(-4096, os.SEEK_END)
        file.write(bytes(4096))
    shutil.rmtree(tmp_path / "out" / "sft")
    assert main(command) == 0
    assert "was damaged" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in sorted((tmp_path / "out").glob("*/*.parquet"))} == shards
