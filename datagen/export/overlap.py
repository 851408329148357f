"""A judge of replies without a model: words in common. Exact, cheap, and blind to meaning.

It takes a paraphrase for an error and a wrong negation for the truth, so it serves to validate a dataset
whose replies are compared with themselves and with one another, never to train or to publish a score.
"""

from collections.abc import Sequence
from functools import lru_cache

from datagen.export.pauc import Judge
from datagen.llm.text import content, rouge_l, tokens

NOVEL = 0.3
"""Share of new words below which a reply says nothing new."""


def overlap_judge(top: int) -> Judge:
    """A judge that gives the ROUGE-L F1 of the words that carry meaning, on the levels 0 to `top`."""

    def judge(question: str, reply: str, truth: str) -> float:
        return float(int(top * _likeness(reply, truth) + 0.5))

    return judge


def says_nothing_new(earlier: Sequence[str], reply: str) -> bool:
    """Whether fewer than NOVEL of a reply's meaningful words are new against all earlier replies."""
    words = _words(reply)
    known = {word for text in earlier for word in _words(text)}
    return sum(word not in known for word in words) < NOVEL * len(words) if words else True


@lru_cache(maxsize=4096)
def _likeness(reply: str, truth: str) -> float:
    return rouge_l(_words(reply), _words(truth))


@lru_cache(maxsize=4096)
def _words(text: str) -> tuple[str, ...]:
    found = tokens(text)
    return content(found) or found
