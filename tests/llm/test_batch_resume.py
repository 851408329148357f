"""What one process has sent, another fetches: nothing that was answered is paid for again."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest
from msgspec import structs

from datagen.llm.batch import open_batch_client
from datagen.llm.batch_api import read_note, write_note
from tests.llm.batch_server import KEY, BatchServer
from tests.llm.test_batch import ANSWERS, QUICK, ask_all, ask_for, left, many, texts

ROOT = Path(__file__).resolve().parents[2]
COUNT = 8


class Driver:
    """A process that asks, to be killed."""

    def __init__(self, folder: Path, server: BatchServer) -> None:
        self.kept = folder / "kept.jsonl"
        self.server = server
        arguments = [server.url, str(folder / "state"), str(self.kept), str(COUNT)]
        self.command = [sys.executable, "-m", "tests.llm.batch_driver", *arguments]

    async def run(self) -> int:
        """Exit status of one process, which the server may kill."""
        self.process = await asyncio.create_subprocess_exec(*self.command, cwd=ROOT, env=os.environ)
        async with asyncio.timeout(120):
            return await self.process.wait()

    def kill(self) -> None:
        self.process.kill()

    def replies(self) -> dict[str, str]:
        return dict(json.loads(line) for line in self.kept.read_text().splitlines())


def killed(folder: Path, moments: list[tuple[str, str]]) -> BatchServer:
    """The server after drivers were killed at each of the moments in turn, and one has run to its end."""

    async def main() -> BatchServer:
        async with BatchServer() as server:
            driver = Driver(folder, server)
            for when, what in moments:
                getattr(server, when)[what] = driver.kill
                assert await driver.run() == -9, (when, what)
            assert await driver.run() == 0
            assert driver.replies() == {f"question {i}": f"answer to question {i}" for i in range(COUNT)}
            return server

    return asyncio.run(main())


MOMENTS = [
    ("before", "upload"),
    ("after", "upload"),
    ("before", "create"),
    ("after", "create"),
    ("before", "retrieve"),
    ("after", "retrieve"),
    ("before", "content"),
    ("after", "content"),
    ("before", "delete"),
]


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS, ids="-".join)
def test_a_kill_at_any_moment_costs_nothing(tmp_path, moment):
    server = killed(tmp_path, [moment] * 2 if moment[1] in ("upload", "content") else [moment])
    assert set(server.paid.values()) == {1} and len(server.paid) == COUNT
    # A batch whose kill came before it was created was made anew; one that was created, never.
    assert len([batch for batch in server.batches.values() if batch.get("output_file_id")]) == 1


@pytest.mark.slow
def test_kills_one_after_another_cost_nothing(tmp_path):
    server = killed(tmp_path, [moment for moment in MOMENTS if moment != ("before", "create")])
    assert set(server.paid.values()) == {1} and len(server.paid) == COUNT


def lose(state: Path, server: BatchServer, until: str, count: int = 6) -> None:
    """Ask with a client that is stopped when the server has been called so."""

    async def main() -> None:
        async with server:
            client = open_batch_client(server.url, KEY, state, state / "state", QUICK, say=lambda _: None)
            asking = asyncio.create_task(ask_all(client, count))
            async with asyncio.timeout(120):
                while server.calls[until] < 1:
                    await asyncio.sleep(0.005)
            asking.cancel()
            await client.close()

    asyncio.run(main())


def test_a_batch_under_way_is_waited_for_by_whoever_asks_next(tmp_path):
    server = BatchServer()
    server.polls = 1000
    lose(tmp_path, server, "retrieve")
    assert [name.split(".")[1] for name in left(tmp_path)] == ["json"]
    server.polls = 1
    assert texts(many(tmp_path, server)) == ANSWERS
    assert left(tmp_path) == [] and len(server.batches) == 1


def test_replies_used_before_are_remembered_until_all_are(tmp_path):
    server = BatchServer()
    server.polls = 1000
    lose(tmp_path, server, "retrieve")
    server.polls = 1

    async def ask(numbers):
        async with server:
            client = open_batch_client(server.url, KEY, tmp_path, tmp_path / "state", QUICK)
            replies = await asyncio.gather(*(client.ask(ask_for(f"question {i}")) for i in numbers))
            await client.close()
            return texts(replies)

    assert asyncio.run(ask([0, 1, 2])) == ANSWERS[:3]
    assert sorted(name.split(".")[1] for name in left(tmp_path)) == ["json", "taken"]
    assert asyncio.run(ask([3, 4, 5])) == ANSWERS[3:]
    assert left(tmp_path) == [] and server.paid.total() == 6


def test_a_runner_that_is_alive_finds_what_a_lost_one_sent_after_it_began(tmp_path, monkeypatch):
    monkeypatch.setattr("datagen.llm.batch._LOOK_SECONDS", 0.0)
    server = BatchServer()

    async def main():
        async with server:
            clients = [
                open_batch_client(server.url, KEY, tmp_path, tmp_path / "state", QUICK, say=lambda _: None)
                for _ in range(2)
            ]
            await clients[0].ask(ask_for("first"))
            server.polls = 1000
            asking = asyncio.create_task(ask_all(clients[1], 6))
            while len(server.batches) < 2 or not server.batches["batch_1"]["looks"]:
                await asyncio.sleep(0.005)
            asking.cancel()
            server.polls = 1
            found = texts(await ask_all(clients[0], 6))
            for client in clients:
                await client.close()
            return found

    assert asyncio.run(main()) == ANSWERS and len(server.batches) == 2


def test_a_batch_created_but_not_noted_is_found_by_its_mark(tmp_path):
    server = BatchServer()
    server.faults["create"] = ["stuck"]
    lose(tmp_path, server, "create")
    assert sorted(name.split(".")[1] for name in left(tmp_path)) == ["json", "jsonl"] and server.batches
    assert texts(many(tmp_path, server)) == ANSWERS
    assert server.calls["create"] == 1 and left(tmp_path) == []


def test_what_was_being_gathered_or_uploaded_is_dropped(tmp_path):
    server = BatchServer()
    server.faults["upload"] = ["hang"]
    lose(tmp_path, server, "upload")
    assert sorted(name.split(".")[1] for name in left(tmp_path)) == ["json", "jsonl"]
    (tmp_path / "state" / "0123456789abcdef.jsonl").write_text("a torn li")
    assert texts(many(tmp_path, server)) == ANSWERS
    assert left(tmp_path) == [] and len(server.batches) == 1


def test_a_batch_whose_id_was_never_noted_is_found_even_if_it_is_listed_late(tmp_path):
    server = BatchServer()
    server.polls = 1000
    lose(tmp_path, server, "retrieve")
    (mark,) = (path.stem for path in (tmp_path / "state").glob("*.json"))
    note = read_note(tmp_path / "state", mark)
    write_note(tmp_path / "state", structs.replace(note, batch_id=""))
    (tmp_path / "state" / f"{mark}.jsonl").write_bytes(server.files[note.file_id])
    server.polls, server.hidden = 1, 1
    assert texts(many(tmp_path, server)) == ANSWERS
    assert server.calls["create"] == 1 and server.calls["list"] == 2


def test_a_batch_that_the_endpoint_has_forgotten_is_made_again(tmp_path):
    server = BatchServer()
    server.polls = 1000
    lose(tmp_path, server, "retrieve")
    server.batches["batch_9"] = server.batches.pop("batch_0")
    server.polls = 1
    assert texts(many(tmp_path, server)) == ANSWERS and left(tmp_path) == []


def test_the_state_of_another_endpoint_is_left_alone(tmp_path):
    server = BatchServer()
    server.polls = 1000
    lose(tmp_path, server, "retrieve")
    before = left(tmp_path)
    assert texts(many(tmp_path, BatchServer())) == ANSWERS
    assert left(tmp_path) == before
