"""`datagen show OUT ID`: a dialogue as a timeline in the terminal, as the viewer would live through it."""

import argparse
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.dataset as ds
from msgspec import Struct

from datagen.config import Config
from datagen.errors import UsageError
from datagen.inspect.dataset import turns_again
from datagen.inspect.lookup import table_rows
from datagen.inspect.terminal import command, plain, wrapped
from datagen.inspect.why import why
from datagen.records import Dialogue

_INDENT = 22
_MOST_SHOWN = 20


@command
def main(argv: list[str] | None = None) -> int:
    """Run `datagen show`; returns the exit status."""
    p = argparse.ArgumentParser(
        prog="datagen show",
        description="Print dialogues as timelines: what is shown (=), asked (?), answered (>), and the turns "
        "on which nothing is said.",
    )
    p.add_argument("out", metavar="OUT", type=Path, help="the folder of a dataset")
    p.add_argument("id", metavar="ID", nargs="?", help="a dialogue or a video; without it, ids are listed")
    p.add_argument(
        "--why",
        action="store_true",
        help="print where the texts of ID come from: a video, segment, dialogue, question (DIALOGUE/q0), "
        "answer (DIALOGUE/q0/a0), SFT or RL row, or anything rejected",
    )
    p.add_argument("--raw", action="store_true", help="with --why: what the models said, as they said it")
    args = p.parse_args(argv)
    if (args.why or args.raw) and not (args.why and args.id):
        p.error("--why needs an ID, and --raw needs --why")
    if args.why:
        lines = why(args.out, args.id, args.raw)
    else:
        lines = show(args.out, args.id) if args.id else list_ids(args.out)
    try:
        for line in lines:
            print(line)
    except KeyError as error:
        raise UsageError(f"OUT {args.out}: is no dataset that datagen built: no column {error}") from None
    return 0


def list_ids(out: Path) -> Iterator[str]:
    """A line for each dialogue: id, questions, answers, first question."""
    for row in table_rows(out, "dialogues"):
        first = row["questions"][0]["text"] if row["questions"] else ""
        yield plain(f"{row['id']}  {row['question_count']} asked, {row['answer_count']} answers: {first}")


def show(out: Path, wanted: str) -> Iterator[str]:
    """The lines of a dialogue by its id, or of all dialogues of a video by the video's id.

    Raises UsageError where `out` holds no dialogues or none of that id.
    """
    found = table_rows(out, "dialogues", (ds.field("id") == wanted) | (ds.field("video_id") == wanted))
    rejected = table_rows(
        out, "rejected", ds.field("video_id") == (found[0]["video_id"] if found else wanted)
    )
    if not found and not rejected:
        known = ", ".join(row["id"] for row in table_rows(out, "dialogues")[:5])
        raise UsageError(f"ID {wanted}: no dialogue and no video of {out} has it; there are {known}, ...")
    for row in found:
        video = next(iter(table_rows(out, "videos", ds.field("id") == row["video_id"])), None)
        segments = table_rows(out, "segments", ds.field("video_id") == row["video_id"])
        yield from _dialogue_lines(row, video, segments, _config(out))
    if rejected:
        yield "rejected:"
    for row in rejected[:_MOST_SHOWN]:
        yield from wrapped("  ", f"{row['stage']} {row['item_id']}: {row['code']}: {row['detail']}")
    if len(rejected) > _MOST_SHOWN:
        yield f"  and {len(rejected) - _MOST_SHOWN} more"


class _Event(Struct, order=True):
    """One line of a timeline. At one time: what has ended, then the question, then the reply."""

    time: float
    rank: int
    mark: str
    text: str


def _dialogue_lines(
    row: dict[str, Any], video: dict[str, Any] | None, segments: list[dict[str, Any]], config: Config
) -> Iterator[str]:
    yield plain(f"{row['id']}  {row['type']}  by {row['provenance']}")
    if video:
        yield plain(
            f"{video['path']}, {video['duration']:.1f} s, {len(video['cuts'])} cuts, goes to {video['split']}"
        )
    events = []
    for segment in segments:
        heard = segment["heard"] and f"heard: {segment['heard']}"
        caption = " / ".join(filter(None, (segment["seen"], heard)))
        events.append(_Event(segment["end"], 0, f"= {segment['start']:.1f}-{segment['end']:.1f}", caption))
    dialogue = msgspec.convert(row, Dialogue)
    numbers = {segment["id"]: number for number, segment in enumerate(segments)}
    for q, question in enumerate(dialogue.questions):
        events.append(_Event(question.ask_time, 1, "? asks", f"{question.text} [q{q}, {question.kind}]"))
        for a, answer in enumerate(question.answers):
            cited = ",".join(str(numbers[id]) if id in numbers else id for id in answer.evidence)
            span = f"{answer.reply_start:.1f}-{answer.reply_end:.1f}"
            rests = f"[q{q}/a{a}, {answer.modality}, due {span}, rests on stretch {cited}]"
            end = question.ask_time if answer.immediate else answer.reply_end
            events.append(_Event(end, 2, "  answer", f"{answer.text} {rests}"))
    if video:
        events += _turn_events(dialogue, video, config)
    for event in sorted(events):
        yield from wrapped(f"{event.time:8.1f} {event.mark:<13}"[:_INDENT], event.text)
    yield ""


def _turn_events(dialogue: Dialogue, video: dict[str, Any], config: Config) -> Iterator[_Event]:
    """The reply turns, and runs of silent ones as one line each."""
    turns = turns_again(dialogue, video["frame_count"], video["frame_interval"], config)
    for label, run in groupby(turns, key=lambda turn: turn.label):
        times, texts = zip(*((turn.time, turn.text) for turn in run), strict=True)
        if label == "silent":
            yield _Event(times[0], 3, "  silent", f"{len(times)} turns, until {times[-1]:.1f}")
        else:
            yield from (_Event(time, 4, "> says", text) for time, text in zip(times, texts, strict=True))


def _config(out: Path) -> Config:
    """The options a dataset was built with; the defaults where it does not say."""
    try:
        return msgspec.convert(msgspec.json.decode((out / "run.json").read_bytes())["pipeline"], Config)
    except (OSError, msgspec.MsgspecError, KeyError, TypeError):
        return Config(name="")
