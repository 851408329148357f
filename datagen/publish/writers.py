"""Who wrote the texts of a dataset, as its tables say: sidecars, rules, models and their prompts."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from datagen.errors import Invalid
from datagen.inspect.dataset import read_rows

_LANGUAGE = re.compile(r"[a-z]{2,3}")
_CALLS = {
    "segments": ("calls",),
    "dialogues": ("questions.list.element.calls", "questions.list.element.answers.list.element.calls"),
}
"""Where the tables name the model calls that a text comes from."""


def read_writers(out: Path) -> tuple[tuple[tuple[str, str, int], ...], tuple[str, ...]]:
    """Who wrote how many captions and dialogues, and the languages of the videos. Raises Invalid."""
    found: Counter[tuple[str, str]] = Counter()
    for table in ("segments", "dialogues"):
        for path in sorted((out / table).glob("*.parquet")):
            found.update((table, row["provenance"] or "nobody") for _, row in read_rows(path, ["provenance"]))
    languages = {
        row["language"].lower()[:3].partition("-")[0]
        for path in (out / "videos").glob("*.parquet")
        for _, row in read_rows(path, ["language"])
        if row["language"]
    }
    known = sorted(code for code in languages if _LANGUAGE.fullmatch(code))
    return tuple((*key, count) for key, count in sorted(found.items())), tuple(known)


def read_prompts(out: Path) -> tuple[str, ...]:
    """The prompts of all calls that the tables name. Raises Invalid."""
    found: set[str] = set()
    for table, places in _CALLS.items():
        for path in sorted((out / table).glob("*.parquet")):
            try:
                with pq.ParquetFile(path) as file:
                    for place in places:
                        for column in file.read([f"{place}.list.element.prompt"]).columns:
                            found.update(_texts(column.combine_chunks()).unique().to_pylist())
            except (OSError, pa.ArrowException, ValueError) as error:
                raise Invalid(f"{table}/{path.name}: {' '.join(str(error).split())[:200]}") from None
    return tuple(sorted({prompt for prompts in found if prompts for prompt in prompts.split("+")}))


def _texts(nested: Any) -> Any:
    """The one column of texts inside of lists and structs."""
    while not pa.types.is_string(nested.type):
        nested = nested.flatten() if pa.types.is_list(nested.type) else nested.field(0)
    return nested
