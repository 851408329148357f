"""What is known of a video, under the marks (s1, s2, ...) by which a model knows its segments."""

from collections.abc import Iterable
from functools import cached_property
from typing import Literal

from datagen.llm.text import content, tokens
from datagen.records import Caption, Modality, Segment

_COPIED = 0.8
"""Share of a phrase's words that must stand in the notes it is said to be copied from."""
_DETAILS = ("actions", "objects", "state_changes", "on_screen_text")
"""Traits that a model wrote; those measured in the pixels are not for reading."""
_MOST_LISTED = 40
_STRANGE = 0.15
"""Share of words of the other kind that does not make an answer one of both kinds."""


class Notes:
    """The segments of a video, each with its caption where it has one."""

    def __init__(self, segments: tuple[Segment, ...], captions: tuple[Caption, ...]):
        by_id = {caption.segment_id: caption for caption in captions}
        self.segments = segments
        self.captions = tuple(by_id.get(segment.id) for segment in segments)
        self.marks = tuple(f"s{number}" for number, _ in enumerate(segments, 1))
        self._places = {mark: place for place, mark in enumerate(self.marks)}
        self._seen = [frozenset(tokens(" ".join(_seen(caption)))) for caption in self.captions]
        self._heard = [frozenset(tokens((caption and caption.heard) or "")) for caption in self.captions]

    def place(self, mark: str) -> int | None:
        """Number of the segment with this mark, from 0; None where there is no such mark."""
        return self._places.get(mark)

    def rows(self, stop: int | None = None) -> list[dict[str, object]]:
        """What a prompt tells of the segments, those before number `stop`."""
        return [_row(mark, caption) for mark, caption in zip(self.marks, self.captions, strict=True)][:stop]

    def listed(self, places: Iterable[int]) -> str:
        """The marks of some segments, for a model to read."""
        marks = [self.marks[place] for place in places]
        return ", ".join(marks[:_MOST_LISTED]) + (" ..." if len(marks) > _MOST_LISTED else "")

    def is_known(self) -> bool:
        """Whether anything at all is known of the video."""
        return any(self._seen) or any(self._heard)

    def is_copied(self, phrase: str, place: int) -> bool:
        """Whether a phrase stands in the notes on a segment, give or take a word."""
        words = tokens(phrase)
        known = self._seen[place] | self._heard[place]
        return bool(words) and sum(word in known for word in words) >= _COPIED * len(words)

    def modality(self, texts: Iterable[str], places: Iterable[int]) -> Modality | Literal["both"]:
        """By the words that carry meaning: visual where they were seen, audio where they were only heard."""
        places = list(places)
        seen = frozenset[str]().union(*(self._seen[place] for place in places))
        heard = frozenset[str]().union(*(self._heard[place] for place in places))
        words = content(tokens(" ".join(texts)))
        only_heard = sum(word in heard and word not in seen for word in words)
        strange = _STRANGE * (only_heard + sum(word in seen for word in words))
        if only_heard <= strange:
            return "visual"
        return "audio" if sum(word in seen for word in words) <= strange else "both"

    def voices_mark(self, text: str) -> bool:
        """Whether a text speaks of a mark; a word that looks like one but is in the notes is none."""
        return any(word in self._places and word not in self._words for word in tokens(text))

    def known_later(self, text: str, place: int) -> tuple[list[str], int]:
        """Of the words that carry meaning, those that come up only after segment `place`; and how many do."""
        words = content(tokens(text))
        before = frozenset[str]().union(*self._seen[: place + 1], *self._heard[: place + 1])
        return [word for word in words if word in self._words and word not in before], len(words)

    @cached_property
    def _words(self) -> frozenset[str]:
        return frozenset[str]().union(*self._seen, *self._heard)


def _row(mark: str, caption: Caption | None) -> dict[str, object]:
    if caption is None:
        return {"id": mark, "seen": None, "heard": None}
    details = {name: caption.traits[name] for name in _DETAILS if name in caption.traits}
    return {"id": mark, "seen": caption.seen, **details, "heard": caption.heard}


def _seen(caption: Caption | None) -> list[str]:
    if caption is None:
        return []
    return [caption.seen or "", *(caption.traits.get(name, "") for name in _DETAILS)]
