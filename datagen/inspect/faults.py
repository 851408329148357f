"""`datagen faults`: how well the checks find faults, by code, as a table or as JSON.

Without a dataset the clean dialogues are those written by hand (prompts/faults); with one, its own dialogues,
which passed the checks when it was built. Either way with two sets of wordings: those the checks were written
with, and held-out ones.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from datagen.dialogue.fault_material import SETS, Clean, read_wordings, written
from datagen.dialogue.faults import Score, score
from datagen.errors import Invalid, UsageError
from datagen.inspect.dataset import all_rows
from datagen.inspect.terminal import command
from datagen.records import Caption, Dialogue, Segment

_MOST_DIALOGUES = 200
"""Dialogues of a dataset that are used, the first by id: a hundred faults are put into each."""
_WRITTEN_WORDS, _MOST_WORDS = 60, 100_000
"""Of a reply: replies of a dataset may be as long as its own pipeline allowed."""


@command
def main(argv: list[str] | None = None) -> int:
    """Run `datagen faults`; returns the exit status."""
    p = argparse.ArgumentParser(
        prog="datagen faults",
        description="Put every kind of fault into clean dialogues and report what the checks find: recall "
        "and precision by code.",
    )
    p.add_argument(
        "out",
        nargs="?",
        metavar="OUT",
        type=Path,
        help="a built dataset; without one, dialogues written by hand",
    )
    p.add_argument("--json", action="store_true", help="print JSON rather than a table")
    args = p.parse_args(argv)
    built = list(_dialogues_of(args.out)) if args.out else None
    limit = _MOST_WORDS if args.out else _WRITTEN_WORDS
    tables = {name: score(built or written(name), read_wordings(name), limit) for name in SETS}
    if args.json:
        print(json.dumps({name: {c: _as_dict(s) for c, s in rows.items()} for name, rows in tables.items()}))
    else:
        print("\n\n".join("\n".join(_lines(name, rows)) for name, rows in tables.items()))
    return 0


def _lines(name: str, rows: dict[str, Score]) -> Iterator[str]:
    """The table of one set of wordings."""
    titles = f"{'faults':>8}{'found':>8}{'recall':>8}{'flagged':>9}{'right':>8}{'precision':>11}"
    yield f"{name + ' wordings':24}{titles}"
    for code, row in rows.items():
        recall = f"{row.recall:.3f}" if row.injected else "-"
        precision = f"{row.precision:.3f}" if row.flagged else "-"
        yield f"{code:24}{row.injected:8}{row.found:8}{recall:>8}{row.flagged:9}{row.right:8}{precision:>11}"


def _as_dict(row: Score) -> dict[str, Any]:
    return {**row._asdict(), "recall": round(row.recall, 4), "precision": round(row.precision, 4)}


def _dialogues_of(out: Path) -> Iterator[Clean]:
    """The dialogues of a built dataset with their segments and captions, in order of id.

    Raises UsageError where there are none.
    """
    try:
        talks = sorted(all_rows(out, "dialogues"), key=lambda row: str(row.get("id")))[:_MOST_DIALOGUES]
        wanted = {row.get("video_id") for row in talks}
        segments: dict[Any, list[dict[str, Any]]] = {}
        for row in all_rows(out, "segments"):
            if row.get("video_id") in wanted:
                segments.setdefault(row["video_id"], []).append(row)
    except Invalid as failure:
        raise UsageError(f"{out}/{failure}") from None
    if not talks:
        raise UsageError(f"{out}: holds no dialogues; build a dataset there, or leave OUT out")
    try:
        for talk in talks:
            own = sorted(segments.get(talk["video_id"], []), key=lambda row: row["start"])
            yield Clean(
                msgspec.convert(talk, Dialogue),
                tuple(_segment(row) for row in own),
                tuple(_caption(row) for row in own),
            )
    except (KeyError, TypeError, msgspec.ValidationError) as error:
        raise UsageError(f"{out}: is no dataset that datagen built: {error}") from None


def _segment(row: dict[str, Any]) -> Segment:
    return msgspec.convert({**row, "boundary": row["boundary"] or None}, Segment)


def _caption(row: dict[str, Any]) -> Caption:
    traits = {trait["name"]: trait["value"] for trait in row["traits"]}
    told = {"seen": row["seen"] or None, "heard": row["heard"] or None, "traits": traits}
    return msgspec.convert({**row, **told, "segment_id": row["id"]}, Caption)
