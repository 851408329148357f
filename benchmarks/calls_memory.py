"""Memory of a process that makes a million model calls and keeps every reply in the ledger.

    python -m benchmarks.calls_memory [--calls 1000000]

The endpoint is a process of its own on loopback. Resident memory is read after ten thousand calls and
ever more; the last line says by how much it has grown since the first.
"""

import argparse
import asyncio
import gc
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.fast_endpoint import Served
from benchmarks.whole_calls import CALLS_OF_A_VIDEO, whole_calls
from datagen.llm.client import Client, ClientLimits

FIRST = 10_000
ALLOWED_MB = 50


async def measure(calls: int, folder: Path, url: str) -> bool:
    """Print the memory after 10,000, 20,000, 50,000, ... calls; whether it has stayed flat."""
    marks = [
        mark for step in (1, 10, 100, 1000) for mark in (FIRST * step, 2 * FIRST * step, 5 * FIRST * step)
    ]
    marks = sorted({*(mark for mark in marks if mark < calls), calls})
    found: list[float] = []
    began = time.monotonic()

    async def after(videos: int) -> None:
        while len(found) < len(marks) and videos * CALLS_OF_A_VIDEO >= marks[len(found)]:
            gc.collect()
            found.append(psutil.Process().memory_info().rss / 2**20)
            seconds = time.monotonic() - began
            print(f"{marks[len(found) - 1]:>9} calls {found[-1]:>8.1f} MB {seconds:>7.0f} s", flush=True)

    client = Client(url, "key", Path(), ClientLimits(max_in_flight=64))
    await whole_calls(client, folder, -(-calls // CALLS_OF_A_VIDEO), 64, after)
    await client.close()
    print(f"grown from {marks[0]} to {marks[-1]} calls: {found[-1] - found[0]:.1f} MB, allowed {ALLOWED_MB}")
    return found[-1] - found[0] <= ALLOWED_MB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=1_000_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Served(0.002) as served:
        raise SystemExit(not asyncio.run(measure(args.calls, Path(folder), served.url)))


if __name__ == "__main__":
    main()
