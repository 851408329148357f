"""Captions by a vision-language model: a few training frames of each segment, and the words spoken in it."""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from datagen.errors import Corrupt, Invalid, Refused
from datagen.llm.chat import Picture
from datagen.llm.messages import frame_digest
from datagen.llm.prompts import load_prompt, make_request
from datagen.llm.repair import Ask, Fault, all_calls, all_of, ask_traced, lost
from datagen.llm.rule_captions import share_out
from datagen.llm.text import clean, count_words
from datagen.records import Caption, Narration, Rejection, Segment, Video, Watched

_SECONDS_PER_PICTURE = 4.0
_MOST_PICTURES = 8
_SEEN_WORDS = (10, 120)
_HEARD_WORDS = 40
_MOST = {"actions": 6, "objects": 12}
_MOST_QUOTED = 4000
"""Characters of speech or annotation of one segment that are shown to the model."""
_OF_PICTURES = re.compile(
    r"\b(?:first|second|third|next|last|final|these|all|subsequent) (?:frames?|images?)\b"
    r"|\b(?:the|this) (?:video|footage|clip|image|frames?) (?:shows?|depicts?|begins?|starts?|ends?)\b",
    re.IGNORECASE,
)
"""Words on the pictures as pictures: replies made from such captions would speak of them too."""


async def caption_segments(
    video: Video,
    watched: Watched,
    segments: tuple[Segment, ...],
    narrations: tuple[Narration, ...],
    ask: Ask,
    model: str,
    frames: Path,
    interval: float,
) -> tuple[tuple[Caption, ...], tuple[Rejection, ...]]:
    """One caption a segment, all asked for at once; where that fails, a rejection of stage `caption`.

    `frames` is the folder that holds <video id>/000001.jpg, ..., one for every `interval` seconds; narrations
    are in the video's own clock. Raises Provider, after all segments have been tried: a dead endpoint is no
    property of a segment.
    """
    shared, _ = share_out(segments, narrations)

    async def attempt(segment: Segment, own: Sequence[Narration]) -> Caption | Rejection:
        names = pictures_of(segment, video, watched, interval)
        try:
            return await _caption(segment, own, names, ask, model, frames)
        except (Corrupt, Invalid, Refused) as failure:
            return lost("caption", video.id, segment.id, failure)

    results = await all_of(map(attempt, segments, shared))
    captions = tuple(result for result in results if isinstance(result, Caption))
    return captions, tuple(result for result in results if isinstance(result, Rejection))


def pictures_of(segment: Segment, video: Video, watched: Watched, interval: float) -> tuple[str, ...]:
    """Names of evenly spaced training frames with a time inside [start, end): one for about 4 s, 1 to 8."""
    inside = frames_inside(segment.start, segment.end, watched, interval)
    wanted = min(_MOST_PICTURES, max(1, round((segment.end - segment.start) / _SECONDS_PER_PICTURE)))
    count = min(wanted, len(inside))
    chosen = [inside[(2 * n + 1) * len(inside) // (2 * count)] for n in range(count)]
    return tuple(f"{video.id}/{k:06d}.jpg" for k in chosen)


def frames_inside(start: float, end: float, watched: Watched, interval: float) -> list[int]:
    """Numbers of the training frames with a time inside [start, end)."""
    first, last = int(start / interval), int(end / interval) + 1
    numbers = range(max(1, first), min(last, watched.frame_count) + 1)
    return [k for k in numbers if start <= k * interval < end]


def make_pictures(names: Sequence[str], frames: Path) -> list[Picture]:
    """Frames by their names below the folder `frames`, for a request. Raises Corrupt."""
    folder = frames.resolve()  # as the client does: one file, one digest
    try:
        return [Picture(name, frame_digest(f"{folder}/{name}")) for name in names]
    except OSError as error:
        raise Corrupt(
            f"training frame {Path(error.filename).name} cannot be read: {error.strerror}"
        ) from None


async def _caption(
    segment: Segment, own: Sequence[Narration], names: Sequence[str], ask: Ask, model: str, frames: Path
) -> Caption:
    if not names:
        raise Corrupt(f"no training frame lies in {segment.start:g}-{segment.end:g} s")
    prompt = load_prompt("caption")
    pictures = make_pictures(names, frames)
    spoken = _joined([n for n in own if n.modality == "audio"])
    values = {
        "pictures": len(pictures),
        "seconds": round(segment.end - segment.start, 1),
        "spoken": spoken,
        "written": _joined([n for n in own if n.modality == "visual"]),
    }
    request = make_request(prompt, model, values, pictures)
    value, faults, trace = await ask_traced(request, partial(_faults, spoken), ask)
    calls = all_calls(trace)
    if faults:
        first = faults[0]
        failure = Invalid(f"{first.path} ({first.code}): {first.text[:200]!r}; allowed: {first.allowed}")
        failure.calls = calls
        raise failure
    return Caption(
        segment_id=segment.id,
        seen=clean(value["seen"]),
        heard=clean(value["heard"] or "") or None,
        provenance=f"{model}:{prompt.id}",
        keys=tuple(dict.fromkeys(n.key for n in own if n.key)),
        traits=_traits(value),
        mistake=any(n.mistake for n in own),
        calls=calls,
    )


def _joined(narrations: Sequence[Narration]) -> str | None:
    return " ".join(text for n in narrations if (text := clean(n.text)))[:_MOST_QUOTED] or None


def _faults(spoken: str | None, value: dict[str, Any]) -> list[Fault]:
    """What the schema cannot say of a caption."""
    seen, heard = clean(value["seen"]), clean(value["heard"] or "")
    low, high = _SEEN_WORDS
    found = []
    if not low <= count_words(seen) <= high:
        found.append(Fault("/seen", "format", seen, f"{low} to {high} words, not {count_words(seen)}"))
    elif match := _OF_PICTURES.search(seen):
        found.append(Fault("/seen", "caption_speak", match[0], "the same without a word on the pictures"))
    if heard and spoken is None:
        found.append(Fault("/heard", "heard_not_seen", heard, "null: nothing was said"))
    elif count_words(heard) > _HEARD_WORDS:
        found.append(Fault("/heard", "format", heard, f"at most {_HEARD_WORDS} words"))
    for name, most in _MOST.items():
        if len(value[name]) > most:
            found.append(
                Fault(f"/{name}", "format", f"{len(value[name])} entries", f"at most {most} entries")
            )
    return found


def _traits(value: dict[str, Any]) -> dict[str, str]:
    """What was listed, in words. What the model was not certain of is evidence for nothing and left out."""
    changes = [f"{c['object']}: {c['from']} to {c['to']}" for c in value["state_changes"]]
    lists = {name: value[name] for name in ("actions", "objects", "on_screen_text")}
    lists["state_changes"] = changes
    told = {name: clean("; ".join(filter(str.strip, entries))) for name, entries in lists.items()}
    return {name: text for name, text in told.items() if text}
