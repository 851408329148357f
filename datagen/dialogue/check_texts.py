"""What any text may not be, whether reply or question."""

import json
import re

from datagen.dialogue.lexicon import LABEL, SILENCE
from datagen.llm.text import clean, count_words, normalised, stems
from datagen.records import NO_REPLY

_ROLE = re.compile(r"^[ \t]*+(?:user|assistant|system)[ \t]*+(?:$|[:：])", re.IGNORECASE | re.MULTILINE)
_JSON = re.compile(r"```|[{\[]\s?\"|\"\s?[}\]]|\"\s?:\s?[\"{\[]|^(?:null|none|n/a)\W*+$", re.IGNORECASE)


def text_fault(text: str, max_words: int, known: str) -> str | None:
    """What is wrong with the form of a text, or None; `known` may say itself what looks like a fault."""
    if not text.strip():
        return "empty"
    if SILENCE.search(text) or normalised(text) == NO_REPLY.lower():
        return f"{NO_REPLY!r} in the text"
    if _ROLE.search(text):
        return "a role stands at the start of a line"
    if _is_json(text):
        return "residue of JSON"
    if clean(text).casefold() != " ".join(text.split()).casefold() or len(text.splitlines()) > 1:
        return "line breaks, control characters or chat tokens in the text"
    if residue := said_beyond(LABEL, text, known):
        return f"residue of a form, {residue}"
    if count_words(text) > max_words:
        return f"{count_words(text)} words, more than {max_words}"
    return None


def said_beyond(pattern: re.Pattern[str], text: str, known: str) -> str | None:
    """A match of the pattern that what is known does not say itself, in some form: that may be repeated."""
    found = [match[0] for match in pattern.finditer(text)]
    if not found:
        return None
    allowed = {match[0].casefold() for match in pattern.finditer(known)}
    words = set(stems(known))
    for match in found:
        carrying = stems(match)
        if match.casefold() not in allowed and not (carrying and words.issuperset(carrying)):
            return repr(match)
    return None


def _is_json(text: str) -> bool:
    if _JSON.search(text):
        return True
    if text.strip()[:1] not in "{[":
        return False
    try:
        return isinstance(json.loads(text), (dict, list))
    except (ValueError, RecursionError):
        return False
