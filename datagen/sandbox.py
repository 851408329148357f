"""Killable child processes: a step that crashes, hangs or bloats costs its own item alone.

A child is `python -m datagen.sandbox`: a session of its own that dies with its parent, has a memory
limit, and runs one named function after another. What a function has started ends with it. Requests and
replies are JSON behind a four-byte length, on pipes that no library can print into.
"""

import asyncio
import contextlib
import ctypes
import errno
import importlib
import inspect
import os
import resource
import signal
import struct
import subprocess
import sys
import typing
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import cache
from typing import Any, BinaryIO

import msgspec
from msgspec import Struct

from datagen.errors import FAILURES, Crashed, Failure, NoSpace, OutOfMemory, Timeout
from datagen.guard import MARK, end_children, end_guard, kill_tree, new_mark, start_guard

ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
"""Environment in which numerical libraries start no threads, which would spin for work that never comes."""

ATTEMPTS = 3
"""A child that dies may have been killed by something else: the step is tried this often."""

_NAP = 1.0
"""Seconds that count at most, however long this process was stopped meanwhile."""

CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)


class Request(Struct):
    """One call: `function` as `module:name`, and its arguments as JSON."""

    function: str
    args: msgspec.Raw


class Reply(Struct):
    """What came of it: a value as JSON, or the failure's class and message."""

    value: msgspec.Raw = msgspec.Raw(b"null")
    code: str | None = None
    detail: str = ""


class Children:
    """A fixed number of children, started when first needed."""

    def __init__(self, count: int, memory_mb: int) -> None:
        self._memory_mb = memory_mb
        self._idle: asyncio.Queue[Process | None] = asyncio.Queue()
        self._all: set[Process] = set()
        self._mark = new_mark()
        self._guard: subprocess.Popen[bytes] | None = None
        for _ in range(count):
            self._idle.put_nowait(None)

    async def call(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        seconds: float,
        begin: Callable[[], None] = lambda: None,
    ) -> bytes:
        """Run `function(*args)` in a child and return its result as JSON. `begin` is called once one is free.

        Raises Timeout after `seconds`, OutOfMemory, Crashed when the child died `ATTEMPTS` times, or
        whatever Failure the function raised.
        """
        name = f"{function.__module__}:{function.__qualname__}"
        request = msgspec.json.encode(Request(name, msgspec.Raw(msgspec.json.encode(args))))
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with self._child() as child:
                    begin()
                    reply = await _awake(_exchange(child, request), seconds)
            except TimeoutError:
                raise Timeout(f"{function.__name__} took longer than {seconds:.0f} s") from None
            except (asyncio.IncompleteReadError, ConnectionError, msgspec.DecodeError):
                if attempt == ATTEMPTS:
                    how = await _cause_of_death(child)
                    died = f"{function.__name__} ended its process {attempt} times: {how}"
                    raise Crashed(died) from None
                continue
            if reply.code == NoSpace.__name__:
                raise NoSpace(reply.detail)
            if reply.code is not None:
                raise FAILURES.get(reply.code, Crashed)(reply.detail)
            return bytes(reply.value)
        raise AssertionError("unreachable")

    @contextlib.asynccontextmanager
    async def _child(self) -> AsyncIterator[Process]:
        """A child for one call; it is killed when the call does not come to its end."""
        child = await self._idle.get()
        try:
            if child is None or child.returncode is not None:
                child = await self._start()
            yield child
        except BaseException:
            if child is not None:
                kill_tree(child.pid)
                self._all.discard(child)
            child = None
            raise
        finally:
            self._idle.put_nowait(child)

    async def _start(self) -> Process:
        if self._guard is None:
            self._guard = start_guard(self._mark)
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "datagen.sandbox",
            str(os.getpid()),
            str(self._memory_mb),
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            start_new_session=True,
            env=os.environ | ONE_THREAD | {MARK: self._mark},
        )
        self._all.add(child)
        return child

    async def close(self) -> None:
        """End all children and whatever they have started, at once."""
        for child in self._all:
            if child.returncode is None:
                child.kill()  # the guard may have been killed itself
        if self._guard is not None:
            end_guard(self._guard)
            self._guard = None
        await asyncio.gather(*(child.wait() for child in self._all))
        self._all.clear()


async def _awake(work: Coroutine[Any, Any, Reply], seconds: float) -> Reply:
    """What `work` returns. Raises TimeoutError after `seconds` in which this process was not stopped itself
    (Ctrl-Z, a closed lid): then what came meanwhile has still to be read.
    """
    task = asyncio.ensure_future(work)
    try:
        while seconds > 0 and not task.done():
            await asyncio.wait([task], timeout=min(seconds, _NAP))
            seconds -= _NAP
        if not task.done():
            raise TimeoutError
        return task.result()
    finally:
        task.cancel()


async def _exchange(child: Process, request: bytes) -> Reply:
    assert child.stdin is not None and child.stdout is not None
    child.stdin.write(struct.pack(">I", len(request)) + request)
    await child.stdin.drain()
    (length,) = struct.unpack(">I", await child.stdout.readexactly(4))
    return msgspec.json.decode(await child.stdout.readexactly(length), type=Reply)


async def _cause_of_death(child: Process) -> str:
    status = await child.wait()
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


def serve() -> None:
    """The child's side: answer requests until the parent closes the pipe or dies."""
    parent, memory_mb = int(sys.argv[1]), int(sys.argv[2])
    die_with(parent)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (memory_mb << 20, memory_mb << 20))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, replies = _private_pipes()
    while len(head := requests.read(4)) == 4:
        request = msgspec.json.decode(requests.read(struct.unpack(">I", head)[0]), type=Request)
        body = msgspec.json.encode(_answer(request))
        end_children()
        replies.write(struct.pack(">I", len(body)) + body)
        replies.flush()


def _answer(request: Request) -> Reply:
    try:
        function, types = _function(request.function)
        raws = msgspec.json.decode(request.args, type=list[msgspec.Raw])
        # There may be fewer than parameters: the last of these may have defaults.
        args = [msgspec.json.decode(raw, type=kind) for raw, kind in zip(raws, types, strict=False)]
        return Reply(value=msgspec.Raw(msgspec.json.encode(function(*args))))
    except Failure as failure:
        return Reply(code=type(failure).__name__, detail=str(failure))
    except BaseException as error:
        if isinstance(error, OSError) and error.errno in CANNOT_WRITE:
            return Reply(code=NoSpace.__name__, detail=str(error))
        if _out_of_memory(error):
            return Reply(code=OutOfMemory.__name__, detail="needed more memory than limits.memory_mb allows")
        where = error.__traceback__
        while where and where.tb_next:
            where = where.tb_next
        at = f"{where.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{where.tb_lineno}" if where else "?"
        return Reply(code=Crashed.__name__, detail=f"{type(error).__name__} at {at}: {error}")


def _out_of_memory(error: BaseException) -> bool:
    text = str(error)
    return isinstance(error, MemoryError) or "Insufficient memory" in text or "Cannot allocate memory" in text


@cache
def _function(name: str) -> tuple[Callable[..., Any], list[Any]]:
    """A function, and the types of its parameters."""
    module, _, attribute = name.partition(":")
    function = getattr(importlib.import_module(module), attribute)
    hints = typing.get_type_hints(function)
    return function, [hints[parameter] for parameter in inspect.signature(function).parameters]


def die_with(parent: int) -> None:
    """End this process when its parent has died, however that came, and have it inherit orphans."""
    if sys.platform == "linux":
        pr_set_pdeathsig, pr_set_child_subreaper = 1, 36
        system = ctypes.CDLL(None)
        system.prctl(pr_set_pdeathsig, signal.SIGKILL)
        system.prctl(pr_set_child_subreaper, 1)  # whatever a step leaves behind can be found and killed
    if os.getppid() != parent:
        os._exit(1)


def _private_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Move the pipes off file descriptors 0 and 1, which libraries read and print to."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    return requests, replies


if __name__ == "__main__":
    serve()
