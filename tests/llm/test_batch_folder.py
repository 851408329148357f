"""Files for `vllm run-batch`: written once, waited for, and read when they are complete."""

import asyncio
import shlex
from hashlib import blake2b
from pathlib import Path

import pytest

from datagen.errors import Provider, UsageError
from datagen.llm.batch import open_batch_client
from datagen.llm.chat import ChatRequest, Message, Picture, Text
from tests.llm import fake_run_batch
from tests.llm.batch_server import read_strictly
from tests.llm.test_batch import ANSWERS, QUICK, ask_all, ask_for, texts


def commands(said: list[str]) -> list[list[str]]:
    """What the user was told to run."""
    return [shlex.split(text.partition("run: ")[2].splitlines()[0]) for text in said if "run: " in text]


def asking(folder: Path, work, until, frames=Path("none"), **options):
    """What `work(client)` gives, while `until(said)` plays the user until it returns true."""

    async def main():
        said: list[str] = []
        url = f"jsonl:{folder}"
        client = open_batch_client(url, None, frames, folder / "x", QUICK, say=said.append, **options)
        task = asyncio.create_task(work(client))
        try:
            async with asyncio.timeout(120):
                while not task.done() and not until(said):
                    await asyncio.sleep(0.01)
                return await task if task.done() or until is not interrupt else None
        finally:
            task.cancel()
            await client.close()

    return asyncio.run(main())


def interrupt(said: list[str]) -> bool:
    """A user who has read the command and stops the build."""
    return bool(commands(said))


def user(said: list[str]) -> bool:
    """A user who runs every command once."""
    for command in commands(said):
        assert command[:2] == ["vllm", "run-batch"]
        if not Path(command[command.index("-o") + 1]).exists():
            fake_run_batch.main(command[1:])
    return False


async def six(client):
    return await ask_all(client, 6)


def files(folder: Path, kind: str) -> list[Path]:
    return sorted(folder.glob(f"{kind}-*"))


def test_requests_are_written_and_replies_read_once_the_user_ran_the_command(tmp_path):
    folder = tmp_path / "with space"
    assert texts(asking(folder, six, user)) == ANSWERS
    (requests,) = files(folder, "requests")
    assert len(read_strictly(requests.read_bytes())) == 6
    assert [path.name for path in files(folder, "replies")] == [requests.name.replace("requests", "replies")]
    assert len(list(folder.iterdir())) == 2
    # Replies that are there are used: nothing is written twice, no one is asked for anything.
    assert texts(asking(folder, six, lambda said: bool(said))) == ANSWERS
    assert len(list(folder.iterdir())) == 2


def test_an_interrupted_wait_goes_on_and_is_told_of_again(tmp_path):
    assert asking(tmp_path, six, interrupt) is None
    (requests,) = files(tmp_path, "requests")
    before = requests.read_bytes()
    assert asking(tmp_path, six, interrupt) is None
    assert files(tmp_path, "requests") == [requests] and requests.read_bytes() == before
    assert texts(asking(tmp_path, six, user)) == ANSWERS
    assert files(tmp_path, "requests") == [requests]


def test_half_a_file_of_replies_is_not_taken_for_all_of_it(tmp_path):
    asking(tmp_path, six, interrupt)
    (requests,) = files(tmp_path, "requests")
    replies = tmp_path / requests.name.replace("requests", "replies")
    whole = tmp_path / "whole"
    fake_run_batch.main(["run-batch", "-i", str(requests), "-o", str(whole), "--model", "tiny"])
    lines = whole.read_bytes().splitlines(keepends=True)
    steps = [b"", b"".join(lines[:3]), b"".join(lines[:5]) + lines[5][:40], lines[0] * 6, b"".join(lines)]
    given = []

    async def slowly(client):
        task = asyncio.create_task(six(client))
        for step in steps:
            assert not task.done()
            replies.write_bytes(step)
            given.append(step)
            await asyncio.sleep(0.15)
        return await task

    assert texts(asking(tmp_path, slowly, lambda said: False)) == ANSWERS and given == steps


def test_errors_in_a_file_of_replies_concern_their_calls_alone(tmp_path):
    async def work(client):
        asks = (client.ask(ask_for(text)) for text in ("fine", "far too long"))
        return await asyncio.gather(*asks, return_exceptions=True)

    fine, wrong = asking(tmp_path, work, user)
    assert fine.text == "answer to fine"
    assert isinstance(wrong, Provider) and "prompt is too long" in str(wrong)


def test_pictures_go_by_path_where_the_server_may_read_them(tmp_path):
    frames = tmp_path / "frames"
    frames.mkdir()
    data = b"\xff\xd8 a picture"
    (frames / "1.jpg").write_bytes(data)
    picture = Picture("1.jpg", blake2b(data, digest_size=16).hexdigest())
    request = ChatRequest(model="tiny", messages=(Message("user", (picture, Text("what?"))),))

    async def work(client):
        return await client.ask(request)

    reply = asking(tmp_path / "jsonl", work, user, frames=frames, file_urls=True)
    assert reply.text == "answer to what?"
    (requests,) = files(tmp_path / "jsonl", "requests")
    assert (frames / "1.jpg").as_uri().encode() in requests.read_bytes()


def test_two_models_are_two_files_and_two_commands(tmp_path):
    async def work(client):
        a, b = await asyncio.gather(ask_all(client, 6), ask_all(client, 6, model="other"))
        return a + b

    assert texts(asking(tmp_path, work, user)) == ANSWERS * 2
    assert len(files(tmp_path, "requests")) == 2


def test_what_a_dead_process_was_gathering_and_what_is_no_file_of_ours_is_passed_over(tmp_path):
    (tmp_path / "gathering-0123.part").write_text('{"torn')
    (tmp_path / "requests-mine.jsonl").write_text('not json\n{"custom_id": 5}\n[]\n')
    (tmp_path / "notes.txt").write_text("keep")
    assert texts(asking(tmp_path, six, user)) == ANSWERS
    assert not (tmp_path / "gathering-0123.part").exists() and (tmp_path / "notes.txt").exists()


def test_a_folder_that_cannot_be_written_is_told_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        open_batch_client(f"jsonl:{tmp_path / 'file' / 'below'}", None, tmp_path, tmp_path)
