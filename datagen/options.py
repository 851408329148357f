"""The command line's grammar and help."""

import argparse
import os
from contextlib import suppress

from datagen.errors import FAILURES


def parser() -> argparse.ArgumentParser:
    """The command line's grammar and help."""
    p = argparse.ArgumentParser(
        prog="datagen build",
        description="Build streaming dialogues, every turn labelled silent or reply, from videos.",
        epilog="Running the same command again goes on where it stopped. With no --videos it renders four "
        "short sample videos below OUT and builds from them. Exit status: 0 done; 1 done, but more videos "
        "failed than limits.max_failures; 2 wrong usage; 130 interrupted.",
    )
    p.add_argument(
        "--pipeline", default="nqna", type=_named, help="1qna, nqna, mixed, or the path of a pipeline file"
    )
    p.add_argument(
        "--videos",
        type=_named,
        metavar="PATH",
        help="a folder, a video, or a .jsonl/.csv/.parquet manifest; or the address of one, such as s3://bucket/videos",
    )
    p.add_argument("--out", default="out", type=_named, help="where the dataset goes (default: %(default)s)")
    p.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a value of the pipeline file, such as segment.method=scenes; may be repeated",
    )
    for kind, work in (("llm", "writes the dialogues"), ("vlm", "writes the captions")):
        p.add_argument(
            f"--{kind}-url",
            type=_named,
            metavar="URL",
            help=f"the OpenAI-compatible endpoint that {work} (its key is taken from OPENAI_API_KEY); or "
            "transformers or vllm, to load the model in this process; or jsonl:FOLDER, for `vllm run-batch`. "
            "Without one, rules do",
        )
        p.add_argument(
            f"--{kind}-model",
            type=_named,
            metavar="NAME",
            help="the model's name there, or the folder with its files",
        )
    p.add_argument(
        "--max-in-flight", type=_positive, metavar="N", help="calls at a time; without it, found out"
    )
    p.add_argument(
        "--file-urls",
        action="store_true",
        help="send frames as file:// paths; the endpoint must be allowed to read OUT/frames",
    )
    p.add_argument("--batch", action="store_true", help="make calls through the endpoint's Batch API")
    p.add_argument(
        "--budget-usd",
        type=_dollars,
        metavar="X",
        help="begin no call that might bring what was ever spent on OUT above X, by the file's `prices`",
    )
    p.add_argument("--limit", type=_positive, metavar="N", help="take the first N videos only")
    p.add_argument("--seed", type=int, help="as --set seed=N")
    p.add_argument(
        "--retry-failed",
        nargs="?",
        const="all",
        metavar="CLASS",
        choices=["all", *FAILURES],
        help=f"try failed videos again: all, or one class of {', '.join(FAILURES)}",
    )
    p.add_argument("--workers", type=_positive, default=os.cpu_count() or 1, help="processes on each node")
    p.add_argument(
        "--backend",
        choices=["auto", "ray", "local"],
        default="auto",
        help="local: this process; ray: one actor a node; auto: local for a handful of videos",
    )
    p.add_argument(
        "--ray-address", type=_named, metavar="ADDR", help="join this Ray cluster, such as auto or HOST:6379"
    )
    p.add_argument(
        "--estimate",
        action="store_true",
        help="watch a few of the videos, and predict calls, tokens and cost of all; no model is asked",
    )
    p.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    p.add_argument(
        "--log-json",
        action="store_true",
        help="JSON lines on the standard output, now and then and at the end, in place of bars and summary",
    )
    p.add_argument("--quiet", action="store_true", help="no progress, only errors")
    return p


def _named(text: str) -> str:
    """An empty one is a shell variable that nobody has set; the default in its place would be a surprise."""
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty; leave the option out, or say what it is")
    return text


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"is {text!r}, must be a whole number from 1 up")
    return int(text)


def _dollars(text: str) -> float:
    with suppress(ValueError):
        if 0 < (value := float(text)) < 1e9:
            return value
    raise argparse.ArgumentTypeError(f"is {text!r}, must be a number of dollars above 0")
