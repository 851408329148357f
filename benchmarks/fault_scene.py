"""A build to which faults happen, and how to see what had arrived when they did. See benchmarks.faults."""

import asyncio
import contextlib
import json
import os
import random
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from benchmarks.model_builds import NUMBERED, ROOT, Ended, Endpoint, build_command, model_options
from tests.model_server import KEY

AT_A_TIME = 8
SECONDS = 0.25
"""Of a call."""


class Scene:
    """A build to which a fault happens, and the endpoint that keeps accounts."""

    def __init__(self, videos: Path, out: Path, endpoint: Endpoint, url: str, seed: int) -> None:
        self.videos = videos
        self.out = out
        self.said = out.with_suffix(".log")
        self.endpoint = endpoint
        self.chance = random.Random(seed)
        self.options = (*model_options(url), "--max-in-flight", str(AT_A_TIME), "--workers", "2", "--quiet")
        self.noted: set[int] = set()
        """Numbers of the calls that were in the ledger or a spool after a fault."""
        self.family: set[psutil.Process] = set()

    def start(self, *more: str, **popen: Any) -> psutil.Popen:
        """Start the build."""
        env = os.environ | {"OPENAI_API_KEY": KEY, "PYTHONPATH": str(ROOT)} | popen.pop("env", {})
        command = build_command(self.videos, self.out, *self.options, *more)
        with self.said.open("ab") as said:
            return psutil.Popen(command, cwd=ROOT, env=env, stdout=said, stderr=said, **popen)

    async def moment(self, process: psutil.Popen) -> bool:
        """Wait for a random moment after the next new answer; False when the build has ended by then."""
        before = len(self.endpoint.paid)
        while len(self.endpoint.paid) == before and process.poll() is None:
            await asyncio.sleep(0.002)
        await asyncio.sleep(self.chance.uniform(0, 1.2 * SECONDS))
        if process.poll() is not None:
            return False
        self.family |= {process, *process.children(recursive=True)}
        return True

    async def expect(self, process: psutil.Popen, *wanted: int) -> None:
        """Wait for a build. Raises RuntimeError when it has another exit status."""
        status = await asyncio.to_thread(process.wait, 300)
        if status not in wanted:
            raise RuntimeError(f"exit status {status}, not {wanted}: {self.said.read_text()[-2000:]}")

    async def ended(self, process: psutil.Popen, *wanted: int) -> None:
        """Wait for a build and for the endpoint's last answers, and see what has been noted."""
        await self.expect(process, *wanted)
        quiet = 0
        while quiet < 20:
            await asyncio.sleep(0.01)
            quiet = 0 if self.endpoint.in_flight else quiet + 1
        self.noted |= noted(self.out / ".work")

    def asked_again(self) -> Counter[bool]:
        """Answers that were asked for again: how many of them had arrived, and how many had not."""
        return Counter(paid.arrived or paid.number in self.noted for paid in self.endpoint.paid_again)


def noted(work: Path) -> set[int]:
    """Numbers of the calls whose results are in the ledger or a spool; neither is changed by looking."""
    tokens = [
        event["cost"]["prompt_tokens"]
        for spool in work.glob("spool/*.jsonl")
        for event in whole_lines(spool)
        if event.get("cost")
    ]
    with tempfile.TemporaryDirectory() as place:
        for path in work.glob("ledger.sqlite*"):
            shutil.copy(path, place)
        with contextlib.closing(sqlite3.connect(Path(place) / "ledger.sqlite")) as database:
            tokens += [found for (found,) in database.execute("SELECT prompt_tokens FROM calls")]
    return {found - NUMBERED for found in tokens}


def whole_lines(spool: Path) -> Iterator[dict[str, Any]]:
    """Its events, but for one that was torn."""
    for line in spool.read_bytes().splitlines():
        with contextlib.suppress(ValueError):
            yield json.loads(line)


def shards(out: Path) -> dict[str, bytes]:
    """The dataset's files."""
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.glob("*/*.parquet"))}


def expect(ended: Ended, wanted: int) -> None:
    """Raises RuntimeError when a build has another exit status."""
    if ended.status != wanted:
        raise RuntimeError(f"exit status {ended.status}, not {wanted}: {ended.said[-2000:]}")
