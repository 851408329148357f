"""Videos read from an S3 server and tables written to it; the server runs on loopback."""

import socket

import pyarrow.parquet as pq
import pytest

from datagen.build import main
from datagen.publish.push import main as push
from datagen.samples import make_samples

pytestmark = pytest.mark.slow
pytest.importorskip("s3fs")
server = pytest.importorskip("moto.server")


@pytest.fixture
def s3(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = server.ThreadedMotoServer("127.0.0.1", port, verbose=False)
    running.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAloopback")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "verysecret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    store = s3fs.S3FileSystem()
    store.mkdir("bucket")
    yield store
    running.stop()


def test_a_bucket_in_and_a_bucket_out(s3, tmp_path, capfd):
    samples = make_samples(tmp_path / "samples")
    for path in samples.iterdir():
        s3.put_file(str(path), f"bucket/videos/{path.name}")
    s3.pipe_file("bucket/m.csv", b"path,licence\nvideos/pizza.mp4,CC0\nvideos/race.mp4,CC0\nvideos/no.mp4,\n")
    assert main(["--videos", str(samples), "--out", str(tmp_path / "disk"), "--quiet"]) == 0
    assert main(["--videos", "s3://bucket/videos", "--out", str(tmp_path / "s3"), "--quiet"]) == 0
    for table in ("sft", "rl", "dialogues", "segments", "videos", "rejected", "frames"):
        for path in sorted((tmp_path / "disk" / table).rglob("*.*")):
            assert (tmp_path / "s3" / path.relative_to(tmp_path / "disk")).read_bytes() == path.read_bytes()
    out = tmp_path / "listed"
    run = ["--videos", "s3://bucket/m.csv", "--out", str(out), "--set", "limits.max_failures=1"]
    assert main(run) == 0
    rejected = pq.read_table(out / "rejected").to_pylist()
    assert [row["code"] for row in rejected if row["stage"] == "probe"] == ["Corrupt"]
    assert main(["--videos", "s3://other/videos", "--out", str(tmp_path / "x"), "--quiet"]) == 2
    assert push([str(out), "s3://bucket/data"]) == 0
    for table in ("sft", "rl", "videos", "segments"):
        for path in (out / table).rglob("*.parquet"):
            assert s3.cat_file(f"bucket/data/{path.relative_to(out)}") == path.read_bytes()
    assert push([str(out), "s3://bucket/data"]) == 0
    said = capfd.readouterr()
    assert "; 0, 0.0 MB, to send" in said.out
    assert push([str(out), "s3://other/data"]) == 2
    assert not s3.exists("other")
    kept = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    assert b"verysecret" not in kept and "verysecret" not in said.out + said.err + capfd.readouterr().err
