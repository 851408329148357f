"""Policies that say something at each turn of a window: trivial ones, and the truth at several places."""

from collections.abc import Callable, Sequence
from functools import partial

from datagen.export.pauc import Span
from datagen.inspect.windows import Window
from datagen.records import NO_REPLY

Policy = Callable[[Window], Sequence[str]]
"""One reply, or NO REPLY, for each decision turn."""

OWN = "truth as placed"


def _first_answer(window: Window) -> Sequence[str]:
    """The dialogue's first true reply, given again at every turn from its own on."""
    if window.earlier:
        return [window.earlier[0]] * len(window.times)
    turns = ((_turn_of(window, span, 0.0), span.text) for span in window.spans)
    begin, text = next(((turn, text) for turn, text in turns if turn is not None), (len(window.times), ""))
    return [*[NO_REPLY] * begin, *[text] * (len(window.times) - begin)]


def _truth(window: Window, share: float) -> Sequence[str]:
    """Each true answer at the first turn that has seen `share` of its span, or the last one within it."""
    said = [NO_REPLY] * len(window.times)
    for span in window.spans:
        turn = _turn_of(window, span, share)
        if turn is not None:
            said[turn] = span.text if said[turn] == NO_REPLY else f"{said[turn]} {span.text}"
    return said


def _turn_of(window: Window, span: Span, share: float) -> int | None:
    within = [number for number, time in enumerate(window.times) if span.holds(time)]
    target = span.start + share * (span.end - span.start)
    return next((n for n in within if window.times[n] >= target), within[-1] if within else None)


TRIVIAL: dict[str, Policy] = {
    "silent": lambda window: [NO_REPLY] * len(window.times),
    # Never the same, and it says nothing.
    "always talking": lambda window: [f"Still watching, {time:g} seconds so far." for time in window.times],
    # What is shown, asked or not.
    "caption parrot": lambda window: [caption or NO_REPLY for caption in window.captions],
    "question echo": lambda window: [question or NO_REPLY for question in window.questions],
    "first answer again": _first_answer,
}
_SHARES = {"start": 0.0, "25%": 0.25, "50%": 0.5, "62.5%": 0.625, "75%": 0.75, "end": 1.0}
TRUTH: dict[str, Policy] = {
    f"truth at {name}": partial(_truth, share=share) for name, share in _SHARES.items()
}
# What SFT teaches.
POLICIES = TRIVIAL | TRUTH | {OWN: lambda window: window.placed or TRIVIAL["silent"](window)}
