"""Remote files: listed, fetched whole or not at all, named without keys, and deleted after use."""

import asyncio
import errno
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen import remote
from datagen.errors import Corrupt, Provider, UsageError
from datagen.flow import flow_keys
from datagen.ledger import item_of
from datagen.llm.models import Models
from datagen.pipeline_file import load_config
from datagen.records import Entry, Location
from datagen.remote import fetched, join, without_keys
from datagen.scratch import Scratch
from datagen.sources.listing import list_videos
from tests.file_server import serving

KEY = "X-Amz-Signature=verysecret"


@pytest.fixture
def served(tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "_PAUSES", (0.01, 0.01))
    folder = tmp_path / "served"
    for name in ("a/talk.mp4", "b/talk.mp4", "b/talk.en.srt", ".hidden/x.mp4", "notes.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode() * 1000)
    with serving(folder) as files:
        files.folder = folder
        yield files


def place(served, tmp_path, name="/a/talk.mp4", size=None):
    size = (served.folder / name.lstrip("/")).stat().st_size if size is None else size
    return Location(served.url + name, copy=str(tmp_path / "copies/talk.mp4"), size=size)


# Listing


@pytest.mark.parametrize("scheme", ["http", "file"])
def test_a_remote_folder_is_listed_like_one_on_disk(served, scheme):
    url = served.url if scheme == "http" else f"file://{served.folder}"
    entries, rejected = list_videos(url)
    local, _ = list_videos(served.folder)
    assert [(e.name, e.size, e.sidecar_size) for e in entries] == [
        (e.name, e.size, e.sidecar_size) for e in local
    ]
    assert [e.path for e in entries] == [f"{url}/a/talk.mp4", f"{url}/b/talk.mp4"]
    assert entries[1].sidecar == f"{url}/b/talk.en.srt"
    assert len({item_of(e) for e in entries}) == 2 and rejected == []
    assert list_videos(url)[0] == entries
    (served.folder / "a/talk.mp4").write_bytes(b"changed")
    assert list_videos(url)[0][0] != entries[0]


def test_what_cannot_be_listed_is_said_in_a_line(served, tmp_path):
    served.faults = {"/closed": "403"}
    for url, why in (
        (f"{served.url}/nowhere", "holds no videos"),
        (f"{served.url}/closed", "403"),
        (f"{served.url}/nowhere/a.mp4", "is not there"),
        (f"{served.url}/nowhere/m.jsonl", "is not there"),
        ("file:///nowhere/at/all", "holds no videos"),
        ("nosuch://bucket/videos", "nosuch"),
        ("zip://a.mp4::http://x/y.zip", "not chained"),
        (f"http://user:verysecret@127.0.0.1:1/videos?{KEY}", "password or a query"),
    ):
        with pytest.raises(UsageError, match=why) as error:
            list_videos(url)
        assert "verysecret" not in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("home", ["disk", "server"])
def test_rows_of_a_manifest_may_be_remote(served, tmp_path, home):
    folder = served.folder if home == "server" else tmp_path
    base = "" if home == "server" else f"{served.url}/"
    served.faults = {"/a/closed.mp4": "403"}
    rows = [
        {"path": f"{base}b/talk.mp4", "id": "second", "sidecar": f"{served.url}/b/talk.en.srt"},
        {"path": f"{base}a/talk.mp4", "sidecar": f"{served.url}/b/talk.en.srt?{KEY}"},
        {"path": f"{base}a/gone.mp4"},
        {"path": f"{base}a/closed.mp4"},
    ]
    (folder / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    entries, rejected = list_videos(f"{served.url}/m.jsonl" if home == "server" else folder / "m.jsonl")
    assert [(e.path, e.id) for e in entries] == [
        (f"{served.url}/b/talk.mp4", "second"),
        (f"{served.url}/a/talk.mp4", None),
    ]
    assert [e.sidecar for e in entries] == [f"{served.url}/b/talk.en.srt", None]
    assert [(r.stage, r.code) for r in rejected] == [
        ("sidecar", "Invalid"),
        ("probe", "Corrupt"),
        ("probe", "Provider"),
    ]
    assert "403" in rejected[2].detail and "line 4" in rejected[2].detail
    assert "verysecret" not in str(rejected)


def test_in_stores_that_list_a_manifests_video_finds_the_sidecar_beside_it(served, tmp_path):
    (tmp_path / "m.csv").write_text(f"path\nfile://{served.folder}/b/talk.mp4\n")
    ([entry], []) = list_videos(tmp_path / "m.csv")
    assert entry.sidecar == f"file://{served.folder}/b/talk.en.srt"


# Keys


def test_a_signed_address_signs_no_key_and_no_name(served, tmp_path):
    config, listed = load_config("nqna", []), []
    for key in (KEY, KEY + "2"):
        row = {"path": f"{served.url.replace('//', '//user:verysecret@')}/a/talk.mp4?{key}"}
        (tmp_path / "m.jsonl").write_text(json.dumps(row))
        listed += list_videos(tmp_path / "m.jsonl")[0]
    assert [e.path for e in listed] == [e.name for e in listed] == [f"{served.url}/a/talk.mp4"] * 2
    assert listed[0].signed != listed[1].signed and KEY in str(listed[0].signed)
    assert len(set(flow_keys(listed, config, Models()))) == len({item_of(e) for e in listed}) == 1
    served.faults = {"/a/talk.mp4": "500"}
    for where in (listed[0].signed, f"http://user:verysecret@127.0.0.1:1/a.mp4?{KEY}"):
        with pytest.raises(Provider) as error:
            fetched(Location(where, copy=str(tmp_path / "copy.mp4"), size=1))
        assert "verysecret" not in str(error.value) and "/a" in str(error.value)


def test_entries_on_disk_have_the_keys_that_they_had_before():
    entry = Entry(path="/v/a.mp4", name="a.mp4", size=3, mtime_ns=5)
    before = {"path", "name", "size", "mtime_ns", "id", "start", "end", "licence", "source", "language"}
    before |= {"sidecar", "sidecar_size", "sidecar_mtime_ns"}
    assert set(json.loads(msgspec.json.encode(entry))) == before


@given(
    st.sampled_from(["https", "http"]),
    st.from_regex(r"[a-zA-Z0-9._-]{1,20}", fullmatch=True).map(lambda secret: f"Zq{secret}"),
)
def test_no_part_of_a_web_address_that_may_be_a_key_is_shown(scheme, secret):
    for url in (
        f"{scheme}://{secret}@h/v/a.mp4",
        f"{scheme}://u:{secret}@h:8/v/a.mp4",
        f"{scheme}://h/v/a.mp4?k={secret}",
        f"{scheme}://h/v/a.mp4#{secret}",
    ):
        plain = without_keys(url)
        assert secret not in plain and plain.endswith("/v/a.mp4")
        assert without_keys(plain) == plain


def test_addresses_are_joined_like_paths():
    assert join("s3://bucket/list", "../v/a b.mp4") == "s3://bucket/v/a b.mp4"
    assert join("file:///data/x", "a.mp4") == "file:///data/x/a.mp4"
    assert join("/data", "s3://bucket/a.mp4") == "s3://bucket/a.mp4"
    assert join("/data/x", "../a.mp4") == "/data/a.mp4"
    assert without_keys("hf://datasets/o/n@main/a?b.mp4") == "hf://datasets/o/n@main/a?b.mp4"
    assert without_keys("sftp://me:secret@host/a.mp4") == "sftp://host/a.mp4"
    assert without_keys("abfs://container@account.net/a.mp4") == "abfs://container@account.net/a.mp4"


# Fetching


def test_a_file_is_fetched_once_and_whole(served, tmp_path):
    where = place(served, tmp_path)
    assert fetched(where) == fetched(where) == Location(where.copy)
    assert Path(where.copy).read_bytes() == (served.folder / "a/talk.mp4").read_bytes()
    assert served.got["/a/talk.mp4"] == 1
    assert fetched(Location("/videos/a.mp4")) == Location("/videos/a.mp4")


@pytest.mark.parametrize(
    ("fault", "failure", "why", "tries"),
    [
        ("404", Corrupt, "is not there", 1),
        ("403", Provider, "403", 3),
        ("503", Provider, "503", 3),
        ("cut", Provider, "talk.mp4", 3),
        ("stall", Provider, "no answer in time", 3),
    ],
)
def test_what_cannot_be_had_whole_is_no_file(served, tmp_path, monkeypatch, fault, failure, why, tries):
    monkeypatch.setattr(remote, "_QUIET_SECONDS", 0.3)
    served.faults = {"/a/talk.mp4": fault}
    with pytest.raises(failure, match=why):
        fetched(place(served, tmp_path))
    assert served.got["/a/talk.mp4"] == tries
    assert list((tmp_path / "copies").iterdir()) == []


def test_a_connection_that_breaks_once_is_tried_again(served, tmp_path):
    served.faults = {"/a/talk.mp4": "cut once"}
    where = place(served, tmp_path)
    fetched(where)
    assert Path(where.copy).read_bytes() == (served.folder / "a/talk.mp4").read_bytes()


def test_a_file_that_has_changed_since_it_was_listed_is_not_taken(served, tmp_path):
    with pytest.raises(Provider, match="10000 bytes came of 9999 listed"):
        fetched(place(served, tmp_path, size=9999))


def test_a_full_disk_stops_before_anything_is_sent(served, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(OSError, match="TMPDIR") as error:
        fetched(place(served, tmp_path))
    assert error.value.errno == errno.ENOSPC and not served.got


# Room for copies


def test_so_many_copies_at_a_time_and_none_afterwards(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    there, most = set(), 0

    async def use(scratch, number):
        nonlocal most
        async with scratch.copy_of(f"s3://b/{number}/talk.mp4?x", 1) as where:
            copy = Path(where.copy)
            copy.parent.mkdir(parents=True)
            copy.write_text("x")
            there.add(copy)
            most = max(most, len(there))
            assert copy.name == "talk.mp4"
            await asyncio.sleep(0.005)
            there.discard(copy)

    async def run():
        scratch = Scratch(3)
        await asyncio.gather(*(use(scratch, n) for n in range(12)))
        async with scratch.copy_of("/v/a.mp4", 1) as where:
            assert where == Location("/v/a.mp4")
        left = [path for path in tmp_path.rglob("*") if path.is_file()]
        await scratch.close()
        return left

    assert asyncio.run(run()) == []
    assert most == 3
    assert list(next(tmp_path.iterdir()).iterdir()) == []


def test_copies_of_killed_runs_are_deleted_and_those_of_living_ones_are_not(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = (
        "import asyncio, pathlib\nfrom datagen.scratch import Scratch\n"
        "async def main():\n"
        "  async with Scratch(1).copy_of('s3://b/a.mp4', 1) as where:\n"
        "    pathlib.Path(where.copy).parent.mkdir(); pathlib.Path(where.copy).write_text('x')\n"
        "    print(where.copy, flush=True); input()\n"
        "asyncio.run(main())"
    )
    # Its input stays open: it waits there.
    other = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"TMPDIR": str(tmp_path)},
    )
    copy = Path(other.stdout.readline().decode().strip())

    async def begin():
        scratch = Scratch(1)
        async with scratch.copy_of("s3://b/b.mp4", 1):
            pass
        await scratch.close()

    asyncio.run(begin())
    assert copy.exists()
    other.kill()
    other.wait()
    asyncio.run(begin())
    assert not copy.exists() and list(copy.parents[2].iterdir()) == []
