"""Silence kept in proportion: how much each turn's loss counts, and how long a silence may end a dialogue.

Trainers that weigh turns: ms-swift 4.6 takes a `loss_scale` beside `role` and `content` of an assistant's
message and multiplies the loss of its tokens by it, if `--is_binary_loss_scale false` says so. Our messages
have no such field, since others would not load them; put the weights there in a line of your own,
`weights[n]` into the n-th assistant's message.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from datagen.records import Turn

Weights = Literal["none", "inverse_length", "class_balanced"]


def turn_weights(turns: Sequence[Turn], weights: Weights) -> list[float]:
    """A weight for each turn of a row, 1 on average, so that the learning rate keeps its meaning.

    none            every turn counts 1
    inverse_length  a run of N silent turns counts as much as one reply, each of its turns 1/N of it; ours
    class_balanced  first silences, repeated silences and replies count equally in sum: turns / (classes *
                    turns of the class), as scikit-learn's class_weight="balanced" does (after G. King and
                    L. Zeng, Logistic regression in rare events data, 2001), here for each row by itself, so
                    that the weights of a row do not change with the rest of the dataset
    """
    if weights == "none" or not turns:
        return [1.0] * len(turns)
    if weights == "inverse_length":
        raw = [1 / length for length in _run_lengths(turns)]
    else:
        classes = _classes(turns)
        sizes = Counter(classes)
        raw = [1 / (len(sizes) * sizes[name]) for name in classes]
    mean = sum(raw) / len(raw)
    return [round(weight / mean, 6) for weight in raw]


def _run_lengths(turns: Sequence[Turn]) -> list[int]:
    """For each silent turn the length of its run of silence; 1 for a reply."""
    lengths: list[int] = []
    run = 0
    for turn in turns:
        if turn.label == "silent":
            run += 1
        else:
            lengths += [run] * run + [1]
            run = 0
    return lengths + [run] * run


def _classes(turns: Sequence[Turn]) -> list[str]:
    classes: list[str] = []
    for turn in turns:
        if turn.label == "reply":
            classes.append("reply")
        else:
            again = bool(classes) and classes[-1] != "reply"
            classes.append("repeated silence" if again else "first silence")
    return classes


def without_tail(turns: Sequence[Turn], seconds: float | None) -> Sequence[Turn]:
    """The turns up to the first one `seconds` or more after the last reply and the last question.

    Only the end of a dialogue can be left out: within it, frames and times must follow one another.
    """
    if seconds is None:
        return turns
    last = max((turn.time for turn in turns if turn.user or turn.label == "reply"), default=0.0)
    kept = next((n for n, turn in enumerate(turns, 1) if turn.time >= last + seconds), len(turns))
    return turns[:kept]
