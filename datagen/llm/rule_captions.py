"""Captions without a model: the words of a sidecar, and what can be measured in the pictures.

A narration belongs to the segment in which it ends, so that no caption tells of what comes after it.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from msgspec.structs import replace

from datagen.llm.text import clean, sentences
from datagen.llm.wordings import say
from datagen.records import Boundary, Caption, Measure, Narration, Segment, Video, Watched

_LIGHT = ("very dark", "dark", "medium bright", "bright")
_MOTION = ("still", "little", "lively")
_LIGHT_STEPS = (0.08, 0.25, 0.6)
_MOTION_STEPS = (0.002, 0.02)
_MAIN_COLOUR = 0.5
_ALMOST_ALL = 0.85
_MARGIN = 0.15
"""Share of a threshold by which a value must pass it to count as a change: noise is no news."""
_CUT_MARGIN = 0.25
"""Seconds around a shot change in which movement cannot be told from the change itself."""


def rule_captions(
    video: Video,
    watched: Watched,
    segments: tuple[Segment, ...],
    narrations: tuple[Narration, ...],
    sidecar_format: str | None,
) -> tuple[Caption, ...]:
    """One caption a segment. Narrations (in the video's own clock) say what is seen and heard; where nobody
    wrote what is seen, plain sentences on light, colour, movement and shot changes do.
    """
    shared, _ = share_out(segments, narrations)
    traits = _traits(watched, segments)
    captions = []
    for segment, own, trait in zip(segments, shared, traits, strict=True):
        written = [n for n in own if n.modality == "visual"]
        seen = " ".join(dict.fromkeys(s for n in written for s in sentences(n.text)))
        heard = " ".join(text for n in own if n.modality == "audio" if (text := clean(n.text)))
        measured = " ".join(sentence for _, sentence in describe(trait, segment.id))
        used = [n for n in own if (seen if n.modality == "visual" else heard)]
        captions.append(
            Caption(
                segment_id=segment.id,
                seen=seen or measured or None,
                heard=heard or None,
                provenance=f"sidecar:{sidecar_format or 'unknown'}" if used else "pixels",
                keys=tuple(dict.fromkeys(n.key for n in used if n.key)),
                traits=trait,
                mistake=any(n.mistake for n in used),
            )
        )
    return tuple(captions)


def share_out(
    segments: Sequence[Segment], narrations: Sequence[Narration]
) -> tuple[list[list[Narration]], list[Narration]]:
    """The narrations of each segment, and those that belong to none.

    A narration whose words have times is divided between its segments, each word going where it ends.
    """
    shared: list[list[Narration]] = [[] for _ in segments]
    lost: list[Narration] = []
    ends = [segment.end for segment in segments]
    for narration in narrations:
        owner = _owner(segments, ends, narration.start, narration.end)
        whole = owner is not None and segments[owner].start <= narration.start
        if whole or not narration.words or narration.modality == "visual":
            (lost if owner is None else shared[owner]).append(narration)
            continue
        parts: dict[int | None, list[tuple[float, float, str]]] = {}
        for word in narration.words:
            parts.setdefault(_owner(segments, ends, word[0], word[1]), []).append(word)
        for index, words in parts.items():
            part = _part(narration, words)
            (lost if index is None else shared[index]).append(part)
    return shared, lost


def _owner(segments: Sequence[Segment], ends: list[float], start: float, end: float) -> int | None:
    """The segment in which a stretch ends; of a point, the one that holds it."""
    at = bisect_right(ends, end) if start >= end else bisect_left(ends, end)
    if at < len(ends) and (segments[at].start <= end if start >= end else segments[at].start < end):
        return at
    return at - 1 if start >= end and at and ends[at - 1] == end else None


def _part(narration: Narration, words: list[tuple[float, float, str]]) -> Narration:
    spaced = " " in narration.text.strip() and not any(word[:1].isspace() for _, _, word in words)
    return replace(
        narration,
        start=min(start for start, _, _ in words),
        end=max(end for _, end, _ in words),
        text=(" " if spaced else "").join(word for _, _, word in words).strip(),
        words=tuple(words),
    )


def _traits(watched: Watched, segments: tuple[Segment, ...]) -> list[dict[str, str]]:
    """Of each segment the levels of light, colour and motion it goes through, and its shot changes."""
    measures = sorted(watched.measures, key=lambda m: m.start)
    boundaries = sorted(watched.boundaries, key=lambda b: b.start)
    light = [_LIGHT[i] for i in _levels([m.light for m in measures], _LIGHT_STEPS)]
    motion = [_MOTION[i] for i in _levels([m.motion for m in measures], _MOTION_STEPS)]
    colour = _main_colours(measures)
    begun = [b.start for b in boundaries]
    blurred = [_is_mixed(m, boundaries, begun) for m in measures]
    starts, ends = [m.start for m in measures], [m.end for m in measures]
    made = []
    for segment in segments:
        # Only stretches wholly inside: one across the edge would tell of what is not shown yet.
        inside = range(
            bisect_left(starts, segment.start - 1e-3), max(0, bisect_right(ends, segment.end + 1e-3))
        )
        trait = {
            "light": _sequence([light[i] for i in inside]),
            "colour": _sequence([colour[i] for i in inside]),
            "motion": _sequence([motion[i] for i in inside if not blurred[i]]),
        }
        shares = [measures[i].colour_share for i in inside if colour[i] != "mixed"]
        if shares:
            trait["amount"] = "almost entirely" if sum(shares) / len(shares) >= _ALMOST_ALL else "mostly"
        if segment.boundary:
            trait["boundary"] = segment.boundary
        changes = bisect_left(begun, segment.end) - bisect_right(begun, segment.start + 0.1)
        if changes > 0:
            trait["changes"] = str(changes)
        made.append({name: value for name, value in trait.items() if value})
    return made


def _levels(values: list[float], steps: tuple[float, ...]) -> list[int]:
    """The number of steps below each value; it changes only where a step is clearly passed."""
    found: list[int] = []
    level = -1
    for value in values:
        low = steps[level - 1] * (1 - _MARGIN) if level > 0 else 0.0
        high = steps[level] * (1 + _MARGIN) if level < len(steps) else float("inf")
        if level < 0 or not low <= value < high:
            level = bisect_right(steps, value)
        found.append(level)
    return found


def _main_colours(measures: list[Measure]) -> list[str]:
    """The colour of most of the picture, or `mixed`."""
    found: list[str] = []
    for measure in measures:
        same = bool(found) and found[-1] == measure.colour
        enough = _MAIN_COLOUR * (1 - _MARGIN) if same else _MAIN_COLOUR
        found.append(measure.colour if measure.colour_share >= enough else "mixed")
    return found


def _is_mixed(measure: Measure, boundaries: list[Boundary], begun: list[float]) -> bool:
    """Whether a shot change lies in or at this stretch."""
    at = bisect_right(begun, measure.end + _CUT_MARGIN) - 1
    return at >= 0 and boundaries[at].end >= measure.start - _CUT_MARGIN


def _sequence(levels: list[str]) -> str:
    return " to ".join(level for i, level in enumerate(levels) if i == 0 or level != levels[i - 1])


def describe(traits: dict[str, str], key: str) -> tuple[tuple[str, str], ...]:
    """True sentences on measured traits, each with what it is about: view, look, light, colour or motion."""
    light, colour, motion = (traits.get(n, "").split(" to ") for n in ("light", "colour", "motion"))
    values = {"light": light[-1], "colour": colour[-1], "amount": traits.get("amount", "mostly")}
    told: list[tuple[str, str]] = []

    def tell(about: str, wording: str, **more: str) -> None:
        told.append((about, say(wording, key, **values, **more)))

    if "boundary" in traits:
        tell("view", f"view_{traits['boundary']}")
    if "changes" in traits:
        tell("view", "view_once" if traits["changes"] == "1" else "view_often")
    if len(light) == len(colour) == 1 and light[0] and colour[0]:
        tell("look", "look_mixed" if colour[0] == "mixed" else "look")
    else:
        if light[0]:
            how = "brighter" if _LIGHT.index(light[-1]) > _LIGHT.index(light[0]) else "darker"
            tell("light", _change("light", light), before=light[0], how=how)
        if colour[0]:
            tell("colour", _colour_change(colour), before=colour[0])
    if motion[0]:
        tell("motion", _motion_change(motion))
    return tuple(told)


def _change(name: str, levels: list[str]) -> str:
    if len(levels) == 1:
        return name
    return f"{name}_unsteady" if levels[0] == levels[-1] else f"{name}_change"


def _colour_change(levels: list[str]) -> str:
    if levels == ["mixed"]:
        return "colour_mixed"
    if len(levels) == 1 or levels[0] == levels[-1]:
        return _change("colour", levels)
    return {levels[0]: "colour_gained", levels[-1]: "colour_lost"}.get("mixed", "colour_change")


def _motion_change(levels: list[str]) -> str:
    first, last = levels[0], levels[-1]
    if len(levels) == 1:
        return f"motion_{first}"
    if first == last:
        return "motion_unsteady"
    grown = "motion_grows" if first == "still" else "motion_calms"
    return {"lively": "motion_begins", "still": "motion_ends"}.get(last, grown)
