"""Published figures that a built dataset is shown next to. Shares are of 1, times in seconds."""

from typing import Any

PUBLISHED: dict[str, dict[str, Any]] = {
    "MMDuet2 web": {"videos": 50228, "mean_seconds": 92.7, "questions_per_video": 2.0, "answers": 6.7},
    "MMDuet2 ego": {"videos": 2543, "mean_seconds": 164.4, "questions_per_video": 2.1, "answers": 5.6},
    "ProactiveVideoQA WEB": {"answers": 2.66},
    "ProactiveVideoQA EGO": {"answers": 4.83},
}
"""The training set of MMDuet2 (arXiv 2512.06810: Live-WhisperX; Ego-Exo4D and EgoExoLearn) and the benchmark.
`answers` is for each dialogue."""

WORDS_PER_REPLY = (12, 14)

REPLY_RATES: dict[str, tuple[float, float]] = {
    "EgoExoLearn, fine": (0.10, 0.21),
    "EgoExoLearn, coarse": (0.03, 0.05),
    "CaptainCook4D": (0.016, 0.033),
    "HiREST": (0.035, 0.07),
}
"""Replies over turns if every annotation were one reply, with turns of 1 s and of 2 s."""

TALK_RATIOS: dict[str, float] = {
    "ProAssist Ego4D": 0.02,
    "ProAssist EgoExoLearn": 0.08,
    "ProAssist HoloAssist": 0.13,
    "OmniStar": 1 / 36,
}
"""Replies over turns, at 2 frames a second and one frame a turn; OmniStar: 1 reply to 35 silences."""

SPANS_WITHOUT_TURN = (0.08, 0.19)
"""Of fine annotations (median 2 to 3 s long), with turns of 2 s."""


def expected_rate(name: str, turn_seconds: float) -> float:
    """Replies over turns of a dataset of PUBLISHED if each answer were one reply: worked out by us."""
    figures = PUBLISHED[name]
    return float(figures["answers"] * turn_seconds / figures["mean_seconds"])
