"""What a video is known to show and say, and by which segment: what the checks hold a dialogue against."""

import re
from bisect import bisect_right
from functools import cached_property
from itertools import pairwise

from datagen.llm.text import content, numbers, spaceless, stem, stems, tokens
from datagen.records import Answer, Caption, Segment

EPSILON = 1e-6
"""Seconds by which times may differ that are meant to be equal."""
_MOST_NAMES = 0.3
"""Share of capitalised words beyond which a capital does not mark a name (German nouns, titles)."""
_LEAST_PART = 4
"""Letters of a word that may be part of another one ("board" of "chessboard")."""
_SENTENCE = re.compile(r"[.!?;。！？\n]+")


class Evidence:
    """Everything that was written of the segments of one video; built once for a dialogue."""

    def __init__(self, segments: tuple[Segment, ...], captions: tuple[Caption, ...]):
        by_id = {caption.segment_id: caption for caption in captions}
        self.segments = segments
        self.captions = [by_id.get(segment.id) for segment in segments]
        self.places = {segment.id: place for place, segment in enumerate(segments)}
        self.end = max((segment.end for segment in segments), default=0.0)
        self.texts = [" ".join((_seen(caption), _heard(caption))).strip() for caption in self.captions]

    @cached_property
    def everything(self) -> str:
        """All texts as one."""
        return " ".join(self.texts)

    @cached_property
    def seen(self) -> list[frozenset[str]]:
        """The stems of what is seen in each segment."""
        return [frozenset(stems(_seen(caption))) for caption in self.captions]

    @cached_property
    def heard(self) -> list[frozenset[str]]:
        """The stems of what is heard in each segment."""
        return [frozenset(stems(_heard(caption))) for caption in self.captions]

    @cached_property
    def first_known(self) -> dict[str, int]:
        """The number of the segment in which each stem or number first comes up."""
        found: dict[str, int] = {}
        for place, text in enumerate(self.texts):
            for word in (*self.seen[place], *self.heard[place], *numbers(text)):
                found.setdefault(word, place)
        return found

    def is_new(self, word: str, place: int) -> bool:
        """Whether a stem comes up after segment number `place` only, and is no part of a word before that."""
        if self.first_known.get(word, -1) <= place:
            return False
        if len(word) < _LEAST_PART or not word.isascii():
            return True
        before = (other for other, at in self.first_known.items() if at <= place and len(other) > len(word))
        return not any(other.startswith(word) or other.endswith(word) for other in before)

    @cached_property
    def names(self) -> frozenset[str]:
        """Stems of the words that are always written with a capital, also in mid-sentence."""
        high: set[str] = set()
        low: set[str] = set()
        for text in self.texts:
            high |= capitalised(text)
            low |= {stem(token) for word in text.split() if word[:1].islower() for token in tokens(word)}
        found = high - low
        return frozenset(found if len(found) <= max(4, _MOST_NAMES * len(self.first_known)) else ())

    @cached_property
    def tells_names(self) -> bool:
        """Whether a capital in mid-sentence marks a name in this video's texts."""
        high = {word for text in self.texts for word in capitalised(text)}
        return len(high) <= max(4, _MOST_NAMES * len(self.first_known))

    def cited(self, answer: Answer) -> list[int]:
        """The numbers of the segments that an answer rests on, those that exist."""
        return [self.places[id] for id in answer.evidence if id in self.places]

    def text(self, places: list[int]) -> str:
        """What is known of these segments."""
        return " ".join(self.texts[place] for place in places)

    def known(self, places: list[int]) -> frozenset[str]:
        """The stems of what is known of these segments."""
        return frozenset[str]().union(*(self.seen[p] | self.heard[p] for p in places))

    def is_heard(self, place: int) -> bool:
        """Whether anything is said in a segment."""
        return bool(_heard(self.captions[place]))

    def ended(self, time: float) -> int:
        """How many segments have ended by a time in seconds."""
        return bisect_right([segment.end for segment in self.segments], time + EPSILON)

    def sentences(self, place: int, heard: bool) -> list[frozenset[str]]:
        """The stems of each sentence of what is heard, or else seen, in a segment."""
        caption = self.captions[place]
        text = _heard(caption) if heard else _seen(caption)
        return [frozenset(stems(piece)) for piece in _SENTENCE.split(text) if piece.strip()]


def capitalised(text: str) -> frozenset[str]:
    """Stems of the words with a capital in the middle of a sentence, those all in capitals apart."""
    words = text.split()
    return frozenset(
        stem(token)
        for before, word in pairwise(words)
        if word[0].isupper() and not word.isupper() and (before[-1].isalnum() or before[-1] == ",")
        for token in content(tokens(word))
    )


def is_spaced(text: str) -> bool:
    """Whether a text parts its words by spaces."""
    return not any(spaceless(char) for char in text if not char.isascii())


def _seen(caption: Caption | None) -> str:
    if caption is None:
        return ""
    return ". ".join((caption.seen or "", *(caption.traits[name] for name in sorted(caption.traits))))


def _heard(caption: Caption | None) -> str:
    return (caption and caption.heard) or ""
