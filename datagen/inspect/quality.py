"""How good a dataset is in the eyes of people: which dialogues to judge, and what follows for the others.

The sample is stratified by source, type of dialogue and shape of the first question, and drawn by a seeded
hash of the dialogues' ids: it does not depend on the order of rows, and a dialogue more or less moves few
others. Every stratum is seen, by two dialogues at least where it has them; the rest is shared out by size.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from statistics import NormalDist
from typing import Any

import msgspec
from msgspec import Struct

from datagen.config import Config
from datagen.export.split import hash64
from datagen.inspect.dataset import all_rows
from datagen.inspect.verdicts import DEFECTS, Verdict, stored_verdicts
from datagen.ledger import key_of
from datagen.records import Answer, Dialogue

_SAMPLE = 100
"""Dialogues to judge: where none of so many is bad, at most 3.7 % of all are, with 95 % confidence."""
_LEAST = 2
"""Of each stratum."""
_MOST_STRATA = 24
"""The smallest beyond these are one."""
_OTHERS = ("others", "", "")
_Z = NormalDist().inv_cdf(0.975)

Stratum = tuple[str, str, str]
"""Source, type of dialogue, shape of the first question."""


class Member(Struct, frozen=True):
    """A dialogue as one of many."""

    stratum: Stratum
    content: str


class Rate(Struct, frozen=True):
    """How many dialogues of a stratum, or of all, are bad."""

    name: str
    dialogues: int
    drawn: int
    judged: int
    bad: int
    rate: float | None
    """An estimate for all `dialogues`; None where none was judged."""
    low: float = 0.0
    high: float = 1.0
    """The 95 % interval of the rate."""


class Quality(Struct, frozen=True, kw_only=True):
    """What judges say of a dataset."""

    strata: tuple[Rate, ...]
    all: Rate
    judges: int
    defects: tuple[tuple[str, int], ...]
    """Judged dialogues of the sample by code of defect."""
    pairs: int
    """Pairs of verdicts of two judges on the same dialogue."""
    agreeing: int
    both_bad: int
    outside: int
    """Judged dialogues that were not drawn: somebody chose them, so they say nothing of the others."""
    changed: int
    """Verdicts on dialogues that have changed since, or are no more. They do not count."""


def content_of(dialogue: Dialogue) -> str:
    """Digest of what is judged: questions, answers and times, not who wrote them."""
    told = [
        (question.text, question.ask_time, question.kind, [_told(answer) for answer in question.answers])
        for question in dialogue.questions
    ]
    return key_of("dialogue", 1, (dialogue.video_id, dialogue.type, told))


def _told(answer: Answer) -> tuple[Any, ...]:
    spans = answer.evidence_start, answer.evidence_end, answer.reply_start, answer.reply_end
    return answer.text, answer.evidence, spans, answer.immediate, answer.modality


def members(out: Path) -> dict[str, Member]:
    """All dialogues of a dataset by id. Raises Invalid where a table cannot be read."""
    sources = {row["id"]: row["source"] for row in all_rows(out, "videos", ["id", "source"])}
    found = {}
    for row in all_rows(out, "dialogues"):
        try:
            dialogue = msgspec.convert(row, Dialogue)
        except msgspec.ValidationError:
            continue
        if dialogue.video_id in sources:
            kind = dialogue.questions[0].kind if dialogue.questions else ""
            stratum = str(sources[dialogue.video_id]), dialogue.type, kind
            found[dialogue.id] = Member(stratum, content_of(dialogue))
    return _pooled(found)


def _pooled(found: dict[str, Member]) -> dict[str, Member]:
    sizes = Counter(member.stratum for member in found.values())
    if len(sizes) <= _MOST_STRATA:
        return found
    kept = set(sorted(sizes, key=lambda stratum: (-sizes[stratum], stratum))[: _MOST_STRATA - 1])
    return {
        id: member if member.stratum in kept else Member(_OTHERS, member.content)
        for id, member in found.items()
    }


def sample(found: Mapping[str, Member], seed: int, size: int = _SAMPLE) -> list[str]:
    """The dialogues to judge, in an order in which any first few are a fair beginning."""
    order = sorted(found, key=lambda id: (hash64(seed, "quality", id), id))
    sizes = Counter(member.stratum for member in found.values())
    left = allocate(sizes, size)
    drawn = []
    for id in order:
        stratum = found[id].stratum
        if left[stratum]:
            left[stratum] -= 1
            drawn.append(id)
    return drawn


def allocate(sizes: Mapping[Stratum, int], size: int) -> dict[Stratum, int]:
    """How many to draw of each stratum: _LEAST, and more by size (method of Sainte-Laguë)."""
    shares = {stratum: min(count, _LEAST) for stratum, count in sorted(sizes.items())}
    for _ in range(size - sum(shares.values())):
        room = [stratum for stratum in shares if shares[stratum] < sizes[stratum]]
        if not room:
            break
        shares[max(room, key=lambda stratum: sizes[stratum] / (2 * shares[stratum] + 1))] += 1
    return shares


def wilson(bad: float, judged: float) -> tuple[float, float]:
    """The 95 % score interval of a rate of `bad` in `judged` (E. B. Wilson, JASA 22, 1927, p. 209-212)."""
    if judged <= 0:
        return 0.0, 1.0
    rate, z2 = bad / judged, _Z * _Z
    middle = rate + z2 / (2 * judged)
    half = _Z * math.sqrt(max(0.0, rate * (1 - rate)) / judged + z2 / (4 * judged * judged))
    low, high = ((middle + sign * half) / (1 + z2 / judged) for sign in (-1, 1))
    # At the ends the interval holds the rate but for rounding.
    return max(0.0, min(low, rate)), min(1.0, max(high, rate))


def read_quality(out: Path, config: Config) -> Quality | None:
    """What the verdicts kept with a dataset say, if there are any. Raises Invalid and UsageError."""
    verdicts = stored_verdicts(out)
    return quality(members(out), verdicts, config.seed) if verdicts else None


def quality(found: Mapping[str, Member], verdicts: Sequence[Verdict], seed: int) -> Quality:
    """The rates of bad dialogues. A dialogue with several judges is bad where half of them or more say so."""
    standing = [v for v in verdicts if v.verdict != "none"]
    valid = [v for v in standing if v.dialogue_id in found and v.content == found[v.dialogue_id].content]
    by_dialogue: dict[str, list[Verdict]] = {}
    for verdict in valid:
        by_dialogue.setdefault(verdict.dialogue_id, []).append(verdict)
    drawn = sample(found, seed)
    votes = {id: [v.verdict == "bad" for v in by_dialogue[id]] for id in drawn if id in by_dialogue}
    judged = {id: 2 * sum(own) >= len(own) for id, own in votes.items()}
    strata = _rates(found, drawn, judged)
    codes = Counter(c for id in judged for c in {code for v in by_dialogue[id] for code in v.defects})
    pairs = [
        (a.verdict == "bad", b.verdict == "bad")
        for verdicts_on_it in by_dialogue.values()
        for a, b in combinations(verdicts_on_it, 2)
    ]
    return Quality(
        strata=strata,
        all=_overall(strata),
        judges=len({v.judge for v in valid}),
        defects=tuple((code, codes[code]) for code in DEFECTS if codes[code]),
        pairs=len(pairs),
        agreeing=sum(a == b for a, b in pairs),
        both_bad=sum(a and b for a, b in pairs),
        outside=len(by_dialogue) - len(judged),
        changed=len(standing) - len(valid),
    )


def _rates(found: Mapping[str, Member], drawn: Sequence[str], judged: Mapping[str, bool]) -> tuple[Rate, ...]:
    def by_stratum(ids: Iterable[str]) -> Counter[Stratum]:
        return Counter(found[id].stratum for id in ids)

    sizes, own, seen = by_stratum(found), by_stratum(drawn), by_stratum(judged)
    bad = by_stratum(id for id, is_bad in judged.items() if is_bad)
    rates = []
    for stratum in sorted(sizes):
        name, n, k = ", ".join(filter(None, stratum)), seen[stratum], bad[stratum]
        rates.append(Rate(name, sizes[stratum], own[stratum], n, k, k / n if n else None, *wilson(k, n)))
    return tuple(rates)


def _overall(strata: Sequence[Rate]) -> Rate:
    """All strata that were judged, each by its share of their dialogues.

    The interval is Wilson's for as many dialogues as, drawn without strata, would tell as much: the square of
    the sum of the verdicts' weights over the sum of their squares (L. Kish, Survey Sampling, 1965). Where
    most dialogues were judged it is too wide rather than too narrow: it takes them for a few of very many.
    """
    seen = [rate for rate in strata if rate.judged]
    total = sum(rate.dialogues for rate in seen)
    estimate = sum(rate.dialogues / total * (rate.rate or 0.0) for rate in seen) if seen else None
    spread = sum((rate.dialogues / total) ** 2 / rate.judged for rate in seen)
    low, high = wilson((estimate or 0.0) / spread, 1 / spread) if spread else (0.0, 1.0)
    dialogues, drawn = sum(rate.dialogues for rate in strata), sum(rate.drawn for rate in strata)
    judged, bad = sum(rate.judged for rate in strata), sum(rate.bad for rate in strata)
    return Rate("all", dialogues, drawn, judged, bad, estimate, low, high)


HEADS = ("dialogues of", "all", "drawn", "judged", "bad", "rate", "95 % interval")


def quality_rows(found: Quality) -> list[tuple[str, ...]]:
    """Cells of a table under HEADS: a row for each stratum, and one for all."""
    return [
        (
            rate.name, *map(str, (rate.dialogues, rate.drawn, rate.judged, rate.bad)),
            "-" if rate.rate is None else f"{rate.rate:.1%}",
            "-" if rate.rate is None else f"{rate.low:.1%} to {rate.high:.1%}",
        )
        for rate in (*found.strata, found.all)
    ]  # fmt: skip


def quality_notes(found: Quality) -> list[str]:
    """What a reader of the table should know."""
    notes = [
        f"Judged by {found.judges} {'person' if found.judges == 1 else 'people'}, on dialogues drawn by "
        "source, type and shape of the first question. A dialogue is bad where half of its judges or more "
        "say so. The rate of all weighs each stratum by its dialogues; intervals are Wilson's, for all at "
        "the effective size of the sample (Kish)."
    ]
    unseen = sum(rate.dialogues for rate in found.strata if not rate.judged)
    if unseen:
        notes.append(f"Of {unseen} dialogues in strata that nobody judged yet, nothing is known.")
    if found.defects:
        said = ", ".join(f"{DEFECTS[code]} ({code}) {count}" for code, count in found.defects)
        notes.append(f"What was wrong, in dialogues: {said}.")
    if found.pairs:
        bad = 2 * found.both_bad + found.pairs - found.agreeing
        also = f"; of what one called bad, the other did so in {2 * found.both_bad / bad:.0%}" if bad else ""
        notes.append(f"Of {found.pairs} pairs of verdicts on the same dialogue {found.agreeing} agree{also}.")
    if found.outside:
        notes.append(f"{found.outside} judged dialogues were not drawn and do not count.")
    if found.changed:
        notes.append(f"{found.changed} verdicts are on dialogues that have changed since and do not count.")
    return notes
