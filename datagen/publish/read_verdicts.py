"""`datagen verdicts OUT FILE...`: what people say of a dataset's dialogues, read back and kept with it."""

import argparse
import sys
from pathlib import Path

from datagen.errors import Invalid, UsageError
from datagen.inspect.dataset import read_config, read_run
from datagen.inspect.quality import HEADS, members, quality, quality_notes, quality_rows
from datagen.inspect.terminal import plain
from datagen.inspect.verdicts import merged, read_verdicts, store_verdicts, stored_verdicts
from datagen.publish.card import write_card


def main(argv: list[str] | None = None) -> int:
    """Run `datagen verdicts`; returns the exit status."""
    p = argparse.ArgumentParser(
        prog="datagen verdicts",
        description="Read back the verdicts that judges saved from the report, keep them in "
        "OUT/verdicts.jsonl, print the rate of bad dialogues with its interval, and write it into the card. "
        "Of one judge on one dialogue the latest verdict counts, as long as the dialogue is the same.",
        epilog="Exit status: 0 done; 1 done, but some lines are no verdicts on this dataset; 2 wrong usage.",
    )
    p.add_argument("out", metavar="OUT", type=Path, help="the folder of a finished build")
    p.add_argument(
        "files", metavar="FILE", type=Path, nargs="*", help="verdicts-NAME.jsonl; none: print again"
    )
    args = p.parse_args(argv)
    try:
        lines, faults = take_in(args.out, args.files)
    except UsageError as error:
        print(f"datagen: {plain(str(error))}", file=sys.stderr)
        return 2
    for line in lines:
        print(plain(line))
    for fault in faults:
        print(plain(f"datagen: not taken in: {fault}"), file=sys.stderr)
    return 1 if faults else 0


def take_in(out: Path, files: list[Path]) -> tuple[list[str], list[str]]:
    """Keep the verdicts of `files` with a dataset and write its card again.

    Returns the lines to print, and for each line of a file that was not taken in, why. Raises UsageError.
    """
    try:
        config = read_config(read_run(out))
        found = members(out)
    except Invalid as error:
        raise UsageError(f"OUT {out}: {error}") from None
    verdicts, faults = stored_verdicts(out), []
    for path in files:
        read, torn = read_verdicts(path)
        faults += torn
        for number, verdict in read:
            if verdict.dialogue_id in found:
                verdicts.append(verdict)
            else:
                faults.append(f"{path.name}:{number}: no dialogue {verdict.dialogue_id[:80]!r} in {out}")
    if not verdicts:
        return ["No verdicts. `datagen report OUT` writes the page on which dialogues are judged."], faults
    verdicts = merged(verdicts)
    if files:
        store_verdicts(out, verdicts)
        write_card(out)
    made = quality(found, verdicts, config.seed)
    return [*_aligned([HEADS, *quality_rows(made)]), "", *quality_notes(made)], faults


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            [row[0].ljust(wide[0]), *(cell.rjust(w) for cell, w in zip(row[1:], wide[1:], strict=True))]
        )
        for row in rows
    ]


if __name__ == "__main__":
    sys.exit(main())
