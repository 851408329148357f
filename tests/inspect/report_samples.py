"""Datasets to report on: of a realistic size, and one whose every text is hostile."""

from pathlib import Path

from msgspec.structs import replace
from PIL import Image

from datagen.records import Answer, Caption, Question, Rejection, Segment
from tests.export.samples import built, dialogue
from tests.inspect.samples import STEPS, config, write

HOSTILE = (
    "<script>document.title = 'owned'</script>",
    "</script><img src=x onerror=\"document.title='owned'\">",
    '"><svg onload="document.title=\'owned\'">',
    "<!--<script>",
    "\u202egpj.exe\u202c مرحبا بالعالم שלום",
    "👩‍🚀 🏳️‍🌈 \u0000 \u2028 {{ 7 * 7 }} ${7 * 7} &lt;b&gt;",
    "word " * 5000,
)
SEGMENTS = 16


def video(number, seconds_a_segment=6.0, texts=(), kind="narrate"):
    """A video of 96 s with a caption for every 6 s, two questions and seven answers, two of them merged."""
    id = f"v{number:05d}"
    words = texts or STEPS
    segments, captions = [], []
    for k in range(SEGMENTS):
        start = k * seconds_a_segment
        segment = Segment(
            id=f"{id}:{k}", video_id=id, start=start, end=start + seconds_a_segment, method="scenes"
        )
        said = " ".join(words[(number + k + n) % len(words)] for n in range(1 if texts else 4))
        segments.append(segment)
        captions.append(
            Caption(
                segment_id=segment.id, seen=said, heard=words[k % len(words)], provenance="model:caption/v1:0"
            )
        )

    def answer(k):
        text, segment = words[(number + k) % len(words)], segments[k]
        span = (segment.start, segment.end, segment.start, segment.end)
        return Answer(text=text, evidence=(segment.id,), **dict(zip(_TIMES, span, strict=True)))

    first = Question(
        text=words[0] if texts else "What is being done?",
        ask_time=0.0,
        kind=kind,
        answers=tuple(map(answer, (0, 2, 4, 5))),
    )
    second = Question(
        text="And what comes after that?",
        ask_time=48.0,
        kind="monitor",
        answers=tuple(map(answer, (9, 11, 14))),
    )
    made = built(
        replace(dialogue(first, second, id=f"{id}#0"), provenance="model:n_qna/v2:0"), id=id, frames=48
    )
    lost = [
        Rejection("verify", id, f"{id}#0/q0/a{a}", "repeat", f"says again: {words[a % len(words)]}")
        for a in range(number % 3)
    ]
    return replace(made, segments=tuple(segments), captions=tuple(captions), rejected=tuple(lost))


_TIMES = ("evidence_start", "evidence_end", "reply_start", "reply_end")


def dataset(out: Path, videos: int) -> Path:
    """A dataset with one dialogue a video; its frames are pictures."""
    return with_pictures(write(out, [video(number) for number in range(videos)], config()))


def hostile(out: Path) -> Path:
    """A dataset of three videos whose names, captions, questions, answers and reasons attack the page."""
    made = []
    for number in range(3):
        one = video(number, texts=HOSTILE, kind=HOSTILE[0])
        changed = replace(one.video, name=HOSTILE[number], source=HOSTILE[1], licence=HOSTILE[4])
        lost = tuple(
            Rejection("verify", one.video.id, f"{one.video.id}#0/q0/a9", HOSTILE[0], text) for text in HOSTILE
        )
        made.append(replace(one, video=changed, rejected=lost))
    return with_pictures(write(out, made, config()))


def with_pictures(out: Path) -> Path:
    """Put a picture in the place of all frames; a file can have only so many links."""
    picture = Image.linear_gradient("L").resize((320, 180))
    for folder in sorted((out / "frames").iterdir()):
        first, *others = sorted(folder.iterdir())
        picture.save(first)
        for frame in others:
            frame.unlink()
            frame.hardlink_to(first)
    return out
