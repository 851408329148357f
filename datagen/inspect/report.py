"""`datagen report OUT`: a dataset as one page to look at, OUT/report.html, that opens without a server."""

import argparse
import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from jinja2 import Environment, StrictUndefined

from datagen.config import Config
from datagen.errors import Invalid, UsageError
from datagen.inspect.check import Findings, check_dataset
from datagen.inspect.dataset import read_config, read_run
from datagen.inspect.forecast import MARGIN, Forecast
from datagen.inspect.quality import HEADS, Member, members, quality, quality_notes, quality_rows, sample
from datagen.inspect.report_calls import Calls
from datagen.inspect.report_dialogues import pages
from datagen.inspect.report_figures import (
    Table,
    funnel,
    losses,
    plots,
    published_notes,
    rates_table,
    spend,
    statistics_table,
    validation,
)
from datagen.inspect.report_survey import Survey, survey
from datagen.inspect.terminal import command
from datagen.inspect.verdicts import DEFECTS, stored_verdicts

NAME = "report.html"
MOST_DIALOGUES = 2000
"""Dialogues that have a page: what a browser still opens at once. The worst and a random sample of others."""
BESIDE = 20
"""Random dialogues shown beside as many of the worst."""
_MOST_CALLS = 4_000_000
"""Characters of prompts and replies, of listed dialogues and of others; dialogues after these go without."""


@command
def main(argv: list[str] | None = None) -> int:
    """Run `datagen report`; returns the exit status."""
    p = argparse.ArgumentParser(
        prog="datagen report",
        description="Write OUT/report.html: what became of the videos, how the dataset is, and its dialogues "
        "to look at and judge. It opens by double click, without network or server; its pictures are those "
        "in OUT/frames.",
    )
    p.add_argument("out", metavar="OUT", type=Path, help="the folder of a finished build")
    path = write_report(p.parse_args(argv).out)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    return 0


def write_report(out: Path) -> Path:
    """Write report.html into a dataset's folder; the same dataset gives the same bytes.

    Raises UsageError where `out` holds no finished build, or a table or run.json cannot be read.
    """
    try:
        run = read_run(out)
        config = read_config(run)
        findings, forecast = check_dataset(out, MARGIN)
        found = survey(out, config, findings, forecast)
        everything, verdicts = members(out), stored_verdicts(out)
        drawn = sample(everything, config.seed)
        chosen, random, worst = choose(found, config, drawn)
        calls = Calls(out, config, _models(run), _MOST_CALLS, {*random, *worst, *drawn})
        made = list(pages(out, found, chosen, config, calls))
    except Invalid as error:
        raise UsageError(f"OUT {out}: {error}") from None
    try:
        values = _values(run, found, findings, forecast)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        fault = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise UsageError(f"OUT {out}: run.json is not as a build writes it ({fault}); build again") from None
    values |= {"title": config.name or "dataset", "shown": len(made), "total": len(found.severity)}
    judged = quality(everything, verdicts, config.seed) if verdicts else None
    values["quality"] = Table(HEADS, tuple(quality_rows(judged))) if judged else None
    values["quality_notes"] = quality_notes(judged) if judged else []
    index = _index(made, everything, {"random": random, "worst": worst, "sample": drawn})
    index |= {"systems": list(calls.systems), "missing": calls.missing, "defects": list(DEFECTS.items())}
    path = out / NAME
    path.write_text(_render(values, index, made), encoding="utf-8")
    return path


def _values(run: dict[str, Any], found: Survey, findings: Findings, forecast: Forecast) -> dict[str, Any]:
    """What the template shows of the run as a whole."""
    statistics = run["statistics"]
    return {
        "tiles": _tiles(run, statistics),
        "unreadable": found.unreadable,
        "funnel": funnel(run, found),
        "rows": list(run["rows"].items()),
        "failures": list((run.get("failures") or {}).items()),
        "losses": losses(found),
        "flags": statistics["flags"],
        "validation": validation(findings, forecast),
        "plots": plots(statistics, found, forecast),
        "statistics": statistics_table(statistics),
        "rates": rates_table(statistics),
        "published": published_notes(),
        "spend": spend(run),
        "made": _made(run),
    }


def _models(run: dict[str, Any]) -> dict[str, str]:
    """The models that wrote captions (vlm) and dialogues (llm), those of them there were."""
    models = run.get("models")
    named = models.items() if isinstance(models, dict) else ()
    return {kind: name for kind, name in named if isinstance(name, str) and name}


def choose(found: Survey, config: Config, drawn: list[str]) -> tuple[set[str], list[str], list[str]]:
    """All dialogues that have a page; among them, beside those to judge, random ones, and the worst."""
    worst = found.worst()[:BESIDE]
    shuffled = found.shuffled(config.seed)
    shown = dict.fromkeys([*worst, *shuffled[:BESIDE], *drawn, *shuffled[:MOST_DIALOGUES]])
    return set(list(shown)[:MOST_DIALOGUES]), shuffled[:BESIDE], worst


def _index(
    made: list[dict[str, Any]], everything: dict[str, Member], lists: dict[str, list[str]]
) -> dict[str, Any]:
    """What the lists of dialogues show, and the order in which they are gone through."""
    rows = [
        {
            "id": page["id"],
            "name": page["video"].path,
            "video": page["video"].id,
            "frame": (page["video"].frame_count + 1) // 2,
            "asks": page["questions"][0]["text"][:160] if page["questions"] else "",
            "kinds": list(dict.fromkeys(question["kind"] for question in page["questions"])),
            "turns": len(page["turns"]),
            "replies": [number for number, _ in page["replies"]],
            "flags": list(dict.fromkeys(flag["code"] for flag in page["flags"])),
            "flag_count": page["flag_count"],
            "content": everything[page["id"]].content,
        }
        for page in made
    ]
    place = {page["id"]: number for number, page in enumerate(made)}
    return {"rows": rows} | {name: [place[id] for id in ids if id in place] for name, ids in lists.items()}


def _tiles(run: dict[str, Any], statistics: dict[str, Any]) -> list[tuple[str, str]]:
    total, spent = statistics["all"], run.get("spent") or {}
    tiles = [
        ("videos with a dialogue", f"{total['videos']:,}"),
        ("hours", f"{total['hours']:.1f}"),
        ("dialogues", f"{total['dialogues']:,}"),
        ("turns", f"{total['turns']:,}"),
        ("of turns are replies", f"{total['reply_rate'] or 0:.1%}"),
    ]
    calls = (run.get("model_calls") or {}).get("calls")
    if calls:
        usd, more = spent.get("usd") or 0, bool(spent.get("unpriced"))
        money = "unpriced" if more and not usd else f"${usd:,.2f}" + " +" * more
        tiles += [("model calls", f"{calls:,}"), ("spent", money)]
    return tiles


def _made(run: dict[str, Any]) -> str:
    models = run.get("models") or {}
    names = ", ".join(f"{kind} {name}" for kind, name in models.items() if name) or "rules alone"
    version = (run.get("versions") or {}).get("datagen", "?")
    return f"datagen {version}, {run.get('written', '')}, by {names}"


_PARTS = Path(__file__).parent / "page"
_SCRIPTS = ("dialogue.js", "report.js")
"""In this order: the second begins to draw."""


def _render(values: Mapping[str, Any], index: Any, pages: Sequence[Any]) -> str:
    """The page: `values` for the template; `index` and `pages` as JSON for the script.

    Text of unknown origin reaches it in two ways: escaped by the template, or as JSON in blocks that no
    browser runs, which the script turns into text nodes. The policy in the head lets only this file's own
    style and script work (Content Security Policy Level 3, https://www.w3.org/TR/CSP3/).
    """
    style = (_PARTS / "report.css").read_text(encoding="utf-8")
    script = "".join((_PARTS / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = environment.from_string((_PARTS / "report.html.j2").read_text(encoding="utf-8"))
    blocks = {"index": inert(index), "pages": [inert(page) for page in pages]}
    parts = {"style": style, "script": script, "style_hash": _hash(style), "script_hash": _hash(script)}
    return template.render(**values, **parts, **blocks)


def inert(value: Any) -> str:
    """JSON that cannot end the script block it stands in: no angle bracket is left in it."""
    text = msgspec.json.encode(value).decode()
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
