"""Putting a dataset into an object store: what is sent, what is left alone, what an interruption costs."""

import hashlib

import fsspec.implementations.local as local
import pytest

from datagen.publish import store
from datagen.publish.push import main
from datagen.publish.store import push_to_store
from tests.publish.samples import SPOKEN, dataset


@pytest.fixture
def bucket(tmp_path):
    """The folder in which the store keeps what it is sent."""
    folder = tmp_path / "bucket"
    folder.mkdir()
    return folder


def there(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def some(folder, **texts):
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, text in texts.items():
        (folder / name).write_text(text)
        files[f"sft/{name}"] = folder / name
    return files


def test_what_the_hub_would_get_goes_to_a_store(tmp_path, bucket, capsys):
    out = dataset(tmp_path / "out", ["cc-by-4.0", None] * 4)
    assert main([str(out), f"file://{bucket}/data"]) == 0
    sent = there(bucket / "data")
    for table in ("sft", "rl", "dialogues", "segments", "videos"):
        assert [name for name in sent if name.startswith(f"{table}/")]
    assert {"README.md", "run.json", "SHA256SUMS"} <= sent.keys()
    assert not [name for name in sent if name.startswith((".work", "frames"))]
    sums = dict(line.split("  ")[::-1] for line in sent.pop("SHA256SUMS").decode().splitlines())
    assert sums == {name: hashlib.sha256(data).hexdigest() for name, data in sent.items()}
    assert "0 files are there already" in capsys.readouterr().out
    assert main([str(out), f"file://{bucket}/data"]) == 0
    assert "; 0, 0.0 MB, to send" in capsys.readouterr().out


def test_licences_hold_here_too(tmp_path, bucket):
    closed = dataset(tmp_path / "closed", ["Ego4D licence"] * 3)
    assert main([str(closed), f"file://{bucket}/a"]) == 2
    assert there(bucket) == {}
    assert main([str(closed), f"file://{bucket}/a", "--timestamps", "Ego4D licence"]) == 0
    assert not [data for data in there(bucket).values() if SPOKEN.encode() in data]


def test_an_interrupted_push_sends_the_rest_and_a_new_version_what_differs(tmp_path, bucket, monkeypatch):
    old = some(tmp_path / "old", a="1", b="2", c="3", d="4")
    sent, send = [], store._send

    def count(fs, path, place):
        if len(sent) == 2:
            raise ConnectionError("gone")
        sent.append(path.name)
        send(fs, path, place)

    monkeypatch.setattr(store, "_send", count)
    url = f"file://{bucket}/x"
    with pytest.raises(ConnectionError):
        push_to_store(old, url)
    assert sent == ["a", "b"]
    sent.clear()
    push_to_store(old, url)
    assert sent == ["c", "d"]
    (bucket / "x/sft/by hand").write_text("mine")
    new = some(tmp_path / "new", a="1", b="other", c="3")
    sent.clear()
    push_to_store(new, url)
    assert sent == ["b"]
    found = there(bucket / "x")
    assert found["sft/b"] == b"other" and "sft/d" not in found and found["sft/by hand"] == b"mine"


def test_a_sum_never_vouches_for_what_was_replaced_before_a_kill(tmp_path, bucket, monkeypatch):
    url = f"file://{bucket}/x"
    first, second = some(tmp_path / "1", a="one"), some(tmp_path / "2", a="two")
    push_to_store(first, url)
    send = store._send

    def die(fs, path, place):
        send(fs, path, place)
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "_send", die)
    with pytest.raises(KeyboardInterrupt):
        push_to_store(second, url)
    monkeypatch.setattr(store, "_send", send)
    push_to_store(first, url)
    assert (bucket / "x/sft/a").read_text() == "one"


def test_a_file_that_breaks_off_is_not_there(tmp_path, bucket, monkeypatch):
    url = f"file://{bucket}/x"
    push_to_store(some(tmp_path / "1", a="one"), url)

    files = some(tmp_path / "2", a="t" * (40 << 20))
    write, written = local.LocalFileOpener.write, []

    def full(self, data, *args):
        written.append(len(data))
        if sum(written) > (20 << 20):
            raise OSError(28, "No space left on device")
        return write(self, data, *args)

    monkeypatch.setattr(local.LocalFileOpener, "write", full, raising=False)
    with pytest.raises(OSError, match="No space"):
        push_to_store(files, url)
    assert (bucket / "x/sft/a").read_text() == "one"


def test_wrong_usage_is_a_line(tmp_path, bucket, capsys):
    out = dataset(tmp_path / "out", ["mit"] * 3)
    (bucket / "y").mkdir()
    (bucket / "y/SHA256SUMS").write_text("00  ../../etc/passwd\n")
    assert main([str(out), f"file://{bucket}/y"]) == 2
    assert main([str(out), "nosuch://bucket/x"]) == 2
    assert main([str(out), f"file://{bucket}/x", "--private"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len([line for line in errors if line.startswith("datagen: ")]) == len(errors) == 3
    assert "SHA256SUMS" in errors[0] and "nosuch" in errors[1] and "--private" in errors[2]
