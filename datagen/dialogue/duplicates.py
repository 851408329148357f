"""Questions that are the same, or nearly, over a whole dataset."""

from collections import Counter
from hashlib import blake2b

from rensa import RMinHash, RMinHashDeduplicator

from datagen.llm.text import normalised

_PIECE = 3
"""Letters to a piece. Questions are short: with longer pieces, one changed word parts them altogether."""
_HASHES = 128
_BANDS = 16
"""Of 8 hashes each: of pairs that are 80% alike one in twenty is not looked at, at 85% one in 160."""


class QuestionIndex:
    """Groups of like questions, the first of each standing for it.

    Alike are two questions that are the same without case and punctuation, or whose sets of three-letter
    pieces have at least the given Jaccard similarity, as MinHash estimates it (A. Broder, On the resemblance
    and containment of documents, 1997; the estimate's standard deviation at .8 is .035). A question joins the
    oldest group it is like, so the groups depend on the order of the questions, which the caller keeps.

    Holds about 2.4 kB for each different question.
    """

    def __init__(self, similarity: float) -> None:
        self.asked: Counter[int] = Counter()
        """How often each different question has been added, by question_hash()."""
        self.examples: list[str] = []
        """The first question of each group, by comparable()."""
        self._groups: dict[int, int] = {}
        self._firsts = RMinHashDeduplicator(similarity, _HASHES, use_lsh=True, num_bands=_BANDS)

    def find(self, text: str) -> int | None:
        """The number of the group that a question would join, if there is one."""
        if not self.examples:
            return None
        known = self._groups.get(question_hash(text))
        return self._alike(_min_hash(comparable(text))) if known is None else known

    def add(self, text: str) -> int:
        """Count a question; returns the number of its group."""
        key = question_hash(text)
        self.asked[key] += 1
        if key not in self._groups:
            shown = comparable(text)
            signature = _min_hash(shown)
            group = self._alike(signature)
            if group is None:
                group = len(self.examples)
                self.examples.append(shown)
                self._firsts.add(str(group), signature)
            self._groups[key] = group
        return self._groups[key]

    def _alike(self, signature: RMinHash) -> int | None:
        return min(map(int, self._firsts.get_duplicates(signature)), default=None)


def question_hash(text: str) -> int:
    """64 bits of a question, the same for questions that differ in case and punctuation only."""
    return int.from_bytes(blake2b(comparable(text).encode(), digest_size=8).digest())


def comparable(text: str) -> str:
    """A text without case and punctuation, and valid Unicode whatever it holds."""
    return normalised(text).encode("utf-8", "replace").decode()


def _min_hash(text: str) -> RMinHash:
    signature = RMinHash(_HASHES, 42)  # the seed that the library's index insists on
    signature.update([text[at : at + _PIECE] for at in range(max(1, len(text) - _PIECE + 1))])
    return signature
