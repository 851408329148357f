"""Builds whole datasets against an endpoint that misbehaves, in one way after another: what comes of it?

    python -m benchmarks.model_faults [--videos 24] [--shares 0.2 1] [--outage 60] [--only NAME]

A share of the tries is answered badly: a fifth of them, as by an endpoint in trouble, and all of them. The
time limits of calls are small (`SHORT`), but for the outage and the limits in flight, which have the usual.

`tries`: requests that came in; `bad`: those answered badly; `good`: those answered well; `twice`: good
answers to a request that, to the byte, had had one; `dialog`: dialogues in the dataset; `lost`: videos,
captions and dialogues that are neither there nor in the table of rejections; `keys`: places with the key.
"""

import argparse
import asyncio
import contextlib
import json
import shutil
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.model_builds import (
    KEY,
    Ended,
    Endpoint,
    Fault,
    build,
    build_against,
    holds,
    make_videos,
    model_options,
    table,
    unaccounted,
)
from tests.llm.bad_server import BadServer, Call, completion, http, reset

SHORT = ("--set", "calls.call_seconds=1", "--set", "calls.budget_seconds=4")
TEN_MB = 10_000_000
WRONG_KEY = "sk-wrong-loopback-secret"


def _always(response: bytes) -> Fault:
    async def answer(call: Call, good: bytes) -> bytes:
        return response

    return answer


def _says(text: str) -> Fault:
    """A well-formed response whose reply is this text."""

    async def answer(call: Call, good: bytes) -> bytes:
        return _completed(call, text)

    return answer


def _completed(call: Call, text: str, finish: str = "stop") -> bytes:
    return http(200, completion(text, finish, id=f"chatcmpl-{call.number}"))


async def _reset(call: Call, good: bytes) -> None:
    await reset(call)


async def _close(call: Call, good: bytes) -> None:
    return None


async def _hang(call: Call, good: bytes) -> None:
    await asyncio.sleep(60)


async def _slow_drip(call: Call, good: bytes) -> None:
    for at in range(0, len(good), 8):
        call.send.write(good[at : at + 8])
        await call.send.drain()
        await asyncio.sleep(0.2)


async def _double(call: Call, good: bytes) -> bytes:
    return good + good


async def _duplicate_keys(call: Call, good: bytes) -> bytes:
    """The right reply with its first key given twice."""
    text = json.loads(good.partition(b"\r\n\r\n")[2])["choices"][0]["message"]["content"]
    return _completed(call, f"{{{text[1:].partition(':')[0]}: null, {text[1:]}")


async def _whitespace(call: Call, good: bytes) -> bytes:
    return _completed(call, " " * call.body["max_tokens"], "length")


def _truncated(response: bytes) -> bytes:
    return http(200, response.partition(b"\r\n\r\n")[2][:-30])


async def _truncate(call: Call, good: bytes) -> bytes:
    return _truncated(good)


async def _refuse(call: Call, good: bytes) -> bytes:
    response = completion(None, id=f"chatcmpl-{call.number}")
    response["choices"][0]["message"]["refusal"] = "I cannot help with that."
    return http(200, response)


FAULTS: dict[str, Fault] = {
    "429 with Retry-After: 1": _always(http(429, {"error": {"message": "slow down"}}, "Retry-After: 1")),
    "429 without": _always(http(429, {"error": {"message": "slow down"}})),
    "500": _always(http(500, {"error": {"message": "internal error"}})),
    "502 page": _always(http(502, "<html>Bad Gateway</html>")),
    "503": _always(http(503, "busy")),
    "connection reset": _reset,
    "closed unanswered": _close,
    "hang": _hang,
    "slow drip": _slow_drip,
    "truncated JSON": _truncate,
    "invalid JSON": _always(http(200, "{'choices': []}")),
    "200 with an error": _always(http(200, {"error": {"message": "overloaded", "code": 500}})),
    "HTML": _always(http(200, "<!doctype html><title>Welcome</title>")),
    "doubled response": _double,
    "reply of 10 MB": _says("x" * TEN_MB),
    "reply: invalid JSON": _says('{"seen": "a", }'),
    "reply: wrong schema": _says('{"sight": 1}'),
    "reply: empty": _says(""),
    "reply: duplicate keys": _duplicate_keys,
    "reply: whitespace": _whitespace,
    "refusal": _refuse,
}


async def one_fault(name: str, share: float, videos: Path, out: Path) -> tuple[Endpoint, Ended]:
    """A build against an endpoint with a fault, into `out`."""
    endpoint = Endpoint(fault=FAULTS[name], share=share)
    return endpoint, await build_against(endpoint, videos, out, *SHORT)


async def outage(seconds: float, after: int, videos: Path, out: Path) -> tuple[Endpoint, Ended]:
    """A build whose endpoint goes away after some answers: connections are cut, then there are none."""
    endpoint = Endpoint(seconds=0.1)
    async with contextlib.AsyncExitStack() as first:
        server = await first.enter_async_context(BadServer(endpoint.behave))
        options = (*model_options(server.url), "--max-in-flight", "4")
        ending = asyncio.create_task(build(videos, out, *options))
        while len(endpoint.paid) < after and not ending.done():
            await asyncio.sleep(0.02)
        await first.aclose()
        await asyncio.sleep(seconds)
        async with BadServer(endpoint.behave, server.port):
            return endpoint, await ending


async def fatal(name: str, videos: Path, out: Path) -> tuple[Endpoint, Ended]:
    """A build that asks for an unknown model, or with a wrong key."""
    endpoint = Endpoint()
    more = ("--llm-model", "x", "--vlm-model", "x") if name == "unknown model" else ()
    async with BadServer(endpoint.behave) as server:
        options = (*model_options(server.url), *more)
        return endpoint, await build(videos, out, *options, key=WRONG_KEY if name == "wrong key" else KEY)


HEAD = " tries   bad  good twice dialog exit seconds lost keys  rejected by stage and code"


def row(endpoint: Endpoint, ended: Ended, videos: Path, out: Path) -> str:
    """What came of a build, as a line under HEAD."""
    codes = Counter(f"{rejection['stage']} {rejection['code']}" for rejection in table(out, "rejected"))
    rejected = ", ".join(f"{count} {code}" for code, count in sorted(codes.items()))
    good, dialogues = sum(map(len, endpoint.paid.values())), len(table(out, "dialogues"))
    lost = len(unaccounted(videos, out)) if ended.status != 2 else 0  # With 2 it stopped, and said why.
    keys = sum(len(holds(out, key)) + (key in ended.said) for key in (KEY, WRONG_KEY))
    return (
        f"{endpoint.tries.total():>6} {endpoint.faulty:>5} {good:>5} {len(endpoint.paid_again):>5} "
        f"{dialogues:>6} {ended.status:>4} {ended.seconds:>7.1f} {lost:>4} {keys:>4}  {rejected}"
    )


async def print_table(args: argparse.Namespace, folder: Path) -> None:
    """All rows."""
    videos, decoded, out = make_videos(folder / "videos", args.videos), folder / "decoded", folder / "out"
    await build(videos, decoded, "--quiet")  # The ledger then knows the frames, and no row need decode.
    print(f"{'fault, share of tries':<30} {HEAD}", flush=True)

    def fresh() -> Path:
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(decoded, out)
        for name in ("dialogues", "rejected", "segments", "videos"):
            shutil.rmtree(out / name)
        return out

    def show(name: str, result: tuple[Endpoint, Ended]) -> None:
        print(f"{name:<30} {row(*result, videos, out)}", flush=True)

    for name in FAULTS:
        for share in args.shares if args.only in name else ():
            show(f"{name}, {share:g}", await one_fault(name, share, videos, fresh()))
    if args.only:
        return
    show("none", (endpoint := Endpoint(), await build_against(endpoint, videos, fresh())))
    for most in (64, 16):
        endpoint = Endpoint(seconds=0.1, most=most)
        show(f"{most} in flight at most", (endpoint, await build_against(endpoint, videos, fresh())))
    show(f"outage of {args.outage:g} s", await outage(args.outage, 20, videos, fresh()))
    for name in ("unknown model", "wrong key"):
        show(name, await fatal(name, videos, fresh()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--videos", type=int, default=24, help="small videos, of about five calls each")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.2, 1.0], help="of tries answered badly")
    parser.add_argument("--outage", type=float, default=60, help="seconds without an endpoint")
    parser.add_argument("--only", default="", help="faults whose name holds this")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(print_table(args, Path(folder)))


if __name__ == "__main__":
    main()
