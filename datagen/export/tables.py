"""Rows of the tables that describe the material: videos, segments, dialogues and what was rejected."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec
from msgspec.structs import replace

from datagen.records import Built, Call, Caption, Rejection, calls_by_item


def video_row(built: Built, split: str, interval: float) -> dict[str, Any]:
    """The row of schemas/videos.json; its duration is what was really watched."""
    video, watched = built.video, built.watched
    return {
        "id": video.id,
        "path": video.name,
        "duration": watched.duration,
        "frame_count": watched.frame_count,
        "frame_interval": interval,
        "frame_times": _frame_times(watched.frame_count, interval),
        "fps": video.fps,
        "width": video.width,
        "height": video.height,
        "rotation": video.rotation,
        "variable_rate": video.variable_rate,
        "codec": video.codec,
        "has_audio": video.has_audio,
        "partial": watched.partial or "",
        "cuts": [boundary.start for boundary in watched.boundaries],
        "boundaries": [msgspec.structs.asdict(boundary) for boundary in watched.boundaries],
        "licence": video.licence or "",
        "source": video.source,
        "language": video.language or "",
        "sidecar": video.sidecar,
        "sidecar_format": video.sidecar_format,
        "sidecar_licence": video.sidecar_licence,
        "digest": video.digest,
        "split": split,
    }


@lru_cache(maxsize=256)
def _frame_times(count: int, interval: float) -> list[float]:
    return [round(frame * interval, 6) for frame in range(1, count + 1)]


def segment_rows(built: Built) -> list[dict[str, Any]]:
    """Rows of schemas/segments.json; a segment nobody could caption has empty text."""
    captions = {caption.segment_id: caption for caption in built.captions}
    rows = []
    for segment in built.segments:
        caption = captions.get(segment.id) or Caption(
            segment_id=segment.id, seen=None, heard=None, provenance=""
        )
        rows.append(
            {
                "id": segment.id,
                "video_id": segment.video_id,
                "start": segment.start,
                "end": segment.end,
                "method": segment.method,
                "boundary": segment.boundary or "",
                "seen": caption.seen or "",
                "heard": caption.heard or "",
                "provenance": caption.provenance,
                "keys": caption.keys,
                "traits": [{"name": name, "value": value} for name, value in sorted(caption.traits.items())],
                "mistake": caption.mistake,
                "calls": msgspec.to_builtins(caption.calls),
            }
        )
    return rows


def dialogue_rows(built: Built) -> list[dict[str, Any]]:
    """Rows of schemas/dialogues.json, sorted by id."""
    return [
        {
            "id": dialogue.id,
            "video_id": dialogue.video_id,
            "type": dialogue.type,
            "provenance": dialogue.provenance,
            "questions": msgspec.to_builtins(dialogue.questions),
            "question_count": len(dialogue.questions),
            "answer_count": sum(len(question.answers) for question in dialogue.questions),
        }
        for dialogue in sorted(built.dialogues, key=lambda d: d.id)
    ]


def rejected_row(rejection: Rejection) -> dict[str, Any]:
    """The row of schemas/rejected.json."""
    row: dict[str, Any] = msgspec.to_builtins(rejection)
    return row


def rejected_rows(whole: Built, rejections: Sequence[Rejection]) -> list[dict[str, Any]]:
    """The same for all of a video; what the export leaves out has the calls that it comes from."""
    calls: dict[str, tuple[Call, ...]] = {}
    for dialogue in whole.dialogues if rejections else ():
        calls |= calls_by_item(dialogue)
    return [
        rejected_row(row if row.calls else replace(row, calls=calls.get(row.item_id, ())))
        for row in rejections
    ]
