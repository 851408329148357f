"""A Ray cluster of three nodes on this machine, one for all tests that need it."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """A `ray.cluster_utils.Cluster`. Tests may add nodes, and remove those that they have added."""
    os.environ["PYTHONPATH"] = str(ROOT)  # of the nodes, and so of the runners
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(wait=False, num_cpus=0)
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()
