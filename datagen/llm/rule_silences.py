"""Questions made by rule to which silence is right: nothing annotated, said or measured answers them."""

from msgspec.structs import replace

from datagen.llm.rule_answers import Material, make_question
from datagen.llm.rule_topics import akin
from datagen.llm.text import content, tokens
from datagen.llm.wordings import fraction, pick, wordings
from datagen.records import Question

_SILENT_SHARE = 1 / 4
"""Share of the nQnA videos in which one question is met with silence."""
_SWAP_SHARE = 1 / 8
"""Share of the 1QnA videos that have a second dialogue, on what never comes."""
Absent = tuple[str, str] | None
"""Wording and value of something that never comes; None where nothing is known to be absent."""


def silent_number(material: Material, count: int) -> int | None:
    """Which of so many questions is to be met with silence: never the first, in most videos none."""
    if count < 2 or fraction(*material.key, "never") >= _SILENT_SHARE:
        return None
    return pick(range(1, count), *material.key, "silent")


def make_silence(material: Material, place: int, absent: Absent, key: tuple[object, ...]) -> Question | None:
    """A question asked in segment number `place` and met with silence, of a kind that can be told true."""
    made = []
    if absent and "never" in material.shapes:
        made.append(make_question(material, place, *absent, "never", ()))
    if "stop" in material.shapes:
        made.append(make_question(material, place, "stop", "", "stop", ()))
    # What was said may answer anything, in other words; what was written tells what is seen.
    if "unanswerable" in material.shapes and material.kind in ("step", "narration"):
        known = {word for line in material.lines for word in tokens(line.text)}
        texts = wordings()["unanswerable"]
        texts = tuple(text for text in texts if not any(akin(word, known) for word in content(tokens(text))))
        if texts:
            asked = make_question(material, place, "unanswerable", "", "unanswerable", ())
            made.append(replace(asked, text=pick(texts, *key)))
    return pick(made, *key, "silence") if made else None


def make_swap(material: Material, absent: Absent) -> Question | None:
    """A question asked at the start of a video that has nothing to do with it, in some of the videos."""
    if not absent or "swap" not in material.shapes or fraction(*material.key, "swap") >= _SWAP_SHARE:
        return None
    return make_question(material, -1, *absent, "swap", ())
