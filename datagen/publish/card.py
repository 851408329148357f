"""The dataset card: README.md as the Hugging Face Hub shows it, with the configurations that load the tables.

Names of sources, licences and models come from outside; they stand in code spans, where nothing is markup.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import yaml
from msgspec import Struct

from datagen.errors import Invalid, UsageError
from datagen.export.statistics_table import statistics_lines
from datagen.inspect.dataset import read_config, read_run
from datagen.inspect.quality import HEADS, Quality, quality_notes, quality_rows, read_quality
from datagen.publish.embed import write_preview
from datagen.publish.licences import Terms, hub_licence, licence_ledger, open_grants
from datagen.publish.redact import redact_run
from datagen.publish.writers import read_prompts, read_writers
from datagen.resources import resource

CONFIGS = ("sft", "rl", "dialogues", "segments", "videos", "rejected", "preview")
"""The first is what `load_dataset` gives when none is named."""
PREVIEW = "preview/train-00000-of-00001.parquet"
EMBEDDED = "sft_embedded"

_SIZES = (("n<1K", 10**3), ("1K<n<10K", 10**4), ("10K<n<100K", 10**5), ("100K<n<1M", 10**6))
_SHOWN = 50
"""Rows of a table of names; the rest is counted."""


class Published(Struct, frozen=True, kw_only=True):
    """All that a card tells."""

    run: dict[str, Any]
    """run.json."""
    rows: dict[str, int]
    """Number of rows of each shard, by its path in the repository."""
    terms: tuple[Terms, ...]
    writers: tuple[tuple[str, str, int], ...]
    """(table, provenance, rows): who wrote how much."""
    languages: tuple[str, ...]
    prompts: tuple[str, ...] = ()
    """Name, version and hash of each that had a part in a text."""
    quality: Quality | None = None
    """What people say of its dialogues."""


def write_card(out: Path) -> Path:
    """Write `out`/README.md, and `out`/preview where open licences let some video be shown.

    Raises UsageError where `out` is not a finished build.
    """
    try:
        run = redact_run(read_run(out), withheld=False)
        config = read_config(run)
        grants = open_grants(out)
        shown = write_preview(out, out / PREVIEW, grants.whole, config)
        writers, languages = read_writers(out)
        prompts, quality = read_prompts(out), read_quality(out, config)
    except Invalid as error:
        raise UsageError(f"OUT {out}: {error}; see datagen validate") from None
    rows = {name: facts["rows"] for name, facts in run["shards"].items()}
    if shown:
        rows[PREVIEW] = pq.read_metadata(out / PREVIEW).num_rows
    published = Published(
        run=run,
        rows=rows,
        terms=grants.terms,
        writers=writers,
        languages=languages,
        prompts=prompts,
        quality=quality,
    )
    path = out / "README.md"
    path.write_text(card_text(published), encoding="utf-8")
    return path


def card_text(published: Published) -> str:
    """The card, YAML and Markdown; a function of what it is given alone.

    Raises UsageError where run.json is not as a build writes it.
    """
    parts = (_about, _how, _statistics, _quality, _licences, _limits, _citation)
    try:
        head = yaml.safe_dump(_metadata(published), sort_keys=False, allow_unicode=False)
        body = "\n".join(line for part in parts for line in (*part(published), ""))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise UsageError(f"run.json: not as a build writes it: {error!r}; build again") from None
    return f"---\n{head}---\n\n{body.rstrip()}\n"


def _metadata(published: Published) -> dict[str, Any]:
    licences = {hub_licence(terms.licence) or "other" for terms in published.terms}
    dialogues = sum(count for name, count in published.rows.items() if name.startswith("dialogues/"))
    size = next((name for name, below in _SIZES if dialogues < below), "n>1M")
    metadata: dict[str, Any] = {
        "pretty_name": f"Proactive video dialogues ({published.run['pipeline']['name']})",
        "license": licences.pop() if len(licences) == 1 else "other",
        "task_categories": ["video-text-to-text"],
        "tags": ["video", "streaming", "proactive", "dialogue"],
        "size_categories": [size],
        "configs": _configs(published.rows),
    }
    if published.languages:
        metadata["language"] = list(published.languages)
    return metadata


def _configs(rows: dict[str, int]) -> list[dict[str, Any]]:
    """A configuration for each table that has rows; `datasets` cannot load a split without any."""
    configs: list[dict[str, Any]] = []
    for name in CONFIGS:
        folder = _folder(name, rows)
        splits = [split for split in ("train", "val") if _count(rows, folder, split)]
        files = [{"split": split, "path": f"{folder}/{split}-*.parquet"} for split in splits]
        if files:
            configs.append({"config_name": name, "data_files": files})
    for config in configs[:1]:
        config["default"] = True
    return configs


def _folder(config: str, rows: dict[str, int]) -> str:
    return EMBEDDED if config == "sft" and any(name.startswith(f"{EMBEDDED}/") for name in rows) else config


def _count(rows: dict[str, int], folder: str, split: str) -> int:
    return sum(count for name, count in rows.items() if name.startswith(f"{folder}/{split}-"))


def _about(published: Published) -> Iterator[str]:
    yield "# Streaming dialogues for video assistants that speak on their own"
    yield ""
    yield (
        "A video is shown a turn at a time, a few frames each. After every turn the assistant either replies "
        "or stays silent (`NO REPLY`); each reply rests only on what has been shown by then. Times are "
        "seconds from the first picture, spans half-open."
    )
    yield ""
    yield "| configuration | split | rows | what |"
    yield "|---|---|---:|---|"
    for config in CONFIGS:
        folder = _folder(config, published.rows)
        for split in ("train", "val"):
            if count := _count(published.rows, folder, split):
                yield f"| {config} | {split} | {count} | {_what(config, folder)} |"
    yield ""
    yield (
        "A path such as `frames/ID/000001.jpg` names the frame of time 1 x `frame_interval` of the video "
        "with this id. `run.json` holds the pipeline, all counts, and the hash of every shard."
    )


def _what(config: str, folder: str) -> str:
    if config == "preview":
        return "A few dialogues with their turns and the last frame of each turn."
    schema = msgspec.json.decode((resource("schemas") / f"{config}.json").read_bytes())
    return f"{schema['about']} Frames are inside." if folder == EMBEDDED else str(schema["about"])


def _how(published: Published) -> Iterator[str]:
    run = published.run
    yield "## How it was made"
    yield ""
    yield f"Pipeline {_code(run['pipeline']['name'])}, seed {run['pipeline'].get('seed', 0)}."
    yield ""
    models = [f"{kind} {_code(name)}" for kind, name in sorted((run.get("models") or {}).items()) if name]
    yield f"Models: {', '.join(models) or 'none'}. Who wrote what, models with `prompt/version:hash`:"
    yield ""
    yield from _table(
        ("table", "written by", "rows"), [(t, _code(who), str(n)) for t, who, n in published.writers]
    )
    yield ""
    if published.prompts:
        yield f"Prompts that wrote, mended or proved a text: {', '.join(map(_code, published.prompts))}."
        yield ""
    yield from _cost(run.get("spent") or {})
    versions = ", ".join(f"{name} {version}" for name, version in (run.get("versions") or {}).items())
    yield f"Versions: {_code(versions, 500)}. All values of the pipeline:"
    yield ""
    yield from _fenced(yaml.safe_dump(run["pipeline"], sort_keys=False).splitlines(), "yaml")


def _cost(spent: dict[str, Any]) -> Iterator[str]:
    names = ("calls", "failed", "prompt_tokens", "completion_tokens")
    stages = spent.get("stages") or {}
    if not stages:
        yield "No call to a model was made."
        yield ""
        return
    rows = [(_code(stage), *(str(counts.get(name, 0)) for name in names)) for stage, counts in stages.items()]
    yield from _table(("stage", "calls", "failed", "prompt tokens", "completion tokens"), rows)
    yield ""
    unpriced = "".join(f", without {_code(name)} (no price known)" for name in spent.get("unpriced") or ())
    yield f"Cost: {spent.get('usd', 0):.2f} USD{unpriced}."
    yield ""


def _statistics(published: Published) -> Iterator[str]:
    yield "## Statistics"
    yield ""
    yield "Of the whole build; published values of other datasets beside its own."
    yield ""
    lines = statistics_lines(published.run["statistics"]) if published.run.get("statistics") else []
    yield from _fenced(lines or ["No dialogues."])


def _quality(published: Published) -> Iterator[str]:
    yield "## Quality control"
    yield ""
    rejected = sum(count for name, count in published.rows.items() if name.startswith("rejected/"))
    yield (
        "Every question and reply passed automatic checks, those by a model also a judge model where "
        f"`dialogue.judge` was on. What did not pass is in `rejected`, {rejected} rows, each with its reason."
    )
    yield ""
    if published.quality is None:
        yield "No person has judged its dialogues yet."
        return
    rows = [(_code(name), *cells) for name, *cells in quality_rows(published.quality)]
    yield from _table(HEADS, rows)
    yield ""
    for line in quality_notes(published.quality):
        yield line
        yield ""


def _licences(published: Published) -> Iterator[str]:
    yield "## Licences of the sources"
    yield ""
    allowed = {"whole": "all", "timestamps": "times alone", "refused": "nothing until its licence is named"}
    rows = [
        (
            _code(row["source"]),
            _code(row["licence"] or "none"),
            _code(row["sidecar_licence"] or "the same"),
            str(row["videos"]),
            f"{row['hours']:.2f}",
            allowed[row["published"]],
        )
        for row in licence_ledger(published.terms)
    ]
    yield from _table(("source", "licence", "of its texts", "videos", "hours", "may be published"), rows)
    yield ""
    yield (
        "Frames and texts made from a video stay under its licence: keep to its terms (attribution, "
        "share-alike, no commercial use). Of a video without a licence that allows more, times alone are "
        "published: its segments and dialogues have empty texts, and it has no SFT or RL row."
    )


def _limits(published: Published) -> Iterator[str]:
    yield "## Limits"
    yield ""
    writers = [who for _, who, _ in published.writers]
    if any(who == "rule" for who in writers):
        yield "- Dialogues by rules have templates for questions; see the shares of repeated questions above."
    if any(who == "pixels" for who in writers):
        yield "- Captions from pixels know light, colour, movement and cuts, and nothing else."
    if any(":" in who and not who.startswith("sidecar:") for who in writers):
        yield "- Texts by models may be wrong. They passed automatic checks; what failed is in `rejected`."
    yield "- Silence follows from what was annotated: what nobody described, the assistant does not mention."
    yield "- Videos may show people; nothing was done to make them unrecognisable."
    for flag in (published.run.get("statistics") or {}).get("flags", ()):
        yield f"- {_code(flag['code'])} in {_code(flag['where'])}: {_code(flag['detail'], 300)}"


def _citation(published: Published) -> Iterator[str]:
    yield "## Citation"
    yield ""
    yield "The form of the data, and the method it is for:"
    yield ""
    yield "```bibtex"
    yield "@article{mmduet2, title={MMDuet2}, journal={arXiv preprint arXiv:2512.06810}, year={2025}}"
    yield "```"
    yield ""
    yield "Cite the sources above too, as their licences ask."


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield "|" + "---|" * len(heads)
    for row in rows[:_SHOWN]:
        yield f"| {' | '.join(row)} |"
    if len(rows) > _SHOWN:
        yield f"| {len(rows) - _SHOWN} more |" + " |" * (len(heads) - 1)


def _code(text: object, most: int = 100) -> str:
    """Text of unknown origin as a code span that neither ends early nor splits a table's cell."""
    shown = "".join(c if c.isprintable() else "?" for c in str(text)[:most])
    return f"`{shown.replace('`', chr(39)).replace('|', '¦').strip() or '?'}`"


def _fenced(lines: Iterable[str], kind: str = "") -> Iterator[str]:
    lines = list(lines)
    longest = max((len(run) for run in re.findall("`+", "\n".join(lines))), default=0)
    fence = "`" * max(3, longest + 1)
    yield fence + kind
    yield from lines
    yield fence
