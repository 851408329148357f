import random
from collections import Counter
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.inspect.quality import Member, allocate, members, quality, sample, wilson
from datagen.inspect.verdicts import Verdict
from tests.inspect.report_samples import video
from tests.inspect.samples import config, write

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def population(**sizes):
    """Dialogues by stratum, such as a=30."""
    return {
        f"{name}{n}": Member((name, "nQnA", "narrate"), "c")
        for name, size in sizes.items()
        for n in range(size)
    }


def verdict(id, says="good", judge="Ada", content="c", **more):
    return Verdict(dialogue_id=id, content=content, judge=judge, verdict=says, time=NOON, **more)


@pytest.mark.parametrize(
    ("bad", "judged", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_as_published(bad, judged, low, high):
    # R. G. Newcombe, Statistics in Medicine 17 (1998), p. 857-872, table I, method 3.
    assert wilson(bad, judged) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_an_interval_holds_its_rate_mirrors_and_narrows(counts):
    bad, judged = counts
    low, high = wilson(bad, judged)
    assert 0 <= low <= bad / judged <= high <= 1 and low < high
    assert wilson(judged - bad, judged) == pytest.approx((1 - high, 1 - low))
    nearer, farther = wilson(4 * bad, 4 * judged)
    assert farther - nearer < high - low


@given(st.dictionaries(st.integers(0, 40), st.integers(1, 300), min_size=1, max_size=24), st.integers(1, 200))
def test_every_stratum_is_seen_and_the_rest_goes_by_size(sizes, size):
    strata = {(str(name), "", ""): count for name, count in sizes.items()}
    drawn = allocate(strata, size)
    assert all(min(2, strata[s]) <= drawn[s] <= strata[s] for s in strata)
    least = sum(min(2, count) for count in strata.values())
    assert sum(drawn.values()) == max(least, min(size, sum(strata.values())))
    for one in strata:
        for other in strata:
            assert drawn[one] >= drawn[other] or strata[one] <= strata[other]


@given(st.randoms(use_true_random=False), st.integers(0, 3))
def test_the_sample_depends_on_seed_and_ids_alone(shuffler, seed):
    found = population(a=150, b=40, c=1)
    ids = list(found)
    shuffler.shuffle(ids)
    drawn = sample({id: found[id] for id in ids}, seed, 30)
    assert drawn == sample(found, seed, 30) and len(set(drawn)) == 30
    assert drawn != sample(found, seed + 1, 30)
    assert "c0" in drawn
    # A dialogue less moves few others.
    gone = drawn[0]
    fewer = sample({id: member for id, member in found.items() if id != gone}, seed, 30)
    assert len(set(drawn) - set(fewer)) <= 2


def test_rates_are_weighted_by_what_there_is_of_each_stratum():
    found = population(many=900, few=100)
    drawn = sample(found, 0)
    few = [id for id in drawn if id.startswith("few")]
    many = [id for id in drawn if id.startswith("many")]
    verdicts = [verdict(id) for id in many[:40]] + [verdict(id, "bad", defects=("repeat",)) for id in few[:5]]
    made = quality(found, verdicts, 0)
    rates = {rate.name: rate for rate in made.strata}
    assert rates["few, nQnA, narrate"].rate == 1 and rates["many, nQnA, narrate"].rate == 0
    assert made.all.rate == pytest.approx(0.1) and made.all.judged == 45
    assert made.defects == (("repeat", 5),)
    # As wide as that of fewer than 45 dialogues: those of the larger stratum weigh more.
    low, high = wilson(4.5, 45)
    assert made.all.high - made.all.low > high - low


def test_intervals_hold_the_truth_as_often_as_they_say():
    draw = random.Random(7)
    found = population(a=500, b=140, c=20)
    odds = {"a": 0.06, "b": 0.2, "c": 0.5}
    held = 0
    for seed in range(120):
        bad = {id for id in found if draw.random() < odds[id[0]]}
        verdicts = [verdict(id, "bad" if id in bad else "good") for id in sample(found, seed)]
        rate = quality(found, verdicts, seed).all
        held += rate.low <= len(bad) / len(found) <= rate.high
    assert held >= 0.9 * 120


def test_what_does_not_count_is_counted():
    found = population(a=400)
    drawn = sample(found, 0)
    other = next(id for id in found if id not in drawn)
    verdicts = [
        verdict(drawn[0], "bad"),
        verdict(drawn[0], "good", judge="Bo"),  # bad where half say so
        verdict(drawn[1], "bad"),
        verdict(drawn[1], "bad", judge="Bo"),
        verdict(drawn[2], "bad", content="as it was"),
        verdict(drawn[3], "none"),
        verdict("gone", "bad"),
        verdict(other, "bad"),
    ]
    made = quality(found, verdicts, 0)
    assert (made.all.judged, made.all.bad, made.outside, made.changed, made.judges) == (2, 2, 1, 2, 2)
    assert (made.pairs, made.agreeing, made.both_bad) == (2, 1, 1)


def test_without_verdicts_nothing_is_claimed():
    made = quality(population(a=5), [], 0)
    assert made.all.rate is None and (made.all.low, made.all.high) == (0, 1)


def test_strata_come_from_sources_types_and_first_questions(tmp_path):
    out = write(tmp_path / "out", [video(n, kind=("narrate", "guide")[n % 2]) for n in range(6)], config())
    found = members(out)
    assert Counter(member.stratum for member in found.values()) == {
        ("live_whisperx", "nQnA", "narrate"): 3,
        ("live_whisperx", "nQnA", "guide"): 3,
    }
    many = write(tmp_path / "many", [video(n, kind=f"kind{n:02d}") for n in range(30)], config())
    pooled = Counter(member.stratum[0] for member in members(many).values())
    assert pooled == {"live_whisperx": 23, "others": 7}
