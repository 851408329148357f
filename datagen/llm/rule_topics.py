"""What a viewer could wait for in a video: everything that "tell me when ..." can be asked of, by rule."""

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from datagen.llm.rule_captions import describe
from datagen.llm.text import content, count_words, ends_sentence, normalised, sentences, spaceless, tokens
from datagen.llm.wordings import fraction, say, wordings
from datagen.records import Caption, Modality, Narration

_ARTICLES = ("the", "a", "an")
_COLOURS = "red orange yellow green cyan blue purple pink brown black grey white"
_NO_THINGS = "end top side bottom middle front rest amount bit lot time number beginning"
"""Nouns that nothing can be done with."""
_AWAITED = {
    "detect_colour": set(_COLOURS.split()),
    "detect_light": {"dark", "bright"},
    "detect_motion": {"lively"},
    "detect_stillness": {"still"},
}
_MAX_TERMS = 60
_MAX_EVENT_WORDS = 20


class Line(NamedTuple):
    """One sentence of a segment."""

    place: int
    """Number of the segment."""
    text: str
    end: float
    """All of it has been shown, or said, by this time; inf: by the end of the segment."""
    modality: Modality = "visual"
    keys: tuple[str, ...] = ()
    """Lines or keys of the sidecar it comes from."""


class Topic(NamedTuple):
    """Something to wait for, with every time it comes up in the video."""

    wording: str
    """Name of the question's wordings."""
    value: str
    hits: dict[int, tuple[Line, ...]]
    """By segment."""
    blocked: frozenset[int]
    """Segments in which it cannot be asked, because more of it may follow in the same one; -1: the start."""

    @property
    def id(self) -> str:
        """Unlike any other topic's of the video."""
        return f"{self.wording}:{self.value}"


def lines_of(shared: Sequence[Sequence[Narration]]) -> list[Line]:
    """The sentences of the narrations that each segment has."""
    lines = []
    for place, own in enumerate(shared):
        begun: list[Narration] = []
        for number, n in enumerate(own):
            begun.append(n)
            following = own[number + 1] if number + 1 < len(own) else None
            # Subtitles break off in mid-sentence and go on in the next cue.
            if (
                n.modality == "audio"
                and following
                and following.modality == "audio"
                and not ends_sentence(n.text)
            ):
                continue
            # What was written at a point in time goes on from there: nobody says for how long.
            end = math.inf if n.start == n.end else n.end
            keys = tuple(dict.fromkeys(part.key for part in begun if part.key))
            whole = " ".join(part.text for part in begun)
            lines += [Line(place, text, end, n.modality, keys) for text in sentences(whole)]
            begun = []
    return lines


def find_topics(
    lines: Sequence[Line],
    lost: Sequence[Narration],
    mistakes: Iterable[int],
    captions: Sequence[Caption],
    *key: object,
) -> list[Topic]:
    """All topics of a video. What also comes up in `lost`, the narrations that belong to no segment, is none:
    it could not be answered each time. Without any narration the topics are measured in the pixels.
    """
    if not lines and not lost:
        return _measured(captions)
    seen = [line for line in lines if line.modality == "visual"]
    heard = [line for line in lines if line.modality == "audio"]
    lost_seen = [s for n in lost if n.modality == "visual" for s in sentences(n.text)]
    lost_heard = [s for n in lost if n.modality == "audio" for s in sentences(n.text)]
    topics = _events(seen, lost_seen)
    topics += _terms("detect_thing", _things(seen), seen, lost_seen, key)
    topics += _terms("detect_mention", _mentions(heard), heard, lost_heard, key)
    wrong = set(mistakes)
    if wrong and not any(n.mistake for n in lost):
        topics += _topic("detect_mistake", "", [line for line in seen if line.place in wrong])
    return topics


def never(lines: Sequence[Line], captions: Sequence[Caption], *key: object) -> tuple[str, str] | None:
    """(wording, value) of something that nobody wrote or said, or that was measured to be absent."""
    if not lines:
        shown = {colour for caption in captions for colour in caption.traits.get("colour", "").split(" to ")}
        return _first("detect_colour", [c for c in _COLOURS.split() if c not in shown], key)
    words = {token for line in lines for token in tokens(line.text)}
    if sum(word.isascii() for word in words) < 0.9 * len(words):
        return None
    spoken = all(line.modality == "audio" for line in lines)
    name = "never_mention" if spoken else "never_event"
    absent = [x for x in wordings()[name] if not any(akin(w, words) for w in content(tokens(x)))]
    return _first("detect_mention" if spoken else "detect_event", absent, key)


def _first(wording: str, values: list[str], key: tuple[object, ...]) -> tuple[str, str] | None:
    return (wording, min(values, key=lambda v: fraction(*key, v))) if values else None


def _topic(wording: str, value: str, found: Iterable[Line]) -> list[Topic]:
    hits: dict[int, tuple[Line, ...]] = {}
    for line in found:
        hits[line.place] = (*hits.get(line.place, ()), line)
    return [Topic(wording, value, hits, frozenset(hits))] if hits else []


def _events(lines: Sequence[Line], lost: Sequence[str]) -> list[Topic]:
    """Whole sentences, except those that say no more than a part of another one."""
    by_text: dict[str, list[Line]] = {}
    for line in lines:
        by_text.setdefault(normalised(line.text), []).append(line)
    holders: dict[str, set[str]] = {}
    for text in [*by_text, *map(normalised, lost)]:
        for word in content(text.split()):
            holders.setdefault(word, set()).add(text)
    absent = set(map(normalised, lost))
    topics = []
    for text, found in by_text.items():
        alike = sorted((holders[word] for word in content(text.split())), key=len)
        if text in absent or not alike or not 2 <= count_words(found[0].text) <= _MAX_EVENT_WORDS:
            continue
        if len(set.intersection(*alike)) == 1:
            topics += _topic("detect_event", found[0].text, found)
    return topics


def _things(lines: Sequence[Line]) -> dict[str, str]:
    """Nouns by their normal form: what stands between an article and a function word or the end."""
    found: dict[str, str] = {}
    for line in lines:
        words = (*tokens(line.text), "")
        for article, word, following in zip(words, words[1:], words[2:], strict=False):
            noun = article in _ARTICLES and len(word) > 2 and word.isalpha() and not content((following,))
            if noun and content((word,)) and word not in _NO_THINGS.split():
                found[word] = word
    return found


def _mentions(lines: Sequence[Line]) -> dict[str, str]:
    """Content words as they are written, by their normal form; short phrases where words are not spaced."""
    found: dict[str, str] = {}
    for line in lines:
        for word in line.text.split():
            word = word.strip("\"'.,;:!?()[]«»“”„‘’…¡¿-–—")
            parts = tokens(word)
            spaced = (
                len(parts) == 1
                and len(word) >= 4
                and word.isalpha()
                and content(parts)
                and parts[0] not in _NO_THINGS.split()
            )
            phrase = 2 <= len(parts) <= 6 and word.isalpha() and all(spaceless(part[0]) for part in parts)
            if spaced or phrase:
                form = " ".join(parts)
                found[form] = max(word, found.get(form, ""))
    return found


def _terms(
    wording: str, terms: dict[str, str], lines: Sequence[Line], lost: Sequence[str], key: tuple[object, ...]
) -> list[Topic]:
    """Topics on single words that come up, in any form, in at most a third of the segments (or in three)."""
    padded = [f" {normalised(line.text)} " for line in lines]
    absent = [f" {normalised(text)} " for text in lost]
    places: dict[str, list[int]] = {}
    for number, text in enumerate(padded):
        for word in dict.fromkeys(text.split()):
            places.setdefault(word, []).append(number)
    words = sorted(places)
    most = max(3, len({line.place for line in lines}) // 3)
    topics = []
    for term in sorted(terms, key=lambda t: fraction(*key, t))[:_MAX_TERMS]:
        forms = _forms(term)
        longer = words[bisect_left(words, term) : bisect_left(words, term + "\U0010ffff")]
        # "sun" is part of "sunflower", and the two may or may not be meant as one.
        if (len(term) > 3 and set(longer) - forms) or any(f" {f} " in text for f in forms for text in absent):
            continue
        held = {n for f in forms for n in places.get(f.split()[0], ()) if f" {f} " in padded[n]}
        topics += [
            t for t in _topic(wording, terms[term], [lines[n] for n in sorted(held)]) if len(t.hits) <= most
        ]
    return topics


def _forms(term: str) -> set[str]:
    """A word's singular and plural."""
    singular = {term[:-1]} if term.endswith("s") and len(term) > 4 else set()
    if term.endswith("es") and len(term) > 5:
        singular.add(term[:-2])
    return {form for base in (term, *singular) for form in (base, f"{base}s", f"{base}es")}


def akin(word: str, words: Iterable[str]) -> bool:
    """Whether a word may be a form of one of the others."""
    stem = word[:4]
    return any(other.startswith(stem) for other in words)


def _measured(captions: Sequence[Caption]) -> list[Topic]:
    """Changes of what was measured, each a hit in the segment in which the new state begins."""
    topics = []
    for name, wording, reply in (
        ("colour", "detect_colour", "colour_gained"),
        ("light", "detect_light", "light_gained"),
        ("motion", "detect_motion", "motion_begins"),
        ("motion", "detect_stillness", "motion_ends"),
    ):
        paths = [c.traits.get(name, "").replace("very dark", "dark").split(" to ") for c in captions]
        if not all(path[0] for path in paths):
            continue
        for level in sorted({level for path in paths for level in path} & _AWAITED[wording]):
            begins = [i for i, path in enumerate(paths) if _begins(level, path, paths[max(0, i - 1)])]
            found = [Line(i, say(reply, captions[i].segment_id, **{name: level}), math.inf) for i in begins]
            blocked = {i for i, path in enumerate(paths) if level in path}
            blocked |= {-1} if paths[0][0] == level else set()
            topics += [t._replace(blocked=frozenset(blocked)) for t in _topic(wording, level, found)]
    changed = [i for i, c in enumerate(captions) if "boundary" in c.traits or "changes" in c.traits]
    found = [
        Line(i, text, math.inf)
        for i in changed
        for about, text in describe(captions[i].traits, captions[i].segment_id)
        if about in ("view", "look")
    ]
    inside = frozenset(i for i in changed if "changes" in captions[i].traits)
    return topics + [t._replace(blocked=inside) for t in _topic("detect_change", "", found)]


def _begins(level: str, path: list[str], before: list[str]) -> bool:
    steps = path if before is path else [before[-1], *path]
    return any(b == level != a for a, b in pairwise(steps))
