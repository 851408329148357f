"""The command line: plan, run, export, report. `python -m datagen.build` and `datagen build` are the same."""

import argparse
import asyncio
import functools
import os
import shlex
import sqlite3
import sys
import time
import zlib
from pathlib import Path

from datagen.config import Config
from datagen.dialogue.exclusions import read_exclusions
from datagen.dry_run import dry_run_lines
from datagen.engine import Backend, run_tasks, stoppable
from datagen.errors import NoSpace, OverBudget, UsageError
from datagen.estimate import estimate, estimate_lines
from datagen.export.export import export
from datagen.export.part import no_cycles
from datagen.export.tokens import TokenCounter
from datagen.flow import VERSIONS, flow
from datagen.inspect.terminal import plain
from datagen.ledger import Ledger
from datagen.llm.budget import Budget, BudgetedClient, Purse
from datagen.llm.client_address import KEY_VARIABLE
from datagen.llm.models import Models, check_models, open_clients
from datagen.llm.preflight import preflight
from datagen.llm.prices import picture_tokens
from datagen.money import check_counted, cost_of, money_left, preflight_events, spent
from datagen.options import parser
from datagen.pipeline_file import load_config
from datagen.plan import Plan, drop_leftovers, export_key, make_plan, outcome, owed_tasks, prepare
from datagen.progress import Progress, tell
from datagen.publish.card import write_card
from datagen.publish.licences import licence_ledger, open_grants
from datagen.records import Built, Entry
from datagen.report import (
    budget_message,
    calls_made,
    finished_before,
    log_line,
    slowest_lines,
    slowest_of,
    summary_lines,
    write_run_json,
)
from datagen.runner import Runner, Step
from datagen.salvage import is_damage, salvage
from datagen.samples import MANIFEST, make_samples
from datagen.scratch import Scratch
from datagen.sources.listing import list_videos

INTERRUPTED = 130

VIDEOS_WAITING = 64
"""Videos open on each runner beyond those the processor works on, where models are asked ..."""

VIDEOS_IN_BATCHES = 2000
"""... and where they are asked in batches, the larger the better."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    argv = argv[1:] if argv[:1] == ["build"] else argv
    args = parser().parse_args(argv)
    again = "python -m datagen.build " + shlex.join(argv)
    with stoppable():
        try:
            return _mending(args, again)
        except UsageError as error:
            print(f"datagen: {plain(_message(error))}", file=sys.stderr)
            return 2
        except (NoSpace, sqlite3.OperationalError, OSError) as error:
            print(f"datagen: --out {args.out}: cannot be written: {_message(error)}", file=sys.stderr)
            print(f"What was done is kept. Make room, then go on with: {again}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            return _interrupted(again)


def _mending(args: argparse.Namespace, again: str) -> int:
    """Build; where the ledger turns out to be damaged, once more from what can be read of it."""
    try:
        return build(args, again)
    except (UsageError, sqlite3.DatabaseError, zlib.error, UnicodeDecodeError) as error:
        if not is_damage(error):
            raise
    print(f"datagen: {salvage(Path(args.out).resolve() / '.work')}", file=sys.stderr)
    return build(args, again)


def build(args: argparse.Namespace, again: str) -> int:
    """Plan, run and export one build; returns the exit status."""
    started = time.monotonic()
    overrides = args.set + ([f"seed={args.seed}"] if args.seed is not None else [])
    config = load_config(args.pipeline, overrides)
    read_exclusions(config.dataset)  # a bad list stops the build before it begins
    models = check_models(
        Models(
            llm_url=args.llm_url,
            llm_model=args.llm_model,
            vlm_url=args.vlm_url,
            vlm_model=args.vlm_model,
            max_in_flight=args.max_in_flight,
            file_urls=args.file_urls,
            batch=args.batch,
        )
    )
    out = Path(args.out).resolve()
    with no_cycles():
        listed = list_videos(args.videos) if args.videos else None
    ledger = Ledger(out / ".work")
    try:
        entries, rejected = listed or list_videos(_samples(out, args.quiet))
        entries = entries[: args.limit]
        if args.retry_failed and not args.dry_run:
            ledger.forget_failures(None if args.retry_failed == "all" else args.retry_failed)
        with no_cycles():
            plan = make_plan(entries, rejected, config, models, ledger, out / "frames")
        if args.dry_run:
            lines = dry_run_lines(plan, config, models, ledger, out, args.retry_failed)
            tell("\n".join(map(plain, lines)), sys.stdout)
            return 0
        if args.estimate:
            prepare(plan, config, ledger, out / "frames")
            print(
                "\n".join(
                    estimate_lines(
                        estimate(plan, config, models, ledger, out / "frames", args.workers), config.seed
                    )
                )
            )
            return 0
        # To add up a million calls takes a second, and nothing is said of them when nothing is owed.
        paid: float = spent(ledger.costs(), config.prices)["usd"] if plan.owed else 0.0
        progress = Progress(len(plan.owed), args.quiet, args.log_json, config.prices, paid)
        if plan.owed and not _run(plan, config, models, out, ledger, args, progress):
            _unfinished(out, config, ledger)
            return _interrupted(again)
        with stoppable():  # again: an event loop that ends leaves the system's own handlers in place
            return _finish(plan, config, models, out, ledger, args, progress, started)
    except OverBudget as why:
        _unfinished(out, config, ledger)
        print(budget_message(plan, config, ledger, args.budget_usd, _message(why), again), file=sys.stderr)
        return INTERRUPTED
    finally:
        ledger.close()


def _samples(out: Path, quiet: bool) -> Path:
    if not quiet:
        print("No --videos given: building from four sample videos.", file=sys.stderr)
    return make_samples(out / "samples") / MANIFEST


def _run(
    plan: Plan,
    config: Config,
    models: Models,
    out: Path,
    ledger: Ledger,
    args: argparse.Namespace,
    progress: Progress,
) -> bool:
    """Run what is owed; False when interrupted. Raises OverBudget."""
    TokenCounter(config)  # a tokenizer that cannot be used stops the build before it begins
    _unfinished(out, config, ledger)
    purse = _purse(config, models, out, ledger, args.budget_usd)
    prepare(plan, config, ledger, out / "frames")
    backend: Backend = args.backend
    work = run_tasks(
        owed_tasks(plan, ledger, out / "frames"),
        len(plan.owed),
        functools.partial(make_runner, config, models, out, args.workers, purse),
        ledger,
        progress.update,
        backend,
        args.ray_address,
        # Calls wait while the processor works: enough videos are open to keep both busy.
        window=4 * args.workers + _waiting(models),
        with_gpus=bool(models.llm_folder or models.vlm_folder),
    )
    try:
        return asyncio.run(work)
    finally:
        progress.close()
        drop_leftovers(out / "frames")


def _waiting(models: Models) -> int:
    if not models.llm_model:
        return 0
    return VIDEOS_IN_BATCHES if models.in_batches else VIDEOS_WAITING


def _unfinished(out: Path, config: Config, ledger: Ledger) -> None:
    again = "run the same command again to go on"
    table = spent(ledger.costs(), config.prices)
    write_run_json(out, {"status": "unfinished", "command": again, "spent": table})


def _purse(
    config: Config, models: Models, out: Path, ledger: Ledger, budget_usd: float | None
) -> Path | None:
    """Find out whether the endpoints answer, and put what is left to spend into a purse, if it is limited."""
    if budget_usd is not None:
        money_left(budget_usd, ledger.costs(), models, config.prices)
    asked = asyncio.run(preflight(models, os.environ.get(KEY_VARIABLE)))
    ledger.add(preflight_events(asked))
    if budget_usd is None:
        return None
    check_counted(asked)
    purse = out / ".work" / "purse.json"
    Purse.fill(purse, money_left(budget_usd, ledger.costs(), models, config.prices))
    return purse


def make_runner(
    config: Config, models: Models, out: Path, workers: int, purse: Path | None, name: str, of: int
) -> Runner:
    """The runner called `name`, wherever it lives; one `of` so many on its machine."""
    frames = out / "frames"
    clients = open_clients(models, frames, out / ".work" / "batches", config.calls)
    a_picture = picture_tokens(config.frames.max_pixels)
    if purse:
        budget = Budget(purse, name, config.prices, a_picture, batch=models.batch)
        clients = {kind: BudgetedClient(client, budget) for kind, client in clients.items()}

    children = max(1, workers // of)
    scratch = Scratch(children + 1)

    async def run_flow(step: Step, entry: Entry) -> Built:
        return await flow(step, entry, config, frames, models, clients, scratch)

    spool = out / ".work" / "spool" / f"{name}.jsonl"
    closing = [scratch.close, *(client.close for client in clients.values())]
    costs = functools.partial(cost_of, a_picture, models.batch)
    return Runner(run_flow, VERSIONS, spool, children, config.limits.memory_mb, closing, costs)


def _finish(
    plan: Plan,
    config: Config,
    models: Models,
    out: Path,
    ledger: Ledger,
    args: argparse.Namespace,
    progress: Progress,
    started: float,
) -> int:
    """Export if anything changed, say what there is, and judge whether it is enough."""
    with no_cycles():
        found = outcome(plan, ledger)
        key = export_key(found, config)
    result = finished_before(out, key)
    fresh = result is None
    if result is None:
        _unfinished(out, config, ledger)  # from here on the tables may be of two exports
        builts = functools.partial(ledger.packed, found.built_keys)
        counts = export(builts, found.rejected, out, config, args.workers)
        result = {
            "status": "done",
            "export_key": key,
            "pipeline": config,
            "videos_listed": found.listed,
            "failures": found.failures,
            "models": {"llm": models.llm_model, "vlm": models.vlm_model},
            "model_calls": calls_made(ledger),
            "spent": spent(ledger.costs(), config.prices),
            "steps_run": dict(sorted(progress.ran.items())),
            "workers": args.workers,
            "seconds": round(time.monotonic() - started, 3),
            **counts,
        }
        published = result["rows"]["videos/train"]
        result["licences"] = licence_ledger(open_grants(out).terms) if published else []
        if published:
            write_run_json(out, {**result, "export_key": ""})  # a run that dies here exports once more
            write_card(out)
        write_run_json(out, result)
    slowest, seconds = slowest_of(progress, plan), time.monotonic() - started
    if args.log_json:
        told = {name: result[name] for name in ("videos_listed", "failures", "rows", "drops", "spent")}
        told |= {"slowest": slowest, "run_json": str(out / "run.json"), "seconds": round(seconds, 1)}
        tell(log_line("done", **told), sys.stdout)
    elif not args.quiet:
        lines = summary_lines(result, out, fresh, seconds) + slowest_lines(slowest)
        tell("\n".join(map(plain, lines)), sys.stdout)
    return _verdict(sum(found.failures.values()), found.listed, config)


def _verdict(failed: int, total: int, config: Config) -> int:
    allowed = config.limits.max_failures
    if failed <= (allowed * total if allowed < 1 else allowed):
        return 0
    print(
        f"datagen: {failed} of {total} videos failed, more than limits.max_failures ({allowed:g}) allows",
        file=sys.stderr,
    )
    return 1


def _message(error: Exception) -> str:
    """Ray wraps what an actor raises, and puts a traceback into the message."""
    return str(getattr(error, "cause", error))


def _interrupted(again: str) -> int:
    print(f"Interrupted; what was done is kept. Go on with: {again}", file=sys.stderr)
    return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
