"""The figures of the report's first page: funnel, losses, spend, statistics beside published ones, plots."""

from collections import Counter
from typing import Any

from markupsafe import Markup
from msgspec import Struct

from datagen.export.pauc import SETTINGS
from datagen.export.reference import PUBLISHED, REPLY_RATES, TALK_RATIOS, WORDS_PER_REPLY
from datagen.export.statistics_table import ROWS
from datagen.inspect.check import Findings
from datagen.inspect.forecast import Forecast
from datagen.inspect.policies import POLICIES, TRUTH
from datagen.inspect.report_plots import bars, heat, lying_bars, shares
from datagen.inspect.report_survey import GAP_BINS, GAP_GRIDS, LATENCY_BINS, Loss, Survey

_SOURCES = 4
"""Sources that have a column of statistics."""
_ROWS_OF_PLOTS = 16
"""Shapes or sources in a plot."""
_SHAPES = 6
"""Shapes side by side."""
_FAULTS = 50
_MADE_BY = {
    "built": ("probe", "watch"),
    "cut into segments": ("segment",),
    "captioned": ("sidecar", "caption"),
    "with a dialogue": ("synthesize", "verify"),
    "with a row for a trainer": ("export",),
}
"""Which stages lose what does not reach a step of the funnel."""


class Table(Struct, frozen=True):
    """A table: heads of the columns, and rows of cells."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Plot(Struct, frozen=True):
    """A plot with its title, what to make of it, and the names of its series."""

    title: str
    note: str
    svg: Markup
    series: tuple[str, ...] = ()


def funnel(run: dict[str, Any], found: Survey) -> list[dict[str, Any]]:
    """From the videos listed to those with rows for a trainer, with codes and counts of what was lost."""
    listed = _number(run.get("videos_listed")) or len(found.videos)
    sets = (found.videos, found.segmented, found.captioned, found.talking, found.exported)
    steps = [{"label": "listed", "count": listed, "share": listed / max(1, listed), "lost": []}]
    for (label, stages), videos in zip(_MADE_BY.items(), sets, strict=True):
        lost = [(code, loss.count) for (stage, code), loss in sorted(found.losses.items()) if stage in stages]
        count = len(videos)
        steps.append({"label": label, "count": count, "share": count / max(1, listed), "lost": lost})
    return steps


def losses(found: Survey) -> list[tuple[str, str, Loss]]:
    """Stage, code and examples of every reason for a loss, in the order of the stages."""
    order = ("probe", "watch", "sidecar", "segment", "caption", "synthesize", "verify", "export")
    place = {stage: number for number, stage in enumerate(order)}
    ranked = sorted(
        found.losses.items(), key=lambda pair: (place.get(pair[0][0], 99), -pair[1].count, pair[0])
    )
    return [(stage, code, loss) for (stage, code), loss in ranked]


def spend(run: dict[str, Any]) -> Table | None:
    """Calls and tokens by stage and by model, and the money where prices were given."""
    spent = run.get("spent") or {}
    kinds = [("stage", spent.get("stages") or {}), ("model", spent.get("models") or {})]
    keys = ("calls", "failed", "prompt_tokens", "completion_tokens")
    rows = [
        (f"{kind} {name}", *(f"{_number(row.get(key)):,}" for key in keys), _usd(row))
        for kind, table in kinds
        for name, row in table.items()
    ]
    if not rows:
        return None
    heads = ("", "calls", "failed", "prompt tokens", "completion tokens", "USD")
    known = spent.get("usd") or not spent.get("unpriced")
    return Table(heads, (*rows, ("all", "", "", "", "", _usd(spent) if known else "-")))


def _usd(row: dict[str, Any]) -> str:
    return f"{row['usd']:.4f}" if isinstance(row.get("usd"), int | float) else "-"


def statistics_table(statistics: dict[str, Any]) -> Table:
    """This dataset, its largest sources, and the published training sets."""
    by_source = sorted(statistics["by_source"].items(), key=lambda pair: (-pair[1]["videos"], pair[0]))
    shown = by_source[:_SOURCES] if len(by_source) > 1 else []
    published = [
        (
            name,
            row
            | {"hours": row["videos"] * row["mean_seconds"] / 3600, "answers_per_dialogue": row["answers"]},
        )
        for name, row in PUBLISHED.items()
        if "videos" in row
    ]
    columns = [("this dataset", statistics["all"]), *shown, *published]
    return Table(
        ("", *(name for name, _ in columns)),
        tuple((label, *(_cell(row.get(key), style) for _, row in columns)) for label, key, style in ROWS),
    )


def rates_table(statistics: dict[str, Any]) -> Table:
    """Replies of turns if frames came otherwise, beside what the published training sets would have."""
    grids = statistics["grids"]
    names = list(grids[0]["published"])
    rows = [
        (
            f"{grid['seconds_per_frame']:g} s a frame, {grid['frames_per_turn']} a turn",
            _cell(grid["reply_rate"], ".1%"),
            *(_cell(grid["published"][name], ".1%") for name in names),
            _cell(grid["spans_without_turn"], ".1%"),
        )
        for grid in grids
    ]
    heads = ("replies of turns, with", "this dataset", *(f"{name}, worked out" for name in names))
    return Table((*heads, "spans without a turn"), tuple(rows))


def published_notes() -> list[str]:
    """Published figures that have no column."""
    low, high = WORDS_PER_REPLY
    answers = [f"{name} {row['answers']:g}" for name, row in PUBLISHED.items() if "videos" not in row]
    rates = [f"{name} {one:.1%} / {two:.1%}" for name, (one, two) in REPLY_RATES.items()]
    talk = [f"{name} {rate:.0%}" for name, rate in TALK_RATIOS.items()]
    return [
        f"Published: {low} to {high} words a reply. Answers a dialogue: {', '.join(answers)}.",
        f"Replies of turns of 1 s / 2 s, were each annotation a reply: {', '.join(rates)}.",
        f"Replies of single frames at 2 frames a second: {', '.join(talk)}.",
    ]


def plots(statistics: dict[str, Any], found: Survey, forecast: Forecast) -> list[Plot]:
    """What is better seen than read; a plot without anything to show is left out."""
    drawn = [_run_plot(statistics), _latency_plot(found), _gap_plot(found), _position_plot(statistics)]
    drawn += [_token_plot(statistics), _shape_plot(found), _policy_plot(forecast)]
    return [plot for plot in drawn if plot]


def _run_plot(statistics: dict[str, Any]) -> Plot | None:
    runs = statistics["all"]["silent_runs"]
    if not sum(runs.values()):
        return None
    drawn = bars(list(runs), [("", shares(list(runs.values())))], "silent turns in a row")
    return Plot("Silent runs", "How long silences last, as a share of all runs.", drawn)


def _token_plot(statistics: dict[str, Any]) -> Plot | None:
    tokens = statistics.get("tokens")
    if not tokens or not any(tokens[table]["rows"] for table in ("sft", "rl")):
        return None
    step, bound = tokens["step"], tokens["bound"]
    ends = [step * (n + 1) for n in range(len(tokens["sft"]["histogram"]))]
    names = ("SFT", "RL")
    series = [(name, shares(tokens[name.lower()]["histogram"])) for name in names]
    mark = ends.index(bound) + 1 if bound in ends else None
    drawn = bars(
        [f"{end // 1024}" for end in ends], series, "thousands of tokens (1,024), at most", mark=mark
    )
    text = (
        f"Tokens of a row with its frames, counted by {tokens['counted_by']}; export.max_tokens is {bound}."
    )
    return Plot("Length of the rows", text, drawn, names)


def _latency_plot(found: Survey) -> Plot | None:
    if not found.latency:
        return None
    labels = [*(f"{edge:.0%}" for edge in LATENCY_BINS), "more"]
    counts = [found.latency[n] for n in range(len(LATENCY_BINS) + 1)]
    drawn = bars(labels, [("", shares(counts))], "of the reply span, at most", mark=5)
    return Plot(
        "Latency over the reply span",
        "Where in its span each reply comes; the line is the span's end.",
        drawn,
    )


def _gap_plot(found: Survey) -> Plot | None:
    if not any(found.gaps.values()):
        return None
    lows = [1, *(edge + 1 for edge in GAP_BINS)]
    labels = [f"{a}" if a == b else f"{a}-{b}" for a, b in zip(lows, GAP_BINS, strict=False)] + [
        f"{lows[-1]}+"
    ]
    names = [f"{step:g} s a turn" for step in GAP_GRIDS]
    series = [
        (name, shares([found.gaps[step][n] for n in range(len(labels))]))
        for name, step in zip(names, GAP_GRIDS, strict=True)
    ]
    drawn = bars(labels, series, "seconds between two replies")
    return Plot(
        "Gaps between replies", "The same dialogues with turns of 1 s and of 2 s.", drawn, tuple(names)
    )


def _position_plot(statistics: dict[str, Any]) -> Plot | None:
    ranked = sorted(statistics["by_shape"].items(), key=lambda pair: (-pair[1]["questions"], pair[0]))
    rows = {"all": statistics["all"]} | dict(ranked[:_ROWS_OF_PLOTS])
    if not statistics["all"]["replies"]:
        return None
    columns = [f"{10 * tenth}%" for tenth in range(10)]
    drawn = heat(
        list(rows), columns, [row["position_deciles"] for row in rows.values()], "of the video has passed"
    )
    note = "Where in their videos replies come, by shape of question; colours compare within a row."
    return Plot("Position of replies", note, drawn)


def _shape_plot(found: Survey) -> Plot | None:
    ranked = sorted(found.shapes.items(), key=lambda pair: (-pair[1].total(), pair[0]))[:_ROWS_OF_PLOTS]
    total: Counter[str] = sum((counts for _, counts in ranked), start=Counter())
    kinds = sorted(total, key=lambda kind: (-total[kind], kind))[:_SHAPES]
    if not kinds:
        return None
    rows = [[counts[kind] for kind in kinds] for _, counts in ranked]
    drawn = heat([name for name, _ in ranked], [kind.replace("_", " ") for kind in kinds], rows, "shape")
    note = f"Questions of the {_SHAPES} commonest shapes; colours compare within a row."
    return Plot("Shape by source", note, drawn)


def _policy_plot(forecast: Forecast) -> Plot | None:
    if not forecast.windows:
        return None
    names = [name for name in POLICIES if any(forecast.earned[s][name].windows for s in SETTINGS)]
    series = [(setting, [forecast.earned[setting][name].reward for name in names]) for setting in SETTINGS]
    drawn = lying_bars(names, series, strong=tuple(TRUTH))
    note = f"Mean reward on {forecast.windows} RL windows; bold is the truth, said at various times."
    return Plot("What trivial policies earn", note, drawn, tuple(SETTINGS))


def validation(findings: Findings, forecast: Forecast) -> list[str]:
    """What `validate` has to say, a line each."""
    lines = [
        f"{fault.file}{'' if fault.row is None else f' row {fault.row}'} {fault.id}: {fault.message}"
        for fault in findings.faults[:_FAULTS]
    ]
    if findings.fault_count > _FAULTS:
        lines.append(f"and {findings.fault_count - _FAULTS} more faults: see datagen validate")
    return lines + [f"trivial: {line}" for line in forecast.verdicts()]


def _cell(value: Any, style: str) -> str:
    return format(value, style) if isinstance(value, int | float) else "-"


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0
