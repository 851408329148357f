"""Policies that say something at each turn of a window: trivial ones, and the truth at several places."""

from collections.abc import Callable, Sequence
from functools import partial

from datagen.export.pauc import Span
from datagen.inspect.windows import Window
from datagen.records import NO_REPLY

Policy = Callable[[Window], Sequence[str]]
"""One reply, or NO REPLY, for each decision turn."""

OWN = "truth as placed"


def silent(window: Window) -> Sequence[str]:
    """Never a word."""
    return [NO_REPLY] * len(window.times)


def always_talking(window: Window) -> Sequence[str]:
    """Something at every turn, never the same, that says nothing."""
    return [f"Still watching, {time:g} seconds so far." for time in window.times]


def caption_parrot(window: Window) -> Sequence[str]:
    """At every turn the caption of what is shown, asked or not."""
    return [caption or NO_REPLY for caption in window.captions]


def question_echo(window: Window) -> Sequence[str]:
    """At every turn the question."""
    return [question or NO_REPLY for question in window.questions]


def first_answer(window: Window) -> Sequence[str]:
    """The dialogue's first true reply, given again at every turn from its own on."""
    if window.earlier:
        return [window.earlier[0]] * len(window.times)
    said = silent(window)
    first = next((span for span in window.spans if _turn_of(window, span, 0.0) is not None), None)
    begin = _turn_of(window, first, 0.0) if first else None
    if first is None or begin is None:
        return said
    return [*said[:begin], *[first.text] * (len(said) - begin)]


def truth(window: Window, share: float) -> Sequence[str]:
    """Each true answer at the first turn that has seen `share` of its span, or the last one within it."""
    said = list(silent(window))
    for span in window.spans:
        turn = _turn_of(window, span, share)
        if turn is not None:
            said[turn] = span.text if said[turn] == NO_REPLY else f"{said[turn]} {span.text}"
    return said


def as_placed(window: Window) -> Sequence[str]:
    """What the dialogue itself says at these turns: what SFT teaches."""
    return window.placed if window.placed is not None else silent(window)


def _turn_of(window: Window, span: Span, share: float) -> int | None:
    within = [number for number, time in enumerate(window.times) if span.holds(time)]
    target = span.start + share * (span.end - span.start)
    return next((n for n in within if window.times[n] >= target), within[-1] if within else None)


TRIVIAL: dict[str, Policy] = {
    "silent": silent,
    "always talking": always_talking,
    "caption parrot": caption_parrot,
    "question echo": question_echo,
    "first answer again": first_answer,
}
TRUTH: dict[str, Policy] = {
    "truth at start": partial(truth, share=0.0),
    "truth at 25%": partial(truth, share=0.25),
    "truth at 50%": partial(truth, share=0.5),
    "truth at 62.5%": partial(truth, share=0.625),
    "truth at 75%": partial(truth, share=0.75),
    "truth at end": partial(truth, share=1.0),
}
POLICIES = TRIVIAL | TRUTH | {OWN: as_placed}
