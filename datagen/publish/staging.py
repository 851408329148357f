"""Which files a dataset is published as: its own where all of it may be seen, redacted copies where not."""

import shutil
from pathlib import Path
from typing import Any, Literal

import msgspec

from datagen.errors import Invalid, UsageError
from datagen.export.shards import describe_shard
from datagen.inspect.check import schema_faults
from datagen.inspect.dataset import read_config, read_run, shards
from datagen.inspect.quality import read_quality
from datagen.publish.card import EMBEDDED, PREVIEW, Published, card_text
from datagen.publish.embed import write_embedded, write_preview
from datagen.publish.licences import Grants, licence_ledger
from datagen.publish.redact import redact_run, redact_shard, redact_user_turns
from datagen.publish.writers import read_prompts, read_writers

FrameChoice = Literal["none", "embedded", "preview"]


def staging_folder(out: Path) -> Path:
    """Where the files made for publishing are kept until they are published."""
    return out / ".work" / "push"


def stage(out: Path, frames: FrameChoice, grants: Grants) -> dict[str, Path]:
    """The files to publish: path in the repository to path on disk.

    What has to be made for it goes to the staging folder, which is emptied first; everything else stays
    where it is. The same dataset and choices give the same bytes. Raises UsageError where `out` is not a
    finished build, a frame is missing, or frames are asked for and none may be published.
    """
    try:
        run = read_run(out)
        config = read_config(run)
    except Invalid as error:
        raise UsageError(f"{out}/{error}") from None
    _check_schemas(out)
    work = staging_folder(out)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    if frames != "none" and not grants.whole:
        raise UsageError(
            f"--frames {frames}: no video has a licence that allows it; use --frames none, or name the "
            "licence that does with --licence-ok"
        )
    held = config.export.frames
    if (held == "none" and frames != "none") or (held == "embedded" and frames != "embedded"):
        wanted = "embedded" if held == "embedded" else "none"
        raise UsageError(f"--frames {frames}: built with export.frames={held}; push with --frames {wanted}")
    try:
        files = _tables(out, work, grants)
        if frames != "none" and write_preview(out, work / PREVIEW, grants.whole, config):
            files[PREVIEW] = work / PREVIEW
        sft = [path for name, path in files.items() if name.startswith("sft/")]
        if frames == "embedded" and sft:
            for path in write_embedded(out, sft, work / EMBEDDED):
                files[f"{EMBEDDED}/{path.name}"] = path
            if held == "embedded":
                files = {name: path for name, path in files.items() if not name.startswith("sft/")}
        run = redact_run(run, grants.withheld > 0)
        run["published"] = {"frames": frames, "videos_with_times_alone": grants.withheld}
        run["licences"] = licence_ledger(grants.terms)
        _describe(out, work, files, run, grants)
    except Invalid as error:
        raise UsageError(f"OUT {out}: {error}; see datagen validate") from None
    return files


def _check_schemas(out: Path) -> None:
    for table, paths in shards(out).items():
        for path in paths:
            for fault in schema_faults(path, table):
                raise UsageError(f"{out}/{table}/{path.name}: {fault}; see datagen validate")


def _tables(out: Path, work: Path, grants: Grants) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for table, paths in shards(out).items():
        for path in paths:
            name = f"{table}/{path.name}"
            files[name] = path
            if grants.withheld and table != "videos":
                files[name] = work / name
                redact_shard(path, table, grants.whole, files[name])
    for path in sorted((out / "rl" / "user_turns").glob("*.json")):
        name = f"rl/user_turns/{path.name}"
        files[name] = path
        if grants.withheld:
            rows = [file for n, file in files.items() if n.startswith(f"rl/{path.stem}-")]
            files[name] = work / name
            redact_user_turns(path, rows, files[name])
    return files


def _describe(out: Path, work: Path, files: dict[str, Path], run: dict[str, Any], grants: Grants) -> None:
    """Add run.json, with the hashes of the published shards, and the card."""
    described = {name: describe_shard(path) for name, path in files.items() if name.endswith(".parquet")}
    tables = {name: facts for name, facts in described.items() if name in run["shards"]}
    run = {**run, "shards": tables}
    rows = {name: facts["rows"] for name, facts in described.items()}
    writers, languages = read_writers(out)
    card = Published(
        run=run,
        rows=rows,
        terms=grants.terms,
        writers=writers,
        languages=languages,
        prompts=read_prompts(out),
        quality=read_quality(out, read_config(run)),
    )
    for name, data in (
        ("run.json", msgspec.json.format(msgspec.json.encode(run)) + b"\n"),
        ("README.md", card_text(card).encode()),
    ):
        files[name] = work / name
        files[name].write_bytes(data)
