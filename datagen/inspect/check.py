"""All that `datagen validate` looks at in a dataset, in one pass over its shards."""

from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct, field

from datagen.config import Config
from datagen.errors import Invalid
from datagen.inspect.dataset import SPLIT, Frames, UserTurns, read_rows, shards
from datagen.inspect.files import (
    hash_faults,
    read_config,
    read_run,
    schema_faults,
    split_faults,
    was_published,
)
from datagen.inspect.forecast import Forecast
from datagen.inspect.rows import (
    RlRecord,
    SftRecord,
    read_row,
    rl_faults,
    sft_faults,
    take_pictures_out,
)
from datagen.inspect.windows import make_window, prompt_fault, read_beside

KEPT = 1000
"""Faults kept with their text; the others are only counted."""


class Fault(Struct, frozen=True):
    """Something that does not keep to the contracts, and where."""

    file: str
    row: int | None
    id: str
    message: str


class Findings(Struct):
    """What is wrong with a dataset, and what there is in it."""

    fault_count: int = 0
    faults: list[Fault] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)

    def add(self, file: str, message: str, row: int | None = None, id: str = "") -> None:
        """One more fault."""
        self.fault_count += 1
        if len(self.faults) < KEPT:
            self.faults.append(Fault(file, row, id, message))

    def add_all(self, file: str, messages: Iterable[str], row: int | None = None, id: str = "") -> None:
        """Several faults of one file or row."""
        for message in messages:
            self.add(file, message, row, id)


def check_dataset(out: Path, margin: float) -> tuple[Findings, Forecast]:
    """Check every file and row below `out` and score the policies on its RL windows.

    In memory: one row group, what the other tables say about the videos of one RL shard, and ids.
    """
    findings, forecast = Findings(), Forecast(margin)
    config = _check_run(out, findings)
    for file, message in split_faults(out):
        findings.add(file, message)
    frames = Frames(out)
    wanted = not config or config.export.frames != "none"
    if wanted and not frames.there and not was_published(out):
        findings.add("frames", "the folder is missing: whether the frames exist was not checked")
    for table, paths in shards(out).items():
        seen: set[str] = set()
        for path in paths:
            name = f"{table}/{path.name}"
            faults = list(schema_faults(path, table))
            findings.add_all(name, faults)
            if faults and table in ("sft", "rl"):
                findings.add(name, "its rows were not checked, as its schema is wrong")
            elif table == "sft":
                _check_sft(path, name, frames, seen, findings)
            elif table == "rl":
                _check_rl(out, path, name, config, frames, seen, findings, forecast)
    return findings, forecast


def _check_run(out: Path, findings: Findings) -> Config | None:
    """The pipeline's values, and the faults of run.json on the way."""
    try:
        run = read_run(out)
    except Invalid as error:
        findings.add("run.json", str(error))
        return None
    for file, message in hash_faults(out, run):
        findings.add(file, message)
    try:
        return read_config(run)
    except Invalid as error:
        findings.add("run.json", str(error))
        return None


def _check_sft(path: Path, name: str, frames: Frames, seen: set[str], findings: Findings) -> None:
    try:
        for number, values in read_rows(path):
            findings.rows["sft"] = findings.rows.get("sft", 0) + 1
            pictures = list(take_pictures_out(values, "sft"))
            findings.add_all(name, pictures, number, str(values.get("question_id")))
            try:
                row = read_row(values, SftRecord)
            except Invalid as error:
                findings.add(name, str(error), number, str(values.get("question_id")))
                continue
            _check_id(row.question_id, seen, name, number, findings)
            findings.add_all(name, sft_faults(row, frames), number, row.question_id)
    except Invalid as error:
        findings.add(name, str(error))


def _check_id(id: str, seen: set[str], name: str, number: int, findings: Findings) -> None:
    if id in seen:
        findings.add(name, "question_id stands in another row too", number, id)
    seen.add(id)


def _check_rl(
    out: Path,
    path: Path,
    name: str,
    config: Config | None,
    frames: Frames,
    seen: set[str],
    findings: Findings,
    forecast: Forecast,
) -> None:
    match = SPLIT.fullmatch(path.name)
    split = match[1] if match else ""
    turns_name = f"rl/user_turns/{split}.json"
    try:
        user_turns = UserTurns(out / turns_name)
    except Invalid as error:
        findings.add(turns_name, str(error))
        return
    try:
        beside = read_beside(out, _videos(path), config)
        for number, values in read_rows(path):
            findings.rows["rl"] = findings.rows.get("rl", 0) + 1
            id = ""
            findings.add_all(name, take_pictures_out(values, "rl"), number)
            try:
                row = read_row(values, RlRecord)
                id = row.extra_info.question_id
                _check_id(id, seen, name, number, findings)
                turns = user_turns.get(id)
                findings.add_all(name, rl_faults(row, turns, split, frames), number, id)
                again = beside.turns.get(id.rpartition("#seg")[0])
                if again and (fault := prompt_fault(row, again)):
                    findings.add(name, fault, number, id)
                elif config and not again:
                    findings.add(name, "its dialogue and video are not in their tables", number, id)
                forecast.add(make_window(row, turns, beside))
            except Invalid as error:
                findings.add(name, str(error), number, id)
    except Invalid as error:
        findings.add(name, str(error))


def _videos(path: Path) -> set[str]:
    """Ids of the videos of a shard whose schema is right."""
    infos = (row["extra_info"] for _, row in read_rows(path, ["extra_info"]))
    return {info["video_id"] for info in infos if info and info["video_id"]}
