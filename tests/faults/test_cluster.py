"""Runners on a cluster of three nodes: machines leave and join, and nothing of it shows in the results."""

import asyncio
import functools
import json
from collections import Counter
from pathlib import Path

import psutil
import pytest

from datagen.build import main
from datagen.engine import run_tasks
from datagen.ledger import Ledger
from datagen.samples import make_samples
from tests import flows

pytestmark = pytest.mark.slow

TABLES = ("videos", "segments", "dialogues", "sft", "rl", "rejected")


def run(cluster, folder: Path, count: int, seconds: float, on_events=lambda events: None, **more) -> Counter:
    """Run so many videos; how they ended."""
    events: list = []
    ledger = Ledger(folder)

    def take(found: list) -> None:
        events.extend(found)
        on_events(events)

    make = functools.partial(flows.make_runner, folder, seconds)
    todo = flows.tasks(ledger, count)
    try:
        asyncio.run(run_tasks(todo, len(todo), make, ledger, take, "ray", cluster.address, window=4, **more))
        assert not list((folder / "spool").iterdir())
        return Counter(code for _, code in ledger.flows().values())
    finally:
        ledger.close()


def times_run(folder: Path) -> Counter:
    return Counter((folder / "log").read_text().split())


def test_a_node_that_leaves_takes_no_result_with_it_and_one_that_joins_gets_work(cluster, tmp_path):
    leaving, joined = cluster.add_node(num_cpus=0), []

    def change(events: list) -> None:
        if not joined and len(events) > 30:
            cluster.remove_node(leaving, allow_graceful=False)
            joined.append(cluster.add_node(num_cpus=0))

    assert run(cluster, tmp_path, 120, 0.3, change) == {None: 108, "Corrupt": 12}
    cluster.remove_node(joined[0])
    ran = times_run(tmp_path)
    assert set(ran) == {str(n) for n in range(120)}
    assert sum(ran.values()) <= 122  # two children were at work on the node that left
    # Of five runners that there were, the last one was on the node that joined.
    assert set((tmp_path / "runners").read_text().split()) == {f"runner-{n}" for n in range(5)}


def test_a_runner_ends_with_its_raylet_though_nobody_has_waited_for_that(cluster, tmp_path):
    leaving, killed = cluster.add_node(num_cpus=0), []

    def kill(events: list) -> None:
        if not killed and len(events) > 30:
            killed.extend(leaving.all_processes["raylet"])
            killed[0].process.kill()  # and it stays a zombie, which Ray takes for alive

    assert run(cluster, tmp_path, 100, 0.3, kill) == {None: 90, "Corrupt": 10}
    cluster.remove_node(leaving, allow_graceful=False)
    assert killed and sum(times_run(tmp_path).values()) <= 102


def test_a_runner_that_is_killed_is_replaced_and_a_video_that_kills_it_is_rejected(cluster, tmp_path):
    (tmp_path / "poison-3").touch()
    killed: list = []

    def kill(events: list) -> None:
        if not killed:
            killed.append(next(one for one in every_process() if one.name().startswith("ray::_Host")))
            killed[0].kill()

    assert run(cluster, tmp_path, 30, 0.2, kill) == {None: 26, "Corrupt": 3, "Crashed": 1}
    ran = times_run(tmp_path)
    assert ran["3"] == 1  # the result of the guilty one had arrived
    # Two children may have been at work when a runner died; afterwards suspects are tried alone.
    assert set(ran) == {str(n) for n in range(30)} and sum(ran.values()) <= 30 + 2 * 2


def every_process() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def test_in_process_models_get_a_gpu_for_each_runner_and_only_nodes_that_have_some(cluster, tmp_path):
    node = cluster.add_node(num_cpus=0, num_gpus=2)
    assert run(cluster, tmp_path, 20, 0.05, with_gpus=True) == {None: 18, "Corrupt": 2}
    cluster.remove_node(node)
    seen = (tmp_path / "runners").read_text().split()
    assert set(seen) == {"runner-0", "runner-1"}
    assert set((tmp_path / "gpus").read_text().split()) == {"0/2", "1/2"}


def test_a_cluster_gives_the_bytes_of_one_process_whatever_the_order(cluster, tmp_path):
    samples = make_samples(tmp_path / "samples")
    rows = [{"path": path.name} for path in sorted(samples.glob("*.mp4"))]
    builds = {
        "one": (rows[::-1], ["--backend", "local"]),
        "cluster": (rows[2:] + rows[:2], ["--ray-address", cluster.address]),
    }
    found = {}
    for name, (listed, more) in builds.items():
        manifest = samples / f"{name}.jsonl"
        manifest.write_text("".join(json.dumps(row) + "\n" for row in listed))
        out = tmp_path / name
        assert main(["--videos", str(manifest), "--out", str(out), "--quiet", *more]) == 0
        found[name] = {
            str(path.relative_to(out)): path.read_bytes()
            for table in (*TABLES, "frames")
            for path in sorted((out / table).rglob("*"))
            if path.is_file()
        }
    assert found["one"] == found["cluster"]
    assert len([path for path in found["one"] if path.endswith(".parquet")]) >= len(TABLES)
