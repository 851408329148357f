"""An endpoint with OpenAI's Files and Batch APIs, on loopback, that misbehaves in the ways a test wants."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

from aiohttp import web

KEY = "sk-batch-secret-0123"
Line = dict[str, Any]


def body_for(request: Line, text: str | None = None, finish: str = "stop") -> Line:
    """A completion; by default it repeats the last message."""
    content = request["body"]["messages"][-1]["content"]
    said = content if isinstance(content, str) else content[-1].get("text", "a picture")
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": request["body"]["model"],
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text or f"answer to {said}"},
                "finish_reason": finish,
            }
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }


def good(request: Line, **options: Any) -> Line:
    response = {"status_code": 200, "request_id": "r", "body": body_for(request, **options)}
    return {"id": "b", "custom_id": request["custom_id"], "response": response, "error": None}


def bad(request: Line, status: int, message: str, code: str | None = None) -> Line:
    response = {
        "status_code": status,
        "request_id": "r",
        "body": {"error": {"message": message, "code": code}},
    }
    return {"id": "b", "custom_id": request["custom_id"], "response": response, "error": None}


def expired(request: Line) -> Line:
    error = {"code": "batch_expired", "message": "could not be executed in time"}
    return {"id": "b", "custom_id": request["custom_id"], "response": None, "error": error}


def read_strictly(data: bytes) -> list[Line]:
    """Requests as the documentation of the format demands them."""
    assert data.endswith(b"\n")
    requests = [json.loads(line) for line in data.splitlines()]
    for request in requests:
        assert set(request) == {"custom_id", "method", "url", "body"}, request.keys()
        assert request["method"] == "POST" and request["url"] == "/v1/chat/completions"
        assert 0 < len(request["custom_id"]) <= 64
        assert request["body"]["messages"] and request["body"]["max_tokens"] > 0
    names = [request["custom_id"] for request in requests]
    assert len(set(names)) == len(names), "custom_id twice"
    assert len({request["body"]["model"] for request in requests}) == 1, "several models"
    return requests


class BatchServer:
    """`async with BatchServer() as server`: `answer` makes the line for a request, `finish` ends a batch.

    `faults[what]` are handled first, one for each request: a status, "reset" before or "lost" or "stuck"
    after the thing was done, "html", or "hang". What: upload, create, retrieve, list, content, delete.
    `before[what]` and `after[what]` are called once, when a request has come and when it was carried out.
    """

    def __init__(self) -> None:
        self.faults: dict[str, list[Any]] = {}
        self.before: dict[str, Callable[[], None]] = {}
        self.after: dict[str, Callable[[], None]] = {}
        self.answer: Callable[[Line], Line | None] = good
        self.finish: Callable[[Line, list[Line], list[Line]], None] = complete
        self.polls = 1
        """Looks at a batch before it has ended."""
        self.hidden = 0
        """Lists of batches that do not show the newest one yet."""
        self.calls: Counter[str] = Counter()
        self.batches: dict[str, Line] = {}
        self.files: dict[str, bytes] = {}
        self.deleted: list[str] = []
        self.paid: Counter[str] = Counter()
        """How often each custom_id was answered."""
        self.port = 0

    async def __aenter__(self) -> "BatchServer":
        app = web.Application(client_max_size=1 << 30)
        for method, path, handler in (
            ("POST", "/v1/files", self._upload),
            ("GET", "/v1/files/{id}/content", self._content),
            ("DELETE", "/v1/files/{id}", self._delete),
            ("POST", "/v1/batches", self._create),
            ("GET", "/v1/batches/{id}", self._retrieve),
            ("GET", "/v1/batches", self._list),
        ):
            app.router.add_route(method, path, self._guarded(handler))
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._runner.cleanup()

    def _guarded(self, handler: Callable[[web.Request], Any]) -> Callable[[web.Request], Any]:
        what = handler.__name__.removeprefix("_")

        async def guarded(request: web.Request) -> web.StreamResponse:
            self.calls[what] += 1
            fault = self.faults[what].pop(0) if self.faults.get(what) else None
            if request.headers.get("Authorization") != f"Bearer {KEY}":
                return problem(401, f"Incorrect API key: {request.headers.get('Authorization')}")
            self.before.pop(what, lambda: None)()
            if isinstance(fault, int):
                return problem(fault, f"{what} refused")
            if fault == "hang":
                await asyncio.sleep(600)
            if fault == "reset":
                return cut(request)
            if fault == "html":
                return web.Response(text="<html>try again</html>", content_type="text/html")
            response = await handler(request)
            self.after.pop(what, lambda: None)()
            if fault == "stuck":
                await asyncio.sleep(600)
            return cut(request) if fault == "lost" else response

        return guarded

    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        assert form["purpose"] == "batch" and form["file"].filename.endswith(".jsonl")
        name = f"file-{len(self.files)}"
        self.files[name] = form["file"].file.read()
        return web.json_response({"id": name, "object": "file", "purpose": "batch"})

    async def _create(self, request: web.Request) -> web.Response:
        asked = await request.json()
        assert asked["endpoint"] == "/v1/chat/completions" and asked["completion_window"] == "24h"
        name = f"batch_{len(self.batches)}"
        batch = {"id": name, "object": "batch", "status": "validating", "looks": 0, **asked}
        self.batches[name] = batch
        return web.json_response(batch)

    async def _retrieve(self, request: web.Request) -> web.Response:
        batch = self.batches.get(request.match_info["id"])
        if batch is None:
            return problem(404, "no such batch")
        batch["looks"] += 1
        if batch["looks"] > self.polls and batch["status"] in ("validating", "in_progress"):
            requests = read_strictly(self.files[batch["input_file_id"]])
            self.finish(batch, requests, [line for r in requests if (line := self.answer(r)) is not None])
            for key in ("output", "error"):
                if key in batch:
                    lines = batch.pop(key)
                    self.paid.update(x["custom_id"] for x in lines if key == "output" and isinstance(x, dict))
                    name = f"file-{len(self.files)}"
                    self.files[name] = b"".join(
                        line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n"
                        for line in lines
                    )
                    batch[f"{key}_file_id"] = name
        return web.json_response(batch)

    async def _list(self, request: web.Request) -> web.Response:
        newest = list(self.batches.values())[::-1]
        if self.hidden:
            self.hidden -= 1
            newest = newest[1:]
        if after := request.query.get("after"):
            newest = newest[[batch["id"] for batch in newest].index(after) + 1 :]
        page = newest[: min(2, int(request.query["limit"]))]
        return web.json_response({"object": "list", "data": page, "has_more": len(newest) > len(page)})

    async def _content(self, request: web.Request) -> web.Response:
        if request.match_info["id"] not in self.files:
            return problem(404, "no such file")
        return web.Response(body=self.files[request.match_info["id"]])

    async def _delete(self, request: web.Request) -> web.Response:
        self.deleted.append(request.match_info["id"])
        return web.json_response({"id": request.match_info["id"], "object": "file", "deleted": True})


def complete(batch: Line, requests: list[Line], lines: list[Line]) -> None:
    """End a batch as OpenAI does: replies of status 200 in one file, all others in another."""
    fine: list[Line] = []
    rest: list[Line] = []
    for line in lines:
        well = line["response"] and line["response"]["status_code"] == 200
        (fine if well else rest).append(line)
    batch["status"] = "completed"
    if fine:
        batch["output"] = fine
    if rest:
        batch["error"] = rest


def problem(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"message": message, "code": None}}, status=status)


def cut(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()
