"""The command line: plan, run, export, report. `python -m datagen.build` and `datagen build` are the same."""

import argparse
import asyncio
import functools
import os
import shlex
import sqlite3
import sys
import time
from collections import Counter
from pathlib import Path

from datagen.config import Config, load_config
from datagen.engine import Backend, run_tasks
from datagen.errors import FAILURES, NoSpace, UsageError
from datagen.export.export import export
from datagen.flow import VERSIONS, flow
from datagen.ledger import Ledger
from datagen.llm.models import Models, check_models, open_clients
from datagen.plan import Plan, export_key, make_plan, outcome, owed_tasks, prepare, read_built
from datagen.progress import Progress
from datagen.records import Built, Entry
from datagen.report import calls_made, finished_before, plan_lines, summary_lines, write_run_json
from datagen.runner import Runner, Step
from datagen.samples import make_samples
from datagen.sources.listing import list_videos

INTERRUPTED = 130

VIDEOS_WAITING = 64
"""Videos open on each runner beyond those the processor works on, where models are asked."""


def parser() -> argparse.ArgumentParser:
    """The command line's grammar and help."""
    p = argparse.ArgumentParser(
        prog="datagen build",
        description="Build streaming dialogues, every turn labelled silent or reply, from videos.",
        epilog="Running the same command again goes on where it stopped. With no --videos it renders four "
        "short sample videos below OUT and builds from them. Exit status: 0 done; 1 done, but more videos "
        "failed than limits.max_failures; 2 wrong usage; 130 interrupted.",
    )
    p.add_argument("--pipeline", default="nqna", help="1qna, nqna, mixed, or the path of a pipeline file")
    p.add_argument("--videos", metavar="PATH", help="a folder, a video, or a .jsonl/.csv/.parquet manifest")
    p.add_argument("--out", default="out", help="where the dataset goes (default: %(default)s)")
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
            metavar="URL",
            help=f"the OpenAI-compatible endpoint that {work}; its key is taken from OPENAI_API_KEY. "
            "Without one, rules do",
        )
        p.add_argument(f"--{kind}-model", metavar="NAME", help="the model's name there")
    p.add_argument(
        "--max-in-flight", type=_positive, metavar="N", help="calls at a time; without it, found out"
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
    p.add_argument("--ray-address", metavar="ADDR", help="join this Ray cluster, such as auto or HOST:6379")
    p.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    p.add_argument("--quiet", action="store_true", help="no progress, only errors")
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    args = parser().parse_args(argv[1:] if argv[:1] == ["build"] else argv)
    again = "python -m datagen.build " + shlex.join(a for a in argv if a != "build")
    try:
        return build(args, again)
    except UsageError as error:
        print(f"datagen: {error}", file=sys.stderr)
        return 2
    except (NoSpace, sqlite3.OperationalError, OSError) as error:
        print(f"datagen: --out {args.out}: cannot be written: {error}", file=sys.stderr)
        print(f"What was done is kept. Make room, then go on with: {again}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return _interrupted(again)


def build(args: argparse.Namespace, again: str) -> int:
    """Plan, run and export one build; returns the exit status."""
    started = time.monotonic()
    overrides = args.set + ([f"seed={args.seed}"] if args.seed is not None else [])
    config = load_config(args.pipeline, overrides)
    models = check_models(
        Models(
            llm_url=args.llm_url,
            llm_model=args.llm_model,
            vlm_url=args.vlm_url,
            vlm_model=args.vlm_model,
            max_in_flight=args.max_in_flight,
        )
    )
    out = Path(args.out).resolve()
    listed = list_videos(Path(args.videos)) if args.videos else None
    ledger = Ledger(out / ".work")
    try:
        entries, rejected = listed or list_videos(_samples(out, args.quiet))
        entries = entries[: args.limit]
        if args.retry_failed and not args.dry_run:
            ledger.forget_failures(None if args.retry_failed == "all" else args.retry_failed)
        plan = make_plan(entries, rejected, config, models, ledger, out / "frames")
        if args.dry_run:
            print("\n".join(plan_lines(plan, ledger)))
            return 0
        progress = Progress(len(plan.owed), args.quiet)
        if plan.owed and not _run(plan, config, models, out, ledger, args, progress):
            return _interrupted(again)
        return _finish(plan, config, out, ledger, args, progress.ran, started)
    finally:
        ledger.close()


def _samples(out: Path, quiet: bool) -> Path:
    if not quiet:
        print("No --videos given: building from four sample videos.", file=sys.stderr)
    return make_samples(out / "samples")


def _run(
    plan: Plan,
    config: Config,
    models: Models,
    out: Path,
    ledger: Ledger,
    args: argparse.Namespace,
    progress: Progress,
) -> bool:
    """Run what is owed; False when interrupted."""
    write_run_json(out, {"status": "unfinished", "command": "run the same command again to go on"})
    prepare(plan, config, ledger, out / "frames")
    backend: Backend = args.backend
    work = run_tasks(
        owed_tasks(plan, ledger),
        len(plan.owed),
        functools.partial(make_runner, config, models, out, args.workers),
        ledger,
        progress.update,
        backend,
        args.ray_address,
        # Calls wait while the processor works: enough videos are open to keep both busy.
        window=2 * args.workers + (VIDEOS_WAITING if models.llm_model else 0),
    )
    try:
        return asyncio.run(work)
    finally:
        progress.close()


def make_runner(config: Config, models: Models, out: Path, workers: int, name: str) -> Runner:
    """The runner called `name`, wherever it lives."""
    frames = out / "frames"
    clients = open_clients(models, frames)

    async def run_flow(step: Step, entry: Entry) -> Built:
        return await flow(step, entry, config, frames, models, clients)

    spool = out / ".work" / "spool" / f"{name}.jsonl"
    closing = [client.close for client in clients.values()]
    return Runner(run_flow, VERSIONS, spool, workers, config.limits.memory_mb, closing)


def _finish(
    plan: Plan,
    config: Config,
    out: Path,
    ledger: Ledger,
    args: argparse.Namespace,
    steps_run: Counter[str],
    started: float,
) -> int:
    """Export if anything changed, say what there is, and judge whether it is enough."""
    found = outcome(plan, ledger)
    key = export_key(found, config)
    result = finished_before(out, key)
    fresh = result is None
    if result is None:
        counts = export(lambda: read_built(ledger, found.built_keys), found.rejected, out, config)
        result = {
            "status": "done",
            "export_key": key,
            "pipeline": config,
            "videos_listed": found.listed,
            "failures": found.failures,
            "models": {"llm": args.llm_model, "vlm": args.vlm_model},
            "model_calls": calls_made(ledger),
            "steps_run": dict(sorted(steps_run.items())),
            "workers": args.workers,
            "seconds": round(time.monotonic() - started, 3),
            **counts,
        }
        write_run_json(out, result)
    if not args.quiet:
        print("\n".join(summary_lines(result, out, fresh, time.monotonic() - started)))
    return _verdict(sum(found.failures.values()), found.listed, config, args.quiet)


def _verdict(failed: int, total: int, config: Config, quiet: bool) -> int:
    allowed = config.limits.max_failures
    if failed <= (allowed * total if allowed < 1 else allowed):
        return 0
    if not quiet:
        print(
            f"datagen: {failed} of {total} videos failed, more than limits.max_failures ({allowed:g}) allows",
            file=sys.stderr,
        )
    return 1


def _interrupted(again: str) -> int:
    print(f"Interrupted; what was done is kept. Go on with: {again}", file=sys.stderr)
    return INTERRUPTED


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


if __name__ == "__main__":
    sys.exit(main())
