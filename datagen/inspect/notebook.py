"""What the notebooks need: the tables of a dataset as data frames, its turns and answers, one video drawn.

pandas and matplotlib come with the extra `notebooks`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import structs

from datagen.config import Config
from datagen.errors import UsageError
from datagen.inspect.dataset import turns_again
from datagen.inspect.lookup import read_table
from datagen.records import Dialogue

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GREY, COLOUR = "#b8b8b8", "#d9480f"
"""Silent turns, replies."""


def run(out: str | Path) -> dict[str, Any]:
    """What `run.json` says of the build. Raises UsageError where there is none."""
    try:
        found: dict[str, Any] = msgspec.json.decode((Path(out) / "run.json").read_bytes())
    except (OSError, msgspec.MsgspecError) as error:
        raise UsageError(f"{out}/run.json: cannot be read: {error}; give the folder of a build") from None
    return found


def table(out: str | Path, name: str, columns: Sequence[str] | None = None) -> "pandas.DataFrame":
    """A table (videos, segments, dialogues, sft, rl, rejected) as a data frame, all shards and splits.

    Raises UsageError where there is none.
    """
    return read_table(Path(out), name, None, columns).to_pandas()


def answers(out: str | Path) -> "pandas.DataFrame":
    """One row an answer: dialogue_id, video_id, type; kind, question, ask_time; and the answer's fields."""
    import pandas

    rows = (
        {
            "dialogue_id": dialogue.id,
            "video_id": dialogue.video_id,
            "type": dialogue.type,
            "kind": question.kind,
            "question": question.text,
            "ask_time": question.ask_time,
            **structs.asdict(answer),
        }
        for dialogue, _ in _dialogues(Path(out))
        for question in dialogue.questions
        for answer in question.answers
    )
    return pandas.DataFrame(rows)


def turns(out: str | Path) -> "pandas.DataFrame":
    """One row a turn, on the grid the dataset was exported with: dialogue_id, video_id, source, type, time
    (seconds), label (silent or reply), user, text.
    """
    import pandas

    config = msgspec.convert(run(out)["pipeline"], Config)
    rows: list[dict[str, Any]] = []
    for dialogue, video in _dialogues(Path(out)):
        made = turns_again(dialogue, video["frame_count"], video["frame_interval"], config)
        same = {"dialogue_id": dialogue.id, "video_id": dialogue.video_id, "source": video["source"]}
        rows += [{**same, "type": dialogue.type, **structs.asdict(turn)} for turn in made]
    return pandas.DataFrame(rows)


def filmstrip(out: str | Path, video_id: str, count: int = 8) -> "Figure":
    """Evenly spaced frames of a video, with their times, left to right."""
    from matplotlib import pyplot

    paths = sorted((Path(out) / "frames" / Path(video_id).name).glob("*.jpg"))
    if not paths:
        raise UsageError(f"{out}/frames/{video_id}: holds no frames")
    interval = table(out, "videos").set_index("id").loc[video_id, "frame_interval"]
    chosen = paths[:: max(1, len(paths) // count)][:count]
    figure, axes = pyplot.subplots(1, len(chosen), figsize=(2 * len(chosen), 1.6), squeeze=False)
    for axis, path in zip(axes[0], chosen, strict=True):
        axis.imshow(pyplot.imread(path))
        axis.set_title(f"{int(path.stem) * interval:g} s", fontsize=8)
        axis.axis("off")
    figure.tight_layout()
    return figure


def timeline(out: str | Path, video_id: str) -> "Figure":
    """Lanes of one video: cuts and segments, questions, evidence and reply spans, turns."""
    from matplotlib import pyplot

    video = table(out, "videos").set_index("id").loc[video_id]
    segments = table(out, "segments").query("video_id == @video_id")
    found = answers(out).query("video_id == @video_id")
    said = turns(out).query("video_id == @video_id")
    figure, axis = pyplot.subplots(figsize=(12, 2.6))
    _bars(axis, 3, segments["start"], segments["end"], "#4c6ef5")
    axis.vlines(video["cuts"], 2.7, 3.3, color="black", linewidth=0.8)
    _bars(axis, 2, found["evidence_start"], found["evidence_end"], "#2f9e44")
    _bars(axis, 1, found["reply_start"], found["reply_end"], "#f59f00")
    axis.scatter(found["ask_time"], [2.5] * len(found), marker="v", color="black", zorder=3)
    colours = [COLOUR if label == "reply" else GREY for label in said["label"]]
    axis.scatter(said["time"], [0] * len(said), c=colours, marker="s", s=24)
    axis.set_yticks([0, 1, 2, 3], ["turns", "reply spans", "evidence", "segments, cuts"])
    axis.set_xlabel("seconds")
    axis.set_xlim(0, video["duration"])
    figure.tight_layout()
    return figure


def _bars(axis: "Axes", height: float, starts: Any, ends: Any, colour: str) -> None:
    spans = [(start, max(0.1, end - start)) for start, end in zip(starts, ends, strict=True)]
    axis.broken_barh(spans, (height - 0.3, 0.6), color=colour, edgecolor="white", alpha=0.8)


def _dialogues(out: Path) -> Iterator[tuple[Dialogue, dict[str, Any]]]:
    """The dialogues with the rows of their videos."""
    videos = {row["id"]: row for row in table(out, "videos").to_dict("records")}
    for batch in read_table(out, "dialogues").to_batches(max_chunksize=256):
        for row in batch.to_pylist():
            yield msgspec.convert(row, Dialogue), videos[row["video_id"]]
