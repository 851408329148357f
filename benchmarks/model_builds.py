"""For benchmarks of whole builds: small videos, an endpoint that keeps accounts, and builds against it."""

import asyncio
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import pyarrow.parquet as pq
from msgspec import Struct

from tests.llm.bad_server import BadServer, Call, completion, http
from tests.model_server import KEY, answer_to

ROOT = Path(__file__).resolve().parents[1]
MODEL = "scripted"
_SIZE, _FPS, _SCENE_SECONDS, _SCENES = (160, 120), 8, 5, 9

_GREETING_TOKENS = 16
"""A build first asks whether the endpoint is there: no call that is accounted for, nor goes wrong."""

NUMBERED = 1_000_000
"""The tokens of a prompt say which call it was: so many more than its number."""


def make_videos(folder: Path, count: int) -> Path:
    """Render small videos of nine scenes each: a box that moves over a plain ground, no two alike."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        colours = np.random.default_rng(number).integers(30, 226, (_SCENES, 2, 3), dtype=np.uint8)
        with av.open(str(folder / f"{number:03d}.mp4"), "w") as container:
            stream = container.add_stream("mpeg4", rate=Fraction(_FPS))
            stream.width, stream.height = _SIZE
            for tick in range(_SCENES * _SCENE_SECONDS * _FPS):
                ground, box = colours[tick // (_SCENE_SECONDS * _FPS)]
                picture = np.full((_SIZE[1], _SIZE[0], 3), ground, dtype=np.uint8)
                left = (number + tick) % (_SIZE[0] - 40)
                picture[40:80, left : left + 40] = box
                for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                    container.mux(packet)
            for packet in stream.encode():
                container.mux(packet)
    return folder


Fault = Callable[[Call, bytes], Awaitable[bytes | None]]
"""What is sent instead of the good response; see `Behaviour`."""


_GRACE = 0.1
"""Seconds that a client has to note down what it has read."""


class Paid(Struct):
    """A good response."""

    number: int
    """Of its call."""
    arrived: bool = False
    """Whether the client's process has read it, and then lived a moment longer or sent another request."""


class Endpoint:
    """Answers well after `seconds`, but for the `share` of tries to which `fault` happens. Keeps accounts.

    Which tries these are depends on their bodies alone. `most`: calls in flight beyond which it refuses.
    """

    def __init__(
        self, seconds: float = 0.02, fault: Fault | None = None, share: float = 0.0, most: int = 1 << 30
    ) -> None:
        self._seconds, self._fault, self._share, self._most = seconds, fault, share, most
        self.in_flight = 0
        self.tries: Counter[str] = Counter()
        """Calls that came in, by the exact body."""
        self.paid: dict[str, list[Paid]] = {}
        """Good responses by the exact body."""
        self._last: dict[asyncio.StreamWriter, Paid] = {}
        self._following: set[asyncio.Task[None]] = set()
        self.faulty = 0

    async def behave(self, call: Call) -> bytes | None:
        """Answer one call."""
        if call.send in self._last:
            self._last.pop(call.send).arrived = True
        if call.header("authorization") != f"Bearer {KEY}":
            return http(401, {"error": {"message": f"wrong key {call.header('authorization')}"}})
        if call.body["model"] != MODEL:
            return http(404, {"error": {"message": "no such model", "code": "model_not_found"}})
        if call.body.get("max_tokens", 0) <= _GREETING_TOKENS:
            return http(200, completion("OK", id=f"chatcmpl-{call.number}", model=MODEL))
        body = hashlib.blake2b(json.dumps(call.body).encode(), digest_size=8).hexdigest()
        self.tries[body] += 1
        chance = hashlib.blake2b(f"{body} {self.tries[body]}".encode(), digest_size=4).digest()
        self.in_flight += 1
        try:
            if self.in_flight > self._most:
                self.faulty += 1
                return http(429, {"error": {"message": "too many requests"}})
            content = _content(call.body)
            usage = {"prompt_tokens": NUMBERED + call.number, "completion_tokens": 3}
            good = http(200, completion(content, id=f"chatcmpl-{call.number}", model=MODEL, usage=usage))
            if self._fault is not None and int.from_bytes(chance, "big") < self._share * 2**32:
                self.faulty += 1
                return await self._fault(call, good)
            await asyncio.sleep(self._seconds)
        finally:
            self.in_flight -= 1
        paid = self._last[call.send] = Paid(call.number)
        self.paid.setdefault(body, []).append(paid)
        follow = asyncio.create_task(self._follow(call.send, paid))
        self._following.add(follow)
        follow.add_done_callback(self._following.discard)
        return good

    async def _follow(self, connection: asyncio.StreamWriter, paid: Paid) -> None:
        while _is_unread(connection):
            await asyncio.sleep(0.01)
        await asyncio.sleep(_GRACE)
        paid.arrived = paid.arrived or not connection.is_closing()

    @contextlib.contextmanager
    def refusing(self, share: float) -> Iterator[None]:
        """Within it a share of the calls is refused for good."""

        async def refuse(call: Call, good: bytes) -> bytes:
            return http(400, {"error": {"message": "flagged", "code": "content_filter"}})

        before = self._fault, self._share
        self._fault, self._share = refuse, share
        try:
            yield
        finally:
            self._fault, self._share = before

    @property
    def paid_again(self) -> list[Paid]:
        """Good responses that were followed by another to the same exact body."""
        return [paid for responses in self.paid.values() for paid in responses[:-1]]


def _is_unread(connection: asyncio.StreamWriter) -> bool:
    """Whether the other end of a connection, on this machine too, holds what nobody has read yet."""
    here, there = (connection.get_extra_info(name)[1] for name in ("sockname", "peername"))
    for line in Path("/proc/net/tcp").read_text().splitlines():  # see proc_net_tcp in the kernel's documents
        _, local, remote, _, queues, *_ = line.split()
        if (local[-4:], remote[-4:]) == (f"{there:04X}", f"{here:04X}"):
            return int(queues.partition(":")[2], 16) > 0
    return False


def _content(request: dict[str, Any]) -> str:
    """The reply of an author who gives up where there is too little to write from."""
    try:
        return json.dumps(answer_to(request))
    except (IndexError, KeyError, TypeError, ValueError):
        return "{}"


class Ended(NamedTuple):
    """How a build ended."""

    status: int
    said: str
    seconds: float


def build_command(videos: Path, out: Path, *more: str) -> list[str]:
    """The command line of a build."""
    return [sys.executable, "-m", "datagen.build", "--videos", str(videos), "--out", str(out), *more]


def model_options(url: str) -> list[str]:
    """Options that have both models asked at one endpoint."""
    return ["--llm-url", url, "--llm-model", MODEL, "--vlm-url", url, "--vlm-model", MODEL]


async def build(videos: Path, out: Path, *more: str, key: str = KEY, most_seconds: float = 600) -> Ended:
    """Run a build in a process of its own. Raises TimeoutError, and ends it, if it does not end."""
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *build_command(videos, out, *more),
        cwd=ROOT,
        env=os.environ | {"OPENAI_API_KEY": key},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), most_seconds)
    except TimeoutError:
        process.kill()
        raise
    assert process.returncode is not None
    return Ended(process.returncode, said.decode("utf-8", "replace"), time.monotonic() - began)


async def build_against(endpoint: Endpoint, videos: Path, out: Path, *more: str) -> Ended:
    """Run a build against an endpoint."""
    async with BadServer(endpoint.behave) as server:
        return await build(videos, out, *model_options(server.url), *more)


def table(out: Path, name: str) -> list[dict[str, Any]]:
    """All rows of a table of the dataset; none where it was not written."""
    return [row for path in sorted(out.glob(f"{name}/*.parquet")) for row in pq.read_table(path).to_pylist()]


def unaccounted(videos: Path, out: Path) -> list[str]:
    """What ended neither in the dataset nor in its table of rejections: videos, captions, dialogues."""
    rejected = table(out, "rejected")
    gone = {row["item_id"] for row in rejected} | {row["video_id"] for row in rejected}
    kept = {Path(row["path"]).name: row["id"] for row in table(out, "videos")}
    written = {row["video_id"] for row in table(out, "dialogues")}
    lost = [path.name for path in sorted(videos.glob("*.mp4")) if path.name not in kept.keys() | gone]
    lost += [name for name, video in kept.items() if video not in written | gone]
    lost += [row["id"] for row in table(out, "segments") if not row["provenance"]]
    return [name for name in lost if name not in gone]


def holds(folder: Path, secret: str) -> list[str]:
    """Names of the files below a folder in which a text occurs."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [str(path.relative_to(folder)) for path in files if secret.encode() in path.read_bytes()]
