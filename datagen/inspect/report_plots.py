"""Plots as SVG: a bar, a row of cells or a line of text is all they are made of.

Colours come from classes that the page's style sheet defines, so that a plot follows the page's theme.
"""

from collections.abc import Sequence

from markupsafe import Markup

_WIDTH, _HEIGHT = 440, 220
"""Of a plot, in its own units; the page scales it."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 8, 14, 34
_NAMES = 120
"""Width of the names to the left of lying plots."""
_LABEL = 19
"""Characters of a name that are shown; the whole stands in its title."""
_BAR = Markup(
    '<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" fill-opacity="{:.2f}" rx="1.5">'
    "<title>{}</title></rect>"
)
_LINE = Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>')

Series = tuple[str, Sequence[float]]
"""Name and values."""


def bars(labels: Sequence[str], series: Sequence[Series], unit: str, mark: int | None = None) -> Markup:
    """Upright bars, one group a label, of values that are shares of 1. `mark`: a line before that group."""
    highest = max((value for _, values in series for value in values), default=0.0) or 1.0
    wide, high = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    group = wide / max(1, len(labels))
    each = 0.8 * group / len(series)
    parts = []
    for quarter in range(5):
        y = _TOP + high * (1 - quarter / 4)
        parts.append(_LINE.format("grid", _LEFT, y, _WIDTH - _RIGHT, y))
        parts.append(_text(_LEFT - 5, y + 4, f"{highest * quarter / 4:.0%}", "end"))
    for number, (name, values) in enumerate(series):
        for place, value in enumerate(values):
            x = _LEFT + (place + 0.1) * group + number * each
            tall = value / highest * high
            title = f"{labels[place]} {unit}: {value:.1%}" + (f" ({name})" if name else "")
            parts.append(_BAR.format(f"s{number}", x, _TOP + high - tall, each * 0.94, tall, 1, title))
    for place, label in enumerate(labels):
        parts.append(_text(_LEFT + (place + 0.5) * group, _HEIGHT - 19, label))
    if mark is not None:
        x = _LEFT + mark * group
        parts.append(_LINE.format("mark", x, _TOP, x, _TOP + high))
    parts.append(_text(_LEFT + wide / 2, _HEIGHT - 4, unit))
    return _svg(parts, _HEIGHT)


def lying_bars(names: Sequence[str], series: Sequence[Series], strong: Sequence[str] = ()) -> Markup:
    """Lying bars, to the right of zero or, for values below it, to the left. Names in `strong` stand out."""
    thick, step = 8, 8 * len(series) + 8
    height = step * len(names) + 8
    values = [value for _, row in series for value in row]
    low, high = min(0.0, *values), max(0.0, *values)
    room = 34  # for the figure beyond a bar's end
    scale = (_WIDTH - _NAMES - 2 * room) / ((high - low) or 1.0)
    zero = _NAMES + room - low * scale
    parts = [_LINE.format("axis", zero, 2, zero, height - 4)]
    for place, name in enumerate(names):
        y = 4 + place * step
        parts.append(_name(y + step / 2, name, "strong" if name in strong else ""))
        for number, (of, row) in enumerate(series):
            value, top = row[place], y + thick * number
            x = zero + min(0.0, value) * scale
            title = f"{name}: {value:.3f} ({of})"
            parts.append(_BAR.format(f"s{number}", x, top, abs(value) * scale, thick - 1, 1, title))
            end = zero + value * scale + (4 if value >= 0 else -4)
            parts.append(
                _text(end, top + thick - 1, f"{value:.2f}", "start" if value >= 0 else "end", "small")
            )
    return _svg(parts, height)


def heat(names: Sequence[str], columns: Sequence[str], rows: Sequence[Sequence[int]], unit: str) -> Markup:
    """Counts in cells, one row a name; the fuller the colour, the nearer to the largest of its row."""
    side = 24
    wide = (_WIDTH - _NAMES - _RIGHT) / max(1, len(columns))
    parts = []
    for line, (name, values) in enumerate(zip(names, rows, strict=True)):
        y, total, highest = 4 + line * side, sum(values) or 1, max(values, default=0) or 1
        parts.append(_name(y + 15, name))
        for place, value in enumerate(values):
            x, depth = _NAMES + place * wide, 0.05 + 0.6 * value / highest
            title = f"{name}, {columns[place]}: {value} of {total} ({value / total:.0%})"
            parts.append(_BAR.format("s0", x, y, wide - 2, side - 2, depth, title))
            parts.append(_text(x + wide / 2 - 1, y + 15, str(value), kind="dark small"))
    bottom, most = 4 + len(names) * side, max(4, int(wide / 5.5))
    for place, column in enumerate(columns):
        parts.append(
            _text(_NAMES + (place + 0.5) * wide - 1, bottom + 12, _short(column, most), title=column)
        )
    parts.append(_text(_NAMES + (_WIDTH - _NAMES) / 2, bottom + 28, unit))
    return _svg(parts, bottom + 34)


def shares(values: Sequence[int]) -> list[float]:
    """Counts as shares of their sum."""
    total = sum(values) or 1
    return [value / total for value in values]


def _name(y: float, name: str, kind: str = "") -> Markup:
    return _text(_NAMES - 6, y, _short(name, _LABEL), "end", kind, name)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _text(x: float, y: float, text: str, anchor: str = "middle", kind: str = "", title: str = "") -> Markup:
    said = Markup("<title>{}</title>").format(title) if title else ""
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}{}</text>').format(
        kind, x, y, anchor, text, said
    )


def _svg(parts: Sequence[Markup], height: float) -> Markup:
    return Markup('<svg viewBox="0 0 {} {:.0f}" role="img">{}</svg>').format(
        _WIDTH, height, Markup("").join(parts)
    )
