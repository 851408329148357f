"""The statistics as a table to read, next to the published values."""

from typing import Any

from datagen.export.reference import PUBLISHED, REPLY_RATES, SPANS_WITHOUT_TURN, TALK_RATIOS, WORDS_PER_REPLY

_SOURCES = 4
"""Sources that have a column; the others stand in run.json."""
_SHAPES = 6
"""Shapes side by side."""
_WIDTH = 14

ROWS = (
    ("videos", "videos", "d"),
    ("hours", "hours", ".2f"),
    ("mean length, s", "mean_seconds", ".1f"),
    ("dialogues", "dialogues", "d"),
    ("questions a video", "questions_per_video", ".1f"),
    ("answers a question", "answers_per_question", ".2f"),
    ("answers a dialogue", "answers_per_dialogue", ".2f"),
    ("words a reply", "words_per_reply", ".1f"),
    ("replies of turns", "reply_rate", ".1%"),
    ("without a reply", "without_reply", ".1%"),
    ("longest silence, s", "longest_silence_seconds", ".0f"),
    ("given at, of the span", "lateness", ".0%"),
    ("gap of replies, s", "gap_seconds", ".1f"),
    ("position, effect w", "position_effect", ".2f"),
)
"""What a row is called, its name in run.json, and how it is written."""
_OF_VIDEOS = ("videos", "mean_seconds", "dialogues", "questions_per_video", "answers_per_dialogue")
_SHAPE_ROWS = (("questions", "questions", "d"), *(row for row in ROWS if row[1] not in _OF_VIDEOS))


def statistics_lines(statistics: dict[str, Any]) -> list[str]:
    """Lines to print at the end of a build, of what summarise() found."""
    if not statistics["all"]["dialogues"]:
        return []
    lines = [
        *_main_table(statistics),
        *_shape_table(statistics["by_shape"]),
        *_silent_runs(statistics["all"]),
        *_token_lines(statistics.get("tokens")),
        *_grid_table(statistics["grids"]),
        *_question_lines(statistics["questions"], statistics["guessable"]),
        *[f"  {flag['code']} ({flag['where']}): {flag['detail']}" for flag in statistics["flags"]],
    ]
    # Names of sources come from the user's files and may hold what a terminal obeys.
    return ["".join(c if c.isprintable() else "?" for c in line) for line in lines]


def _main_table(statistics: dict[str, Any]) -> list[str]:
    sources = sorted(statistics["by_source"].items(), key=lambda pair: (-pair[1]["videos"], pair[0]))
    shown = sources[:_SOURCES] if len(sources) > 1 else []
    published = [(name, _as_figures(figures)) for name, figures in PUBLISHED.items() if "videos" in figures]
    lines = _table("Statistics", ROWS, [("all", statistics["all"]), *shown, *published])
    if len(sources) > _SOURCES:
        lines.append(f"  {len(sources) - _SOURCES} more sources in run.json")
    return lines + _published_lines()


def _published_lines() -> list[str]:
    benchmark = {name: figures for name, figures in PUBLISHED.items() if "videos" not in figures}
    answers = (f"{name} {figures['answers']:g}" for name, figures in benchmark.items())
    rates = (f"{name} {low:.1%}/{high:.1%}" for name, (low, high) in REPLY_RATES.items())
    talk = (f"{name} {rate:.0%}" for name, rate in TALK_RATIOS.items())
    low, high = WORDS_PER_REPLY
    return [
        f"  published: answers a dialogue {', '.join(answers)}; words a reply {low} to {high};",
        f"    replies of turns of 1 s/2 s {', '.join(rates)};",
        f"    replies of single frames {', '.join(talk)}",
    ]


def _as_figures(published: dict[str, Any]) -> dict[str, Any]:
    return {
        **published,
        "hours": published["videos"] * published["mean_seconds"] / 3600,
        "answers_per_dialogue": published["answers"],
    }


def _shape_table(shapes: dict[str, Any]) -> list[str]:
    ranked = sorted(shapes.items(), key=lambda pair: (-pair[1]["questions"], pair[0]))
    lines: list[str] = []
    for first in range(0, len(ranked), _SHAPES):
        lines += _table("By shape of question", _SHAPE_ROWS, ranked[first : first + _SHAPES])
    return lines


def _table(
    title: str, rows: tuple[tuple[str, str, str], ...], columns: list[tuple[str, dict[str, Any]]]
) -> list[str]:
    lines = [f"{title:<24}" + "".join(f"{name[: _WIDTH - 1]:>{_WIDTH}}" for name, _ in columns)]
    for label, key, style in rows:
        cells = [_cell(figures.get(key), style) for _, figures in columns]
        lines.append(f"  {label:<22}" + "".join(f"{cell:>{_WIDTH}}" for cell in cells))
    return lines


def _cell(value: float | None, style: str) -> str:
    return "-" if value is None else format(value, style)


def _silent_runs(total: dict[str, Any]) -> list[str]:
    runs = total["silent_runs"]
    count = sum(runs.values()) or 1
    shares = ", ".join(f"{name}: {times / count:.0%}" for name, times in runs.items() if times)
    replies, turns = total["replies"], total["turns"]
    by_run = replies / (replies + sum(runs.values())) if replies else 0.0
    return [
        f"Silent runs by their number of turns: {shares}",
        f"Replies in the loss, by turns: {replies / turns:.0%} with export.weights=none, {by_run:.0%} with "
        "inverse_length, a third with class_balanced",
    ]


def _token_lines(tokens: dict[str, Any] | None) -> list[str]:
    """How long the rows are; nothing of a run that did not count it."""
    lines = []
    for table in ("sft", "rl"):
        found = tokens and tokens[table]
        if tokens and found and found["rows"]:
            lines.append(
                f"  {table.upper()}: median {found['median']}, 95% up to {found['most_of_95']}, most "
                f"{found['most']}; rows up to " + _bins(found["histogram"], tokens["step"])
            )
    if not tokens or not lines:
        return []
    bound = tokens["bound"] or "none"
    return [f"Tokens of a row, counted by {tokens['counted_by']}; export.max_tokens is {bound}", *lines]


def _bins(histogram: list[int], step: int) -> str:
    shares = ((step * (n + 1), count / sum(histogram)) for n, count in enumerate(histogram))
    return ", ".join(f"{end}: {share:.0%}" for end, share in shares if share)


def _grid_table(grids: list[dict[str, Any]]) -> list[str]:
    names = " and ".join(grids[0]["published"])
    low, high = SPANS_WITHOUT_TURN
    lines = [
        "The same dialogues at other frames    turn  replies  speak:silent  spans without a turn"
        "   published data would have"
    ]
    for grid in grids:
        step = grid["seconds_per_frame"] * grid["frames_per_turn"]
        frames = f"{grid['seconds_per_frame']:g} s a frame, {grid['frames_per_turn']} a turn"
        ratio = "-" if grid["silent_per_reply"] is None else f"1:{grid['silent_per_reply']:g}"
        published = " and ".join(f"{rate:.1%}" for rate in grid["published"].values())
        note = "  too silent" if grid["too_silent"] else ""
        lines.append(
            f"  {frames:<34}{step:>4g} s{_cell(grid['reply_rate'], '.1%'):>9}{ratio:>14}"
            f"{_cell(grid['spans_without_turn'], '.1%'):>22}   {published}{note}"
        )
    return [
        *lines,
        f"  Published data: {names}, worked out from answers and lengths; it learnt to speak at 2 s a frame,",
        "  2 a turn, and collapsed to silence at 1 s a frame. Of fine annotations "
        f"{low:.0%} to {high:.0%} hold no turn of 2 s.",
        "  Too silent? frames.interval=2 with export.frames_per_turn=2; or, at 1 s,",
        "  export.weights=class_balanced; or export.silent_tail=20 and export.keep_silent=0.5.",
    ]


def _question_lines(questions: dict[str, Any], guessable: list[dict[str, Any]]) -> list[str]:
    common = questions["commonest"]
    lines = [
        f"Questions: {questions['asked']}, {questions['different']} different, {questions['groups']} when "
        f"near duplicates count as one; commonest ({common['share']:.1%}): {_short(common['question'])}"
    ]
    for row in guessable[:3]:
        lines.append(
            f"  guessable: {_short(row['question'])} has {row['answers']} answers, {row['share']:.0%} are "
            f"{_short(row['commonest'])} (entropy {row['entropy_bits']:.1f} bits)"
        )
    return lines


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
