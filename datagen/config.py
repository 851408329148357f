"""All values of a pipeline, frozen and typed; `pipeline_file` reads them."""

from typing import Annotated, Literal, get_args

from msgspec import Meta, Struct

from datagen.records import Placement


class SceneOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """How shot boundaries are found."""

    detector: Literal["content", "adaptive", "hash", "histogram"] = "content"
    threshold: float | None = None
    """None: the detector's own default."""
    min_seconds: float = 0.5
    """Boundaries closer together than this are one."""


class FrameOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """The training frames."""

    interval: float = 2.0
    """Seconds between two frames."""
    max_pixels: int = 100352
    """128 visual tokens of 28 x 28 pixels."""
    quality: int = 90
    """JPEG quality, 1 to 95."""


class SegmentOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """How a video is cut into segments."""

    method: Literal["auto", "scenes", "sentences", "annotations", "uniform"] = "auto"
    min_seconds: float = 4.0
    max_seconds: float = 20.0
    pause_seconds: float = 1.0
    """sentences: a silence this long ends a segment even in mid-sentence."""


_Live = Literal["narrate", "guide", "monitor", "detect", "count", "state_change", "mistake"]
_Silent = Literal["never", "unanswerable", "swap", "stop"]
Shape = Literal[_Live, "recall", "realtime", "follow_up", _Silent]
SILENT_KINDS: tuple[Shape, ...] = get_args(_Silent)
"""Questions to which silence is the right answer."""


class DialogueOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """What dialogues are made of a video."""

    type: Literal["1qna", "nqna", "mixed"] = "nqna"
    """mixed: half the videos each way."""
    shapes: tuple[Shape, ...] = get_args(Shape)
    """Questions to make; the rules leave out those that cannot be told true without a model."""
    writing: Literal["at_once", "incremental"] = "at_once"
    """By a model: all of a video in one request, or each reply from what came before it alone."""
    judge: bool = True
    """By a model: every reply must be borne out by what came before it, every silence by all there is."""
    tighten: bool = False
    """By a model that sees: replies are due from the first training frame that suffices for them."""
    min_questions: int = 2
    max_questions: int = 4
    seconds_per_question: float = 45.0
    """nQnA: one question for each such stretch of the video, within the bounds above."""
    max_reply_words: int = 60


Frames = Literal["paths", "embedded", "none"]


class ExportOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """How dialogues become rows. Changing any of this costs no decoding and no tokens."""

    frames_per_turn: int = 2
    placement: Placement = "end"
    jitter: tuple[float, float] = (0.5, 0.75)
    """placement jitter: the share of the reply span at which replies come."""
    frames: Frames = "paths"
    """How a row holds its frames: paths, the pictures themselves, or only their times."""
    max_frames: int = 90
    """Longest SFT or RL row; longer dialogues are split at a turn."""
    max_tokens: int | None = 16384
    """The same in tokens; None: as long as max_frames allows. 90 frames of 128 tokens take about 13,000."""
    tokenizer: str | None = None
    """Folder or Hub name of a processor or tokenizer that counts them; None: a rule does, see tokens.py."""
    rl_fraction: float = 0.05
    """Share of the videos held out of SFT for RL."""
    val_fraction: float = 0.1
    """Share of the RL videos kept for validation."""
    rl_window_seconds: tuple[float, float] = (20.0, 60.0)
    rl_min_gain: float | None = None
    """RL: windows in which the truth earns no more than this beyond silence are left out; None: none are."""
    keep_silent: float = 1.0
    """Share of the dialogues without any answer that are kept."""
    silent_tail: float | None = None
    """SFT: seconds of silence kept after the last reply or question; None: all."""
    weights: Literal["none", "inverse_length", "class_balanced"] = "none"
    """SFT: how much each turn's loss should count."""
    dialogues_per_shard: int = 131072
    """At 550 bytes of sft a dialogue and 1,350 of segments (benchmarks.export), shards of 70 and 180 MB."""
    row_group_size: int = 256


class DatasetOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """What holds of the dataset as a whole: what must not be in it, and what is out of proportion in it."""

    exclude_videos: str | None = None
    """Path of a file of benchmark videos: ids or names, one a line, or a benchmark's JSON."""
    exclude_questions: str | None = None
    """Path of a file of benchmark questions: one a line, or a benchmark's JSON."""
    languages: tuple[str, ...] = ()
    """Codes such as en: dialogues in other languages are left out; none: all are kept."""
    duplicate_similarity: float = 0.8
    """Two questions this alike (Jaccard similarity of their three-letter pieces) count as one."""
    max_question_share: float = 0.01
    """A question that makes up more of all those a model wrote is flagged as near_duplicate_question ..."""
    cap_questions: bool = False
    """... and the dialogues that ask it beyond that share are left out."""
    min_reply_rate: float = 0.1
    """Bounds of each source, beyond which it is flagged as silence_balance: replies over turns ..."""
    max_reply_rate: float = 0.6
    max_silent_seconds: float = 120.0
    """... the longest silence ..."""
    max_no_reply_share: float = 0.2
    """... and the share of dialogues without a reply."""


class LimitOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """What a single video may cost, and how much failure a run may see."""

    max_failures: float = 0.5
    """Exit status 1 when more videos fail than this: a share below 1, a count from 1 up."""
    max_seconds: float = 14400.0
    """Longest video taken."""
    watch_seconds: float = 60.0
    """Deadline of watching a video ..."""
    watch_ratio: float = 2.0
    """... plus this much for each second of it."""
    step_seconds: float = 60.0
    """Deadline of every other step."""
    memory_mb: int = 2048
    """Memory a worker may use."""
    gpu: bool = False
    """Videos are decoded on an NVIDIA GPU, where there is one."""


class CallOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """How long a call to a model may take."""

    call_seconds: float = 180.0
    """One try, from connecting to the last byte."""
    budget_seconds: float = 400.0
    """No further try of a call begins later than this after its first."""


class CheckOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """When the checks that need no model turn something away. Shares are of words that carry meaning."""

    leak_share: float = 0.15
    """future_leak_answer: words of a reply that are known only later, more than this."""
    question_leak_share: float = 0.25
    """future_leak_question: words of a question that are known only later, this much or more."""
    least_coverage: float = 0.5
    """unanswerable: words of a reply that stand in its evidence, less than this."""
    repeat_rouge: float = 0.7
    """repeat: ROUGE-L F1 with an earlier reply, this much or more, and no word of news ..."""
    least_novelty: float = 0.3
    """... or pairs of neighbouring words that no earlier reply has, less than this."""
    max_span_seconds: float = 60.0
    """span_width: a reply span longer than this ..."""
    max_span_share: float = 0.5
    """... or than this share of the video, where it is longer than 20 s too."""
    heard_share: float = 0.34
    """heard_not_seen: words of a reply labelled visual that were only heard, more than this."""


class Price(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a model costs."""

    input: Annotated[float, Meta(ge=0, le=1e6)]
    """USD for a million tokens of prompts."""
    output: Annotated[float, Meta(ge=0, le=1e6)]
    """USD for a million tokens of replies."""
    batch: Annotated[float, Meta(ge=0, le=1)] = 0.5
    """Share of these that is paid for calls through a batch interface."""


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """All values of a pipeline."""

    name: str
    seed: int = 0
    scenes: SceneOptions = SceneOptions()
    frames: FrameOptions = FrameOptions()
    segment: SegmentOptions = SegmentOptions()
    dialogue: DialogueOptions = DialogueOptions()
    checks: CheckOptions = CheckOptions()
    export: ExportOptions = ExportOptions()
    dataset: DatasetOptions = DatasetOptions()
    limits: LimitOptions = LimitOptions()
    calls: CallOptions = CallOptions()
    prices: dict[str, Price] = {}
    """By the model's name, as given on the command line. Results do not depend on them."""
