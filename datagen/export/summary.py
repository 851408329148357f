"""Figures for run.json from what has been counted, and flags on what is out of proportion."""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from datagen.config import DatasetOptions, ExportOptions
from datagen.export.reference import PUBLISHED, expected_rate
from datagen.export.selection import OFTEN
from datagen.export.statistics import GRIDS, OTHERS, RUN_BINS, Statistics, grid_name

_CHI_SQUARE = 27.88
"""Exceeded once in a thousand by chance, with the 9 degrees of freedom of ten deciles."""
_LARGE_EFFECT = 0.5
"""Cohen's w from which a deviation is large (Statistical power analysis, 1988). Any at all is significant in
a large dataset, and replies of one video are not independent."""
_FEW = 50
"""Fewer replies than this cannot be tested: chi-square wants 5 expected in each tenth."""
_MAJORITY = 0.5
"""A question is guessable if a single answer makes up this share of all its answers."""
_SHOWN = 10
"""Guessable questions that are listed."""
_STEP, _STEPS = 1024, 16
"""Tokens to a step of the histogram; doubled until it has no more steps than these."""


def summarise(
    statistics: Statistics, questions: Mapping[str, Any], options: DatasetOptions
) -> dict[str, Any]:
    """All figures and flags, for run.json. `questions` says how alike the questions are."""
    sources = {name: _figures(counts) for name, counts in sorted(statistics.sources.items())}
    shapes = {name: _figures(counts) for name, counts in sorted(statistics.shapes.items())}
    total = _figures(statistics.total)
    guessable = _guessable(statistics.templates)
    return {
        "all": total,
        "by_source": sources,
        "by_shape": shapes,
        "grids": _grids(statistics.total, options),
        "grids_by_source": {
            name: _grids(counts, options) for name, counts in sorted(statistics.sources.items())
        },
        "tokens": _tokens(statistics.tokens, statistics.config.export),
        "questions": dict(questions),
        "guessable": guessable[:_SHOWN],
        "flags": _flags(total, sources, len(guessable), questions, options),
    }


def _figures(counts: Counter[str]) -> dict[str, Any]:
    videos, dialogues, questions = counts["videos"], counts["dialogues"], counts["questions"]
    replies, turns = counts["replies"], counts["turns"]
    deciles = [counts[f"decile{tenth}"] for tenth in range(10)]
    chi_square, effect = _unevenness(deciles)
    return {
        "videos": videos,
        "hours": round(counts["video_ms"] / 3_600_000, 3),
        "mean_seconds": _ratio(counts["video_ms"], 1000 * videos, 1),
        "dialogues": dialogues,
        "questions": questions,
        "questions_per_video": _ratio(questions, videos),
        "answers_per_question": _ratio(counts["answers"], questions),
        "answers_per_dialogue": _ratio(counts["answers"], dialogues),
        "words_per_reply": _ratio(counts["reply_words"], replies),
        "turns": turns,
        "replies": replies,
        "reply_rate": _ratio(replies, turns, 4),
        "without_reply": _ratio(counts["silent_dialogues"], dialogues or questions, 4),
        "longest_silence_seconds": counts["longest_ms"] / 1000,
        "silent_runs": {name: counts[f"run{bin}"] for bin, name in enumerate(RUN_BINS)},
        "lateness": _ratio(counts["lateness_milli"], 1000 * counts["spans"], 3),
        "gap_seconds": _ratio(counts["gap_ms"], 1000 * counts["gaps"], 1),
        "position_deciles": deciles,
        "position_chi_square": round(chi_square, 1),
        "position_effect": round(effect, 3),
    }


def _tokens(rows: Mapping[str, Counter[int]], options: ExportOptions) -> dict[str, Any]:
    """How long the rows are, with histograms over the same steps, each of which takes up to its upper end."""
    longest = max((max(counts) for counts in rows.values() if counts), default=0)
    step = _STEP << max(0, (longest - 1) // (_STEP * _STEPS)).bit_length()
    counted_by, bound = options.tokenizer or "rule", options.max_tokens
    found: dict[str, Any] = {"counted_by": counted_by, "bound": bound, "step": step}
    for table, counts in rows.items():
        bins = [0] * -(-longest // step)
        for tokens, times in counts.items():
            bins[(tokens - 1) // step] += times
        found[table] = {
            "rows": counts.total(),
            "mean": _ratio(sum(tokens * times for tokens, times in counts.items()), counts.total(), 0),
            "median": _quantile(counts, 0.5),
            "most_of_95": _quantile(counts, 0.95),
            "most": max(counts, default=0),
            "histogram": bins,
        }
    return found


def _quantile(counts: Counter[int], share: float) -> int:
    """The least number that so large a share of the rows does not exceed; 0 without rows."""
    left = share * counts.total()
    for tokens in sorted(counts):
        left -= counts[tokens]
        if left <= 0:
            return tokens
    return 0


def _ratio(part: int, whole: int, digits: int = 2) -> float | None:
    return round(part / whole, digits) if whole else None


def _unevenness(deciles: list[int]) -> tuple[float, float]:
    """Chi-square against ten equal shares, and Cohen's w, its size whatever the number."""
    total = sum(deciles)
    if not total:
        return 0.0, 0.0
    chi_square = sum((count - total / 10) ** 2 / (total / 10) for count in deciles)
    return chi_square, math.sqrt(chi_square / total)


def _grids(counts: Counter[str], options: DatasetOptions) -> list[dict[str, Any]]:
    """The same dialogues at each of GRIDS."""
    found = []
    for interval, frames in GRIDS:
        name = grid_name(interval, frames)
        turns, replies = counts[f"{name}.turns"], counts[f"{name}.replies"]
        step = interval * frames
        found.append(
            {
                "seconds_per_frame": interval,
                "frames_per_turn": frames,
                "turns": turns,
                "replies": replies,
                "reply_rate": _ratio(replies, turns, 4),
                "silent_per_reply": _ratio(turns - replies, replies, 1),
                "spans_without_turn": _ratio(counts[f"{name}.missed"], counts[f"{name}.spans"], 4),
                "too_silent": bool(turns) and replies < options.min_reply_rate * turns,
                "published": {
                    name: round(expected_rate(name, step), 3)
                    for name, figures in PUBLISHED.items()
                    if "mean_seconds" in figures
                },
            }
        )
    return found


def _guessable(templates: Mapping[str, Counter[str]]) -> list[dict[str, Any]]:
    """Questions that one answer fits most of the time, the most frequent first."""
    found = []
    for question, answers in templates.items():
        known = {text: times for text, times in answers.items() if text != OTHERS}
        total = sum(answers.values())
        commonest = max(known, key=lambda text: (known[text], text))
        if known[commonest] < _MAJORITY * total:
            continue
        # Of the others no more is known than how many they are: each is taken to be different from all.
        times = [*known.values(), *[1] * answers[OTHERS]]
        entropy = sum(n / total * math.log2(total / n) for n in times)
        found.append(
            {
                "question": question[:300],
                "answers": total,
                "commonest": commonest[:300],
                "share": round(known[commonest] / total, 3),
                "entropy_bits": round(entropy, 3),
            }
        )
    return sorted(found, key=lambda row: (-row["answers"], row["question"]))


def _flags(
    total: dict[str, Any],
    sources: dict[str, dict[str, Any]],
    guessable: int,
    questions: Mapping[str, Any],
    options: DatasetOptions,
) -> list[dict[str, str]]:
    """What is out of proportion: the code, where, and what was found."""
    found = [("silence_balance", name, text) for name, s in sources.items() for text in _silence(s, options)]
    for where, figures in (("all", total), *sources.items()):
        chi_square, effect = figures["position_chi_square"], figures["position_effect"]
        if figures["replies"] >= _FEW and chi_square > _CHI_SQUARE and effect > _LARGE_EFFECT:
            detail = (
                f"replies by tenth of the video: {figures['position_deciles']}, chi-square {chi_square:g}"
            )
            found.append(
                ("position_bias", where, f"{detail}, effect {effect:g} of at most {_LARGE_EFFECT:g}")
            )
    if guessable:
        found.append(("guessable", "all", f"{guessable} questions mostly have one and the same answer"))
    common = questions["commonest_by_model"]
    if common["share"] > options.max_question_share and common["times"] >= OFTEN:
        detail = f"{common['share']:.1%} of the questions by a model are like {common['question']!r}"
        found.append(
            ("near_duplicate_question", "all", f"{detail}, more than {options.max_question_share:.1%}")
        )
    return [{"code": code, "where": where, "detail": detail} for code, where, detail in found]


def _silence(figures: dict[str, Any], options: DatasetOptions) -> list[str]:
    """What of a source's silence is out of bounds."""
    found = []
    rate, low, high = figures["reply_rate"], options.min_reply_rate, options.max_reply_rate
    if rate is not None and not low <= rate <= high:
        found.append(f"{rate:.1%} of the turns are replies, outside {low:.1%} to {high:.1%}")
    longest = figures["longest_silence_seconds"]
    if longest > options.max_silent_seconds:
        found.append(f"the longest silence lasts {longest:g} s, more than {options.max_silent_seconds:g} s")
    without = figures["without_reply"]
    if without is not None and without > options.max_no_reply_share:
        found.append(
            f"{without:.1%} of the dialogues have no reply, more than {options.max_no_reply_share:.1%}"
        )
    return found
