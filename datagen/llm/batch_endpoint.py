"""Calls of OpenAI's Files and Batch APIs, each tried until it is answered or patience ends."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import Struct

from datagen.errors import UsageError
from datagen.llm.batch_files import ENDPOINT, BatchLimits
from datagen.llm.client_address import KEY_VARIABLE, Place, read_address, read_key
from datagen.llm.client_reply import Fault, read_fault
from datagen.llm.transport_http import Response

if TYPE_CHECKING:
    from openai import AsyncOpenAI

T = TypeVar("T")

_MARK = "datagen"
"""Key of our mark in a batch's metadata."""
_PAGES = 20
"""Of 100 batches each, newest first, that are searched for a mark."""
_DELETE_SECONDS = 10.0
_FIRST_TRIES = 5
"""An endpoint that has never answered is not waited for: its address may be wrong."""


class BatchError(Struct):
    """Why a batch was turned away as a whole."""

    code: str | None = None
    message: str | None = None
    line: int | None = None
    """Of the file of requests, from 1."""


class Batch(Struct):
    """A batch, as far as it is read here (OpenAI API reference, "The batch object")."""

    id: str
    status: str = ""
    input_file_id: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: Any = None
    metadata: Any = None

    @property
    def reasons(self) -> list[BatchError]:
        """Why it failed, where it says so in a form that can be read."""
        try:
            return msgspec.convert(self.errors["data"], list[BatchError])
        except (TypeError, KeyError, msgspec.ValidationError):
            return []

    def carries(self, file_id: str, mark: str) -> bool:
        """Whether it was created here, of this file and with this mark."""
        own = isinstance(self.metadata, dict) and self.metadata.get(_MARK) == mark
        return own and self.input_file_id == file_id


class _Page(Struct):
    data: list[Batch]
    has_more: bool | None = None


class _File(Struct):
    id: str


class BatchEndpoint:
    """One endpoint. Its methods raise Fault when a call fails for good, UsageError when all calls would."""

    def __init__(self, url: str, key: str | None, limits: BatchLimits) -> None:
        address = read_address(url)
        self.place = Place(address.shown.removesuffix("/chat/completions"), read_key(key))
        self._query = dict(parse_qsl(address.path.partition("?")[2]))
        self._limits = limits
        self._client: AsyncOpenAI | None = None
        self._opening = asyncio.Lock()
        self._answered = False

    async def close(self) -> None:
        """End all connections."""
        if self._client is not None:
            await self._client.close()

    async def upload(self, name: str, file: BinaryIO) -> str:
        """Id of a file of requests, newly uploaded."""

        async def upload(client: "AsyncOpenAI") -> str:
            file.seek(0)
            raw = await client.files.with_raw_response.create(file=(name, file), purpose="batch")
            return _read(raw.content, _File).id

        return await self._tried("upload a file", upload)

    async def create(self, file_id: str, mark: str) -> str:
        """Id of a batch of the requests in a file. However often it has to be tried, it is one batch."""
        doubtful = False

        async def create(client: "AsyncOpenAI") -> str:
            nonlocal doubtful
            if doubtful and (batch_id := await _marked(client, file_id, mark)):
                return batch_id
            doubtful = True
            raw = await client.batches.with_raw_response.create(
                input_file_id=file_id,
                endpoint=ENDPOINT,
                completion_window="24h",
                metadata={_MARK: mark},
            )
            return _read(raw.content, Batch).id

        return await self._tried("create a batch", create)

    async def find(self, file_id: str, mark: str) -> str:
        """Id of the batch that was created of a file with a mark; empty where there is none."""
        return await self._tried("list batches", lambda client: _marked(client, file_id, mark))

    async def retrieve(self, batch_id: str) -> Batch:
        """How a batch stands. Raises Fault of status 404 where it is gone."""

        async def retrieve(client: "AsyncOpenAI") -> Batch:
            batch = _read((await client.batches.with_raw_response.retrieve(batch_id)).content, Batch)
            if batch.id != batch_id:
                raise Fault("broken", "told of another batch than the one asked for", 200)
            return batch

        return await self._tried(f"look at batch {batch_id}", retrieve, named=True)

    async def download(self, file_id: str, into: BinaryIO) -> None:
        """Append the content of a file. Raises Fault of status 404 where it is gone."""
        start = into.seek(0, 2)

        async def download(client: "AsyncOpenAI") -> None:
            into.seek(start)
            into.truncate()
            async with client.files.with_streaming_response.content(file_id) as response:
                async for chunk in response.iter_bytes(1 << 20):
                    await asyncio.to_thread(into.write, chunk)
            into.write(b"\n")
            into.flush()

        await self._tried(f"download file {file_id}", download, named=True)

    async def delete(self, file_id: str) -> None:
        """Delete a file, if that takes no more than one try."""
        client = await self._open()
        from openai import OpenAIError

        try:
            await client.files.delete(file_id, timeout=_DELETE_SECONDS)
        except OpenAIError:
            return  # such files end by themselves, after 30 days at OpenAI

    async def _open(self) -> "AsyncOpenAI":
        async with self._opening:
            if self._client is None:
                self._client = await asyncio.to_thread(self._new_client)
        return self._client

    def _new_client(self) -> "AsyncOpenAI":
        from openai import AsyncOpenAI  # takes a second to import

        return AsyncOpenAI(
            api_key=self.place.key or "none",
            base_url=self.place.shown,
            default_query=self._query,
            timeout=self._limits.call_seconds,
            max_retries=0,
        )

    async def _tried(
        self, what: str, call: Callable[["AsyncOpenAI"], Awaitable[T]], *, named: bool = False
    ) -> T:
        """Result of a call. `named`: it names something of the endpoint's, which may be gone."""
        client = await self._open()
        from httpx2 import HTTPError
        from openai import APIError

        loop = asyncio.get_running_loop()
        until = loop.time() + self._limits.patience_seconds
        pause, tries = self._limits.backoff_seconds, 0
        while True:
            tries += 1
            try:
                result = await call(client)
                self._answered = True
                return result
            except (APIError, HTTPError) as error:
                fault = _fault_of(error)
            except Fault as error:
                fault = error
            self._judge(what, fault, named, tries)
            wait = max(pause, fault.wait or 0.0)
            if loop.time() + wait > until:
                raise Fault("unusable", f"{what}: {self.place.safe(fault.text)}", fault.status)
            await asyncio.sleep(wait)
            pause = min(2 * pause, self._limits.max_backoff_seconds)

    def _judge(self, what: str, fault: Fault, named: bool, tries: int) -> None:
        """Return if the call is worth another try."""
        text = f"{what}: {self.place.safe(fault.text)}"
        self._answered = self._answered or fault.status > 0
        if fault.status in (404, 405, 501):
            if named:
                raise Fault("broken", text, 404)
            raise UsageError(
                f"{self.place.shown}: seems to have no Batch API ({text}); check the URL, leave out --batch, "
                "or give jsonl:FOLDER as the URL to have files written for `vllm run-batch`"
            )
        if fault.kind == "fatal" or (not self._answered and tries >= _FIRST_TRIES):
            raise UsageError(f"{self.place.shown}: {text}; check the URL and {KEY_VARIABLE}")
        if fault.kind in ("unusable", "unsupported", "refused"):
            raise Fault("unusable", text, fault.status)


async def _marked(client: "AsyncOpenAI", file_id: str, mark: str) -> str:
    after: dict[str, str] = {}
    for _ in range(_PAGES):
        raw = await client.batches.with_raw_response.list(limit=100, extra_query=after)
        page = _read(raw.content, _Page)
        for batch in page.data:
            if batch.carries(file_id, mark):
                return batch.id
        if not page.has_more or not page.data:
            break
        after = {"after": page.data[-1].id}
    return ""


def _read(body: bytes, kind: type[T]) -> T:
    # The package takes any JSON, and even HTML, for what was asked for; so its models are not used here.
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Fault("broken", f"status 200 with something else than was asked for ({error})", 200) from None


def _fault_of(error: Exception) -> Fault:
    from openai import APIStatusError

    if isinstance(error, APIStatusError):
        response = error.response
        headers = {name.lower(): value for name, value in response.headers.items()}
        return read_fault(Response(response.status_code, headers, response.content))
    cause = error.__cause__ or error
    return Fault("down", f"no answer: {' '.join(str(cause).split())[:200] or type(cause).__name__}")
