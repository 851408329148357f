"""A cluster of three nodes that reads its videos from a server: each file is fetched once, by one of them."""

import pytest

from datagen.build import main
from datagen.samples import make_samples
from tests.faults.test_cluster import TABLES
from tests.file_server import serving

pytestmark = pytest.mark.slow


def test_a_cluster_fetches_its_videos_and_gives_the_bytes_of_one_machine(cluster, tmp_path):
    samples = make_samples(tmp_path / "samples")
    found = {}
    with serving(samples) as server:
        for name, videos, more in (
            ("disk", str(samples), ["--backend", "local"]),
            ("server", server.url, ["--ray-address", cluster.address]),
        ):
            out = tmp_path / name
            assert main(["--videos", videos, "--out", str(out), "--quiet", "--workers", "2", *more]) == 0
            found[name] = {
                str(path.relative_to(out)): path.read_bytes()
                for table in (*TABLES, "frames")
                for path in sorted((out / table).rglob("*"))
                if path.is_file()
            }
        assert {server.got[f"/{path.name}"] for path in samples.glob("*.mp4")} == {1}
    assert found["disk"] == found["server"]
