"""What an RL window can teach: how much more than silence the true replies earn in it."""

from collections.abc import Sequence
from typing import Any

from datagen.export.overlap import overlap_judge, says_nothing_new
from datagen.export.pauc import PAPER, Settings, reward, truth_spans
from datagen.records import NO_REPLY


def window_gain(ground_truth: dict[str, Any], settings: Settings = PAPER) -> float:
    """Reward of the true replies, each on the first turn of its span, less that of silence.

    `ground_truth` is that of an RL row. Where this is 0 or less, every reply, right or wrong, earns at most
    what silence does, so that samples of a policy hardly differ in reward.
    """
    spans = truth_spans(ground_truth)
    times: Sequence[float] = ground_truth["model_pred_timestamps"]
    silent = [NO_REPLY] * len(times)
    said = list(silent)
    for span in spans:
        first = next((n for n, time in enumerate(times) if span.holds(time)), None)
        if first is not None:
            said[first] = span.text if said[first] == NO_REPLY else f"{said[first]} {span.text}"
    earlier, judge = ground_truth["prev_assistant_replies"], overlap_judge(settings.top)
    best, none = (
        reward(spans, times, replies, earlier, judge, says_nothing_new, settings).total
        for replies in (said, silent)
    )
    return best - none
