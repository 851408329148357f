"""SFT rows for a PyTorch trainer of one's own: turns with their frames, questions, labels and weights.

A map-style dataset in plain Python: torch is imported where a sample is made, so this module is importable
without it. It works with `DataLoader` in any number of workers, forked or spawned, and with
`DistributedSampler`. Samples differ in length, so let a batch be a list: `DataLoader(..., collate_fn=list)`.
"""

import io
import random
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from datagen.errors import UsageError
from datagen.export.content import IMAGE
from datagen.export.embed import frame_file
from datagen.records import NO_REPLY

_COLUMNS = (
    "messages", "question_id", "video_id", "turn_times", "turn_weights", "images", "frame_times",
)  # fmt: skip


class SampleTurn(NamedTuple):
    """One turn of a sample."""

    time: float
    """Second of the video at which the turn ends."""
    frames: Any
    """uint8 tensor [frames of the turn, 3, height, width], a view; None where the shards hold no frames."""
    question: str | None
    """What the user asks at this turn."""
    label: int
    """1 where a reply is due, 0 where silence is."""
    reply: str
    """The reply, or NO REPLY."""
    weight: float
    """What the loss of this turn is to be multiplied by; 1 on average over a row."""


class Sample(NamedTuple):
    """One SFT row. All but the ids and the system prompt have one item a turn, `frames` one a frame."""

    question_id: str
    video_id: str
    system: str
    times: Any
    """float64 tensor [turns], seconds."""
    frames: Any
    """uint8 tensor [frames, 3, height, width], channels last in memory; None where the shards hold none."""
    frame_times: tuple[tuple[float, ...], ...] | None
    """For each turn the seconds of its frames, where the shards hold these in place of frames."""
    frame_counts: tuple[int, ...]
    """Number of frames of each turn."""
    questions: tuple[str | None, ...]
    labels: Any
    """int64 tensor [turns]: 0 silent, 1 reply."""
    replies: tuple[str, ...]
    weights: Any
    """float32 tensor [turns]."""

    def turns(self) -> Iterator[SampleTurn]:
        """The turns in order."""
        frames = [None] * len(self.questions) if self.frames is None else self.frames.split(self.frame_counts)
        for n, question in enumerate(self.questions):
            time, label, weight = self.times[n].item(), self.labels[n].item(), self.weights[n].item()
            yield SampleTurn(time, frames[n], question, label, self.replies[n], weight)


class TurnDataset:
    """The rows of `out`/sft in order of shard and row; frames are decoded when a sample is taken.

    Only the numbers of rows are read at first. One row group is held in memory at a time: a sampler that
    stays in a group for a while (see `shuffled`) reads each group once. Raises UsageError where the folder
    has no shards or one cannot be read, and where a row does not hold together or a frame is missing or no
    picture; the message names shard, row and frame.
    """

    def __init__(self, out: Path | str) -> None:
        self.out = Path(out)
        self._groups: list[tuple[Path, int, int]] = []
        """(shard, number of the row group in it, rows of the shard before it)."""
        sizes = []
        shards = sorted((self.out / "sft").glob("*.parquet"))
        for path in shards:
            metadata = self._opened(path).metadata
            before = 0
            for group in range(metadata.num_row_groups):
                self._groups.append((path, group, before))
                sizes.append(metadata.row_group(group).num_rows)
                before += sizes[-1]
        if not shards:
            raise UsageError(f"{self.out}: holds no sft/*.parquet; give the folder of a finished build")
        self._starts = np.array([0, *accumulate(sizes)])
        self._held: tuple[int, pa.Table] | None = None

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        group = int(np.searchsorted(self._starts, index, "right")) - 1
        place = index - int(self._starts[group])
        path, _, before = self._groups[group]
        row = self._table(group).slice(place, 1).to_pylist()[0]
        name = f"{path} row {before + place} ({row.get('question_id')})"
        try:
            return _sample(row, self.out)
        except UsageError as error:
            raise UsageError(f"{name}: {error}") from None
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{name}: is no SFT row, see `datagen validate`: {_line(error)}") from None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_held": None}

    def shuffled(self, seed: int) -> list[int]:
        """All rows in an order of chance for a `sampler`: row groups shuffled, and rows within each.

        Costs far less reading than an order that jumps between groups, most of all with embedded frames.
        """
        chance = random.Random(seed)
        order: list[int] = []
        for group in chance.sample(range(len(self._groups)), len(self._groups)):
            rows = range(*self._starts[group : group + 2].tolist())
            order += chance.sample(rows, len(rows))
        return order

    def _table(self, group: int) -> pa.Table:
        if self._held is None or self._held[0] != group:
            self._held = None  # before the next is read: not two at once
            path, number, _ = self._groups[group]
            with self._opened(path) as file:
                columns = [name for name in _COLUMNS if name in file.schema_arrow.names]
                try:
                    self._held = group, file.read_row_group(number, columns, use_threads=False)
                except (OSError, pa.ArrowException) as error:
                    raise UsageError(f"{path}: cannot be read: {_line(error)}") from None
        return self._held[1]

    def _opened(self, path: Path) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(path)
        except (OSError, pa.ArrowException) as error:
            raise UsageError(f"{path}: cannot be read as Parquet: {_line(error)}") from None


def _sample(row: dict[str, Any], out: Path) -> Sample:
    """A row as a sample. Raises UsageError for a frame, else KeyError, TypeError or ValueError."""
    import torch

    system, *said = [message["content"] for message in row["messages"]]
    users, replies = said[::2], said[1::2]
    counts = [user.count(IMAGE) for user in users]
    asked = [user[count * len(IMAGE) :] for user, count in zip(users, counts, strict=True)]
    times, images, moments = row["turn_times"], row.get("images"), row.get("frame_times")
    if moments is not None:
        counts = [len(turn) for turn in moments]
    lengths = {len(values) for values in (users, replies, times, row["turn_weights"], counts)}
    if len(lengths) > 1 or (images is not None and len(images) != sum(counts)):
        raise ValueError("messages, images, turn_times and turn_weights do not fit together")
    frames = None
    if images:
        frames = torch.from_numpy(_decoded(images, out)).permute(0, 3, 1, 2)
    return Sample(
        question_id=row["question_id"],
        video_id=row["video_id"],
        system=system,
        times=torch.tensor(times, dtype=torch.float64),
        frames=frames,
        frame_times=None if moments is None else tuple(map(tuple, moments)),
        frame_counts=tuple(counts),
        questions=tuple(text or None for text in asked),
        labels=torch.tensor([reply != NO_REPLY for reply in replies], dtype=torch.int64),
        replies=tuple(replies),
        weights=torch.tensor(row["turn_weights"], dtype=torch.float32),
    )


def _decoded(images: Sequence[Any], out: Path) -> NDArray[np.uint8]:
    """Pictures, by path or embedded, as one array [frames, height, width, 3]."""
    pixels: NDArray[np.uint8] | None = None
    for number, image in enumerate(images):
        path = image if isinstance(image, str) else image["path"]
        source = frame_file(out, image) if isinstance(image, str) else io.BytesIO(image["bytes"] or b"")
        try:
            with Image.open(source, formats=["JPEG"]) as picture:
                # Pillow would copy even a picture that is RGB already.
                shown = np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB"))
        except OSError as error:
            raise UsageError(f"{path}: is no picture that can be decoded: {_line(error)}") from None
        if pixels is None:
            pixels = np.empty((len(images), *shown.shape), np.uint8)
        if shown.shape != pixels.shape[1:]:
            raise UsageError(f"{path}: is of another size than the frames before it")
        pixels[number] = shown
    assert pixels is not None
    return pixels


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
