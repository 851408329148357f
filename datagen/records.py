"""The records that flow from room to room. All times are seconds; all spans are half-open [start, end).

Time 0 of a video is its first picture (of a span of a longer file: the start of that span). Records of which
a video has many are kept from Python's garbage collector, which looks for cycles that they cannot be part of.
"""

from hashlib import blake2b
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

SYSTEM_PROMPT = (
    "You are a helpful assistant. Your task is to answer questions based on continuously incoming "
    "video frames. Your responses should include information from the video since your last reply "
    "(if any). If the information in this segment of the video cannot answer the question, output "
    '"NO REPLY".'
)
"""The system prompt of the paper (arXiv 2512.06810); part of the data contract."""

NO_REPLY = "NO REPLY"
"""The text of a silent turn, compared with == after strip."""

SegmentMethod = Literal["scenes", "sentences", "annotations", "uniform"]
BoundaryKind = Literal["cut", "dissolve", "fade", "wipe"]
Modality = Literal["visual", "audio"]
Placement = Literal["end", "jitter", "first_evidence", "start"]


class Location(Struct, frozen=True):
    """Where something lies. Never part of a result's key: where it lies is not what it is."""

    path: str
    copy: str = ""
    """Of a remote file: the path that its copy on disk has, or gets when somebody needs it."""
    size: int = 0
    """Bytes, of a remote file."""
    changed_ns: int = 0
    """Of a video on disk: the date that it had when it was listed, and has to keep while it is read."""


class Entry(Struct, frozen=True, kw_only=True):
    """One video as the user listed it: a file found in a folder, or a row of a manifest."""

    path: str
    """Absolute path of the video file, or its address without keys."""
    signed: str | UnsetType = UNSET
    """The whole address, where it carries a key. Never part of a result's key, and kept nowhere."""
    name: str
    """The path as people know it: relative to the folder scanned, or as the manifest wrote it."""
    size: int
    """Bytes."""
    mtime_ns: int
    id: str | None = None
    """Chosen by the manifest; without one the id comes from the content."""
    start: float | None = None
    """First second used, where only a span of the file is meant."""
    end: float | None = None
    licence: str | None = None
    source: str = "local"
    """The collection this video belongs to; becomes `data_source` in the shards."""
    language: str | None = None
    sidecar: str | None = None
    """Absolute path, or address, of the file with its narration or transcript."""
    sidecar_size: int = 0
    sidecar_mtime_ns: int = 0
    sidecar_licence: str | UnsetType = UNSET
    """Of the sidecar's texts, where it is not the video's. Unset, it leaves the keys of results as they were
    before there was such a field.
    """


class Video(Struct, frozen=True, kw_only=True):
    """What is known of a video before it is watched."""

    id: str
    """The manifest's, or `v` and the first 16 hexadecimal digits of the digest (and the span, if any)."""
    digest: str
    """BLAKE2b of the file's bytes, 32 hexadecimal digits."""
    name: str
    """As in Entry."""
    duration: float
    """Seconds from the first picture to the end of the last (of the span, where there is one), as the
    container claims it; 0 where it does not say. Watching gives the true one."""
    offset: float = 0.0
    """Seconds in the file's own clock (0 = first picture) at which this video begins: its span's start."""
    audio_lead: float = 0.0
    """Seconds by which the file's clock (players, transcripts) runs ahead of the first picture."""
    fps: float
    """Average pictures a second."""
    width: int
    """Pixels as displayed: after rotation and with square pixels."""
    height: int
    rotation: int = 0
    """Degrees clockwise by which the stored picture is turned for display: 0, 90, 180, 270."""
    variable_rate: bool = False
    codec: str
    has_audio: bool = False
    licence: str | None = None
    source: str = "local"
    language: str | None = None
    sidecar: str = ""
    """Name of the file with its narration or transcript; empty where none could be read."""
    sidecar_format: str = ""
    sidecar_licence: str = ""
    """Of its texts; empty where it is the video's."""


class Boundary(Struct, frozen=True, gc=False):
    """A place where one shot becomes the next."""

    start: float
    """First mixed picture; of a cut, the first picture of the new shot."""
    end: float
    """First pure picture of the new shot; of a cut, equal to start."""
    kind: BoundaryKind = "cut"
    score: float = 0.0


class Measure(Struct, frozen=True):
    """What can be measured in the pictures of one stretch of about a second."""

    start: float
    end: float
    light: float
    """Mean brightness, 0 (black) to 1 (white)."""
    saturation: float
    """Mean colourfulness, 0 (grey) to 1."""
    colour: str
    """Name of the commonest colour: red, orange, yellow, green, cyan, blue, purple, pink, brown,
    black, grey, white."""
    colour_share: float
    """Share of the picture that has that colour, 0 to 1."""
    motion: float
    """Mean absolute change of brightness between neighbouring pictures 1/8 s or more apart, 0 to 1; a jump
    far larger than the other changes of its second (a cut) is left out."""


class Watched(Struct, frozen=True, kw_only=True):
    """All that one pass over a video's pictures yields. The frames themselves are files."""

    duration: float
    """Seconds really covered by readable pictures."""
    boundaries: tuple[Boundary, ...] = ()
    measures: tuple[Measure, ...] = ()
    frame_count: int = 0
    """Training frames written as 000001.jpg, ...; frame k shows the picture of time k * interval."""
    partial: str | None = None
    """Why only a part of the video could be read, where that is so."""


class Narration(Struct, frozen=True, kw_only=True):
    """One stretch of a sidecar: something said, or something written about what is seen."""

    start: float
    end: float
    """Equal to start for a point in time."""
    text: str
    modality: Modality
    """visual: somebody wrote down what is seen; audio: it was said, and need not be seen."""
    kind: Literal["speech", "narration", "step"]
    words: tuple[tuple[float, float, str], ...] = ()
    """(start, end, word) of a transcript, where known."""
    speaker: str | None = None
    mistake: bool = False
    """The annotators marked the step as done wrongly."""
    key: str = ""
    """The line or key in the sidecar it came from, for provenance."""


class Call(Struct, frozen=True, kw_only=True, gc=False):
    """A model call that a text comes from, or that had a say in it."""

    id: str
    """Hash of the request, under which the ledger keeps the reply; empty where nothing keeps it."""
    role: Literal["wrote", "repaired", "judged", "tightened"]
    prompt: str
    """Name, version and hash of the prompt; after a + those of the prompt that asked for the repair."""
    model: str
    """As it was asked for."""
    served: str
    """As the endpoint names it; empty where there was no reply."""


class Rejection(Struct, frozen=True, gc=False):
    """One thing that did not make it, and why. Every drop has a row."""

    stage: str
    """probe, watch, sidecar, segment, caption, synthesize, verify, export."""
    video_id: str
    """The video's id, or its name where it never got one."""
    item_id: str
    """Id of what was dropped: a video, a line of a sidecar, a dialogue, a question, an answer."""
    code: str
    detail: str
    calls: tuple[Call, ...] = ()
    """Those that it comes from and that turned it away."""


class Sidecar(Struct, frozen=True, kw_only=True):
    """What a sidecar file says about one video, in the clock of that video's file."""

    format: str
    narrations: tuple[Narration, ...] = ()
    """Sorted by start, then end."""
    rejected: tuple[Rejection, ...] = ()
    title: str | None = None
    """The goal, activity or title, where the file names one."""
    language: str | None = None


class Segment(Struct, frozen=True, kw_only=True, gc=False):
    """A stretch of a video that is captioned as one. Segments are sorted and never overlap."""

    id: str
    video_id: str
    start: float
    end: float
    method: SegmentMethod
    boundary: BoundaryKind | None = None
    """The kind of shot change it begins with, if any."""


class Caption(Struct, frozen=True, kw_only=True, gc=False):
    """What is known of a segment, in words; seen and heard kept apart."""

    segment_id: str
    seen: str | None
    heard: str | None
    provenance: str
    """sidecar:<format>, pixels, or the model and prompt version that wrote it."""
    keys: tuple[str, ...] = ()
    """The lines or keys of the sidecar it rests on."""
    traits: dict[str, str] = {}
    """Measured properties by name (light, colour, motion, ...), for the rules."""
    mistake: bool = False
    calls: tuple[Call, ...] = ()


class Answer(Struct, frozen=True, kw_only=True, gc=False):
    """One reply that is due, with the three times of it kept apart (the reply turn is made at export)."""

    text: str
    evidence: tuple[str, ...]
    """Ids of the segments it rests on, in time order."""
    evidence_start: float
    evidence_end: float
    """All that the reply says has been shown by this time."""
    reply_start: float
    reply_end: float
    """The stretch in which the reply is welcome."""
    immediate: bool = False
    """Given at once when the question is asked, from what was shown before."""
    modality: Modality | Literal["both"] = "visual"
    """Whether what it says was seen, only heard, or partly one and partly the other."""
    wording: str = ""
    """What a rule put it into: the file of wordings, its hash, and the name; empty: it stands as it was."""
    keys: tuple[str, ...] = ()
    """The lines or keys of the sidecar that it repeats."""
    calls: tuple[Call, ...] = ()


class Question(Struct, frozen=True, kw_only=True, gc=False):
    """A question of the viewer and the replies it calls for, sorted by reply_start."""

    text: str
    ask_time: float
    kind: str
    """narrate, detect, monitor, recall, ...: the shape in DIALOGUE.md's list."""
    answers: tuple[Answer, ...] = ()
    wording: str = ""
    """As in Answer."""
    keys: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()


class Dialogue(Struct, frozen=True, kw_only=True, gc=False):
    """Questions in order of asking; a later question takes over from the one before it."""

    id: str
    video_id: str
    type: Literal["1QnA", "nQnA"]
    questions: tuple[Question, ...]
    provenance: str
    """rule, or the model and prompt version."""


def dialogue_id(video_id: str, questions: tuple[Question, ...]) -> str:
    """The video's id and a hash of what is asked and answered when; who wrote it is no part of it."""
    told: list[dict[str, Any]] = msgspec.to_builtins(questions)
    for item in [*told, *(answer for question in told for answer in question["answers"])]:
        for name in ("wording", "keys", "calls"):
            del item[name]
    return f"{video_id}#{blake2b(msgspec.json.encode(told), digest_size=4).hexdigest()}"


def calls_by_item(dialogue: Dialogue) -> dict[str, tuple[Call, ...]]:
    """The calls of each question and answer, by the id it goes by: that of the dialogue, /q0 and /q0/a0.

    The dialogue itself has those of its questions.
    """
    asked = (call for question in dialogue.questions for call in question.calls)
    found = {dialogue.id: tuple(dict.fromkeys(asked))}
    for q, question in enumerate(dialogue.questions):
        found[f"{dialogue.id}/q{q}"] = question.calls
        found |= {f"{dialogue.id}/q{q}/a{a}": answer.calls for a, answer in enumerate(question.answers)}
    return found


class Turn(Struct, frozen=True, kw_only=True, gc=False):
    """One user turn and what the assistant does after it."""

    time: float
    """Frames so far, this turn's included, times the frame interval."""
    first_frame: int
    """1-based number of the turn's first frame."""
    last_frame: int
    user: str | None
    label: Literal["silent", "reply"]
    text: str
    """The reply, or NO REPLY."""


class Built(Struct, frozen=True, kw_only=True):
    """All that the pipeline made of one video; what the export reads."""

    video: Video
    watched: Watched
    segments: tuple[Segment, ...]
    captions: tuple[Caption, ...]
    dialogues: tuple[Dialogue, ...]
    rejected: tuple[Rejection, ...]
