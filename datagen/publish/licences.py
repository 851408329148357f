"""What may be published of each video, by the licence its manifest names.

All: an open licence, or one named with `--licence-ok`. Times alone: no licence, or one named with
`--timestamps`. Anything else is refused: whoever publishes must say which of the two it is. Where the texts
of a sidecar have a licence of their own, the stricter of the two holds.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
from msgspec import Struct

from datagen.errors import UsageError

NONE = "none"
"""How a missing licence is named on the command line."""

_CC = re.compile(
    r"(?:cc-?|creative-?commons-?|https?://creativecommons\.org/licenses/)(?P<kind>by(?:-nc)?(?:-sa)?)"
    r"(?:[-/](?P<version>[1-4]\.[05]))?(?:-international|-unported|-generic)?/?"
)
_WORDS = {"attribution": "by", "noncommercial": "nc", "non-commercial": "nc", "sharealike": "sa"}
_HUB_CC = frozenset(
    ["cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0",
     "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0"]
)  # fmt: skip
_ZERO = re.compile(r"cc-?0(?:-1\.0)?|https?://creativecommons\.org/publicdomain/zero/1\.0/?|cc-zero")
_OTHERS = {
    "public-domain": "pddl",
    "pddl": "pddl",
    "unlicense": "unlicense",
    "mit": "mit",
    "apache-2.0": "apache-2.0",
    "odc-by": "odc-by",
    "odc-by-1.0": "odc-by",
    "cdla-permissive-1.0": "cdla-permissive-1.0",
    "cdla-permissive-2.0": "cdla-permissive-2.0",
}
"""Other open licences, with the name that the Hub has for them."""


class Terms(Struct, frozen=True):
    """The videos of one source under one licence, and what may be published of them."""

    source: str
    licence: str
    """As the manifest writes it; empty where it names none."""
    videos: int
    seconds: float
    whole: bool
    """Frames and text may be published; else times alone, if anything."""
    refused: bool = False
    """Nothing may be published until somebody says which of the two it is."""
    texts: str = ""
    """The licence of the sidecars' texts, where it is another one; both must allow what is published."""


class Grants(Struct, frozen=True):
    """What may be published of a dataset."""

    terms: tuple[Terms, ...]
    """Sorted by source, licence, licence of the texts."""
    whole: dict[str, str]
    """The licence of each video of which frames and text may be published, by its id."""

    @property
    def withheld(self) -> int:
        """Number of videos of which times alone may be published."""
        return sum(terms.videos for terms in self.terms if not terms.whole)


def hub_licence(licence: str) -> str | None:
    """The Hub's name for an open licence, or None where a licence is not known to be open.

    Open means that resized frames and texts made from the video may be passed on: so no ND. The names are
    those of https://huggingface.co/docs/hub/repositories-licenses.
    """
    name = re.sub(r"[\s_]+", "-", licence[:100].strip().lower())
    if _ZERO.fullmatch(name):
        return "cc0-1.0"
    for word, short in _WORDS.items():
        name = name.replace(word, short)
    if match := _CC.fullmatch(name):
        exact = f"cc-{match['kind']}-{match['version']}"
        return exact if exact in _HUB_CC else "cc"
    return _OTHERS.get(name)


def read_grants(out: Path, ok: Collection[str] = (), timestamps: Collection[str] = ()) -> Grants:
    """What may be published of the dataset in `out`; `ok` and `timestamps` name licences.

    Raises UsageError where there are no videos, where a named licence occurs nowhere, and where a licence is
    neither open nor named.
    """
    rows = _videos(out)
    found = {_key(row[name]) for row in rows for name in ("licence", "texts")}
    for option, names in (("--licence-ok", ok), ("--timestamps", timestamps)):
        for name in names:
            if _key(name) not in found:
                known = ", ".join(repr(licence) for licence in sorted(found))
                raise UsageError(f"{option} {name!r}: no video has this licence; there are {known}")
    verdicts = {key: _verdict(key, {_key(n) for n in ok}, {_key(n) for n in timestamps}) for key in found}
    _refuse(rows, verdicts)
    return _grants(rows, verdicts)


def licence_ledger(terms: Iterable[Terms]) -> list[dict[str, Any]]:
    """For each source and licence: videos, hours, and what is published of them, for run.json and the card.

    whole: frames and texts; timestamps: spans without texts or frames; refused: nothing, as long as nobody
    says with `--licence-ok` or `--timestamps` which of the two may be.
    """
    return [
        {
            "source": one.source,
            "licence": one.licence,
            "sidecar_licence": one.texts,
            "videos": one.videos,
            "hours": round(one.seconds / 3600, 4),
            "published": "whole" if one.whole else "refused" if one.refused else "timestamps",
        }
        for one in terms
    ]


def open_grants(out: Path) -> Grants:
    """What may be published by open licences alone. Raises UsageError where there are no videos."""
    rows = _videos(out)
    names = {row[name] for row in rows for name in ("licence", "texts")}
    return _grants(rows, {_key(name): _verdict(_key(name), (), ()) for name in names})


def _grants(rows: list[dict[str, Any]], verdicts: Mapping[str, bool | None]) -> Grants:
    counts: dict[tuple[str, str, str], tuple[int, float]] = {}
    whole: dict[str, str] = {}
    for row in rows:
        key = row["source"], row["licence"], row["texts"]
        videos, seconds = counts.get(key, (0, 0.0))
        counts[key] = (videos + 1, seconds + row["duration"])
        if verdicts[_key(row["licence"])] and verdicts[_key(row["texts"])]:
            whole[row["id"]] = row["licence"]
    terms = []
    for (source, licence, texts), (videos, seconds) in counts.items():
        both = [verdicts[_key(licence)], verdicts[_key(texts)]]
        other = texts if texts != licence else ""
        terms.append(
            Terms(source, licence, videos, round(seconds, 3), all(both), refused=None in both, texts=other)
        )
    return Grants(tuple(sorted(terms, key=lambda one: (one.source, one.licence, one.texts))), whole)


def _key(licence: str) -> str:
    return licence.strip().lower() or NONE


def _verdict(key: str, ok: Collection[str], timestamps: Collection[str]) -> bool | None:
    """Whether all may be published, or times alone; None where nobody has said."""
    if key in timestamps:
        return False
    if key in ok or hub_licence(key):
        return True
    return False if key == NONE else None


def _refuse(rows: list[dict[str, Any]], verdicts: dict[str, bool | None]) -> None:
    held = [{row[name] for name in ("licence", "texts") if verdicts[_key(row[name])] is None} for row in rows]
    closed = sorted(set().union(*held))
    if not closed:
        return
    number = sum(map(bool, held))
    names = " ".join(f'"{licence[:80]}"' for licence in closed[:5])
    raise UsageError(
        f"licence: {number} videos are under {names}{' ...' if len(closed) > 5 else ''}, not known to allow "
        f"publishing frames or text; if you may, add --licence-ok {names}; to publish their times alone, "
        f"--timestamps {names}"
    )


def _videos(out: Path) -> list[dict[str, Any]]:
    files = sorted((out / "videos").glob("*.parquet"))
    if not files:
        raise UsageError(f"OUT {out}: holds no videos/*.parquet; give the folder of a finished build")
    try:
        dataset = ds.dataset(files, format="parquet")
        # Datasets of earlier versions know no licence of sidecars.
        more = [name for name in ("sidecar_licence",) if name in dataset.schema.names]
        table = dataset.to_table(["id", "source", "licence", "duration", *more])
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"OUT {out}: videos cannot be read: {str(error).splitlines()[0]}") from None
    rows: list[dict[str, Any]] = table.to_pylist()
    if not rows:
        raise UsageError(f"OUT {out}: holds no video; nothing to publish")
    return [
        {
            **row,
            "licence": row["licence"] or "",
            "source": row["source"] or "",
            "texts": row.get("sidecar_licence") or row["licence"] or "",
        }
        for row in rows
    ]
