"""Publishing times alone: the tables of a dataset without the texts of some videos.

Ids, spans, kinds and labels stay, so whoever has the videos can caption them anew along the same spans. Left
out is what quotes a video or rests on what it shows or says. SFT and RL rows are nothing without that and go.
"""

from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from datagen.export.embed import GROUP_ROWS
from datagen.export.schema import frames_layout, rows_table, table_schema
from datagen.export.shards import open_shard
from datagen.inspect.dataset import read_rows, read_schema

_GROUP_ROWS = 256


def redact_shard(source: Path, table: str, whole: Collection[str], target: Path) -> None:
    """Copy a shard of a table other than videos with texts of the videos in `whole` only."""
    target.parent.mkdir(parents=True, exist_ok=True)
    rows = _redacted(source, table, whole)
    layout = frames_layout(read_schema(source))
    size = GROUP_ROWS if layout == "embedded" else _GROUP_ROWS
    with open_shard(target, table_schema(table, layout)) as file:
        while group := list(islice(rows, size)):
            file.write_table(rows_table(table, group, layout).combine_chunks())


def redact_user_turns(source: Path, shards: Collection[Path], target: Path) -> None:
    """Copy a file of user turns with the entries of those RL rows only that are in `shards`."""
    rows = (row for path in shards for _, row in read_rows(path, ["extra_info"]))
    kept = {row["extra_info"]["question_id"] for row in rows}
    turns = msgspec.json.decode(source.read_bytes(), type=dict[str, msgspec.Raw])
    left = {id: raw for id, raw in turns.items() if id in kept}
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(msgspec.json.encode(left) + b"\n")


def redact_run(run: dict[str, Any], withheld: bool) -> dict[str, Any]:
    """run.json without places on this machine and, where texts are withheld, without those it quotes."""
    pipeline = dict(run["pipeline"])
    excluded = dict(pipeline.get("dataset") or {})
    for name in ("exclude_videos", "exclude_questions"):
        if excluded.get(name):
            excluded[name] = Path(excluded[name]).name
    redacted = {**run, "pipeline": {**pipeline, "dataset": excluded}}
    if withheld and run.get("statistics"):
        statistics = dict(run["statistics"])
        questions = statistics["questions"]
        common = {
            name: {**questions[name], "question": ""} for name in questions if name.startswith("common")
        }
        flags = [flag for flag in statistics["flags"] if flag["code"] != "near_duplicate_question"]
        redacted["statistics"] = {
            **statistics,
            "questions": {**questions, **common},
            "guessable": [],
            "flags": flags,
        }
    return redacted


def _redacted(source: Path, table: str, whole: Collection[str]) -> Iterator[dict[str, Any]]:
    for _, row in read_rows(source):
        video = row["extra_info"]["video_id"] if table == "rl" else row["video_id"]
        if video in whole:
            yield row
        elif table not in ("sft", "rl"):
            yield _times_alone(row, table)


def _times_alone(row: dict[str, Any], table: str) -> dict[str, Any]:
    if table == "segments":
        return {**row, "seen": "", "heard": "", "keys": [], "traits": []}
    if table == "dialogues":
        return {**row, "questions": [_without_text(question) for question in row["questions"]]}
    return {**row, "detail": ""}


def _without_text(question: dict[str, Any]) -> dict[str, Any]:
    answers = [{**answer, "text": "", "keys": []} for answer in question["answers"]]
    return {**question, "text": "", "keys": [], "answers": answers}
