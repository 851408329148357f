"""The tables that describe the material: videos, segments and dialogues; and what is told of a rejection."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import pyarrow as pa
from msgspec.structs import replace

from datagen.export.schema import columns_table, list_array, strings, table_schema
from datagen.records import Built, Call, Caption, Rejection, calls_by_item


def videos_table(builts: Sequence[Built], splits: Mapping[str, str], interval: float) -> pa.Table:
    """Rows of schemas/videos.json; the duration is what was really watched. One in no split has `none`."""
    videos = [built.video for built in builts]
    watched = [built.watched for built in builts]
    columns: dict[str, Sequence[Any]] = {
        "id": [v.id for v in videos],
        "path": [v.name for v in videos],
        "duration": [w.duration for w in watched],
        "frame_count": [w.frame_count for w in watched],
        "frame_interval": [interval] * len(builts),
        "frame_times": [_frame_times(w.frame_count, interval) for w in watched],
        "fps": [v.fps for v in videos],
        "width": [v.width for v in videos],
        "height": [v.height for v in videos],
        "rotation": [v.rotation for v in videos],
        "variable_rate": [v.variable_rate for v in videos],
        "codec": [v.codec for v in videos],
        "has_audio": [v.has_audio for v in videos],
        "partial": [w.partial or "" for w in watched],
        "cuts": [[boundary.start for boundary in w.boundaries] for w in watched],
        "boundaries": [w.boundaries for w in watched],
        "licence": [v.licence or "" for v in videos],
        "source": [v.source for v in videos],
        "language": [v.language or "" for v in videos],
        "sidecar": [v.sidecar for v in videos],
        "sidecar_format": [v.sidecar_format for v in videos],
        "sidecar_licence": [v.sidecar_licence for v in videos],
        "digest": [v.digest for v in videos],
        "split": [splits.get(v.id, "none") for v in videos],
    }
    return columns_table("videos", columns)


@lru_cache(maxsize=256)
def _frame_times(count: int, interval: float) -> list[float]:
    return [round(frame * interval, 6) for frame in range(1, count + 1)]


def segments_table(builts: Sequence[Built]) -> pa.Table:
    """Rows of schemas/segments.json; a segment nobody could caption has empty text."""
    segments = [segment for built in builts for segment in built.segments]
    known = {caption.segment_id: caption for built in builts for caption in built.captions}
    captions = [known.get(segment.id, _NO_CAPTION) for segment in segments]
    columns: dict[str, Sequence[Any] | pa.Array] = {
        "id": [s.id for s in segments],
        "video_id": [s.video_id for s in segments],
        "start": [s.start for s in segments],
        "end": [s.end for s in segments],
        "method": [s.method for s in segments],
        "boundary": [s.boundary or "" for s in segments],
        "seen": [c.seen or "" for c in captions],
        "heard": [c.heard or "" for c in captions],
        "provenance": [c.provenance for c in captions],
        "keys": [c.keys for c in captions],
        "traits": _traits(captions),
        "mistake": [c.mistake for c in captions],
        "calls": [c.calls for c in captions],
    }
    return columns_table("segments", columns)


_NO_CAPTION = Caption(segment_id="", seen=None, heard=None, provenance="")


def _traits(captions: Sequence[Caption]) -> pa.Array:
    """The traits of each caption by name; flat, as there are three or more to a caption."""
    names = [sorted(caption.traits) for caption in captions]
    values = [caption.traits[name] for caption, own in zip(captions, names, strict=True) for name in own]
    kind = table_schema("segments").field("traits").type.value_type
    flat = [strings(list(chain.from_iterable(names))), strings(values)]
    return list_array(list(map(len, names)), pa.StructArray.from_arrays(flat, fields=list(kind)))


def dialogues_table(builts: Sequence[Built]) -> pa.Table:
    """Rows of schemas/dialogues.json, those of a video sorted by id."""
    dialogues = [d for built in builts for d in sorted(built.dialogues, key=lambda d: d.id)]
    columns: dict[str, Sequence[Any]] = {
        "id": [d.id for d in dialogues],
        "video_id": [d.video_id for d in dialogues],
        "type": [d.type for d in dialogues],
        "provenance": [d.provenance for d in dialogues],
        "questions": [d.questions for d in dialogues],
        "question_count": [len(d.questions) for d in dialogues],
        "answer_count": [sum([len(question.answers) for question in d.questions]) for d in dialogues],
    }
    return columns_table("dialogues", columns)


def with_calls(whole: Built, rejections: Sequence[Rejection]) -> list[Rejection]:
    """All that is rejected of a video; what the export leaves out gets the calls that it comes from."""
    calls: dict[str, tuple[Call, ...]] = {}
    for dialogue in whole.dialogues if rejections else ():
        calls |= calls_by_item(dialogue)
    return [row if row.calls else replace(row, calls=calls.get(row.item_id, ())) for row in rejections]
