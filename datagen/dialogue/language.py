"""Which language a text is in, judged by its letters."""

from functools import cache
from typing import Any

_SURE = 0.9
"""Probability from which the judgement counts; below it the text is too short or too mixed to tell."""


def language_of(text: str) -> str | None:
    """ISO 639-1 code of a text's language, or None where it cannot be told.

    By byte n-grams and naive Bayes (M. Lui and T. Baldwin, langid.py, 2012), which needs a sentence or more.
    """
    code, probability = _identifier().classify(text)
    return str(code) if probability >= _SURE else None


def language_code(tag: str) -> str:
    """The language of a tag such as en-US, in lower case."""
    return tag.strip().lower().replace("_", "-").partition("-")[0]


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # takes a second, and few builds ask for it

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
