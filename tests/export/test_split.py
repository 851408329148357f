from hypothesis import given
from hypothesis import strategies as st

from datagen.config import ExportOptions
from datagen.export.split import assign_splits

OPTIONS = ExportOptions()


def count(splits, name):
    return list(splits.values()).count(name)


def test_a_large_build_keeps_to_the_shares_and_adding_videos_moves_none():
    ids = [f"v{k}" for k in range(20000)]
    splits = assign_splits(ids, OPTIONS, 0)
    rl = count(splits, "rl/train") + count(splits, "rl/val")
    assert 900 < rl < 1100
    assert 70 < count(splits, "rl/val") < 130
    before = assign_splits(ids[:15000], OPTIONS, 0)
    assert all(splits[v] == before[v] for v in before)
    assert assign_splits(reversed(ids), OPTIONS, 0) == splits
    assert assign_splits(ids, OPTIONS, 1) != splits


@given(
    st.sets(st.text(max_size=5), max_size=12), st.integers(0, 5), st.floats(0.01, 0.99), st.floats(0.01, 0.99)
)
def test_small_builds_get_something_in_each(ids, seed, rl_fraction, val_fraction):
    splits = assign_splits(ids, ExportOptions(rl_fraction=rl_fraction, val_fraction=val_fraction), seed)
    assert set(splits) == ids
    names = set(splits.values())
    if len(ids) >= 3:
        assert names == {"sft/train", "rl/train", "rl/val"}
    elif len(ids) == 2:
        assert names == {"sft/train", "rl/train"}
    elif len(ids) == 1:
        assert names == {"sft/train"}


def test_shares_of_nothing_and_everything_are_kept_exactly():
    ids = [f"v{k}" for k in range(10)]
    assert set(assign_splits(ids, ExportOptions(rl_fraction=0), 0).values()) == {"sft/train"}
    assert set(assign_splits(ids, ExportOptions(rl_fraction=1, val_fraction=0), 0).values()) == {"rl/train"}
    assert set(assign_splits(ids, ExportOptions(rl_fraction=1, val_fraction=1), 0).values()) == {"rl/val"}
    assert assign_splits([], OPTIONS, 0) == {}
