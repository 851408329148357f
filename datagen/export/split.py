"""Which videos go to SFT, which to RL: by a hash of the video's id, so that no video is ever in two."""

from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b

from datagen.config import ExportOptions


@lru_cache(maxsize=64)
def hash64(*parts: object) -> int:
    """A number from 0 to 2^64 - 1, the same on every machine."""
    text = "\0".join(str(part) for part in parts)
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())


def assign_splits(video_ids: Iterable[str], options: ExportOptions, seed: int) -> dict[str, str]:
    """`sft/train`, `rl/train` or `rl/val` for each video that has a dialogue.

    Each video is judged by its own hashes, so that adding videos moves no other. Only where a build is so
    small that a split would stay empty is the video with the nearest hash moved into it: from 2 videos on
    there is one for RL, from 3 on one each for RL training and validation. A share of 0 or 1 is kept to
    exactly, except that a single video always goes to SFT.
    """
    ids = sorted(set(video_ids))
    rl_hash = {v: hash64(seed, "rl", v) / 2**64 for v in ids}
    val_hash = {v: hash64(seed, "val", v) / 2**64 for v in ids}
    if len(ids) == 1:
        return {ids[0]: "sft/train"}
    wanted = 2 if len(ids) > 2 and 0 < options.val_fraction < 1 else 1
    rl = _share(ids, rl_hash, options.rl_fraction, wanted)
    val = _share(rl, val_hash, options.val_fraction, 1)
    chosen = dict.fromkeys(ids, "sft/train") | dict.fromkeys(rl, "rl/train") | dict.fromkeys(val, "rl/val")
    return {v: chosen[v] for v in ids}


def _share(ids: list[str], hashes: dict[str, float], fraction: float, least: int) -> list[str]:
    if fraction in (0, 1):
        return ids if fraction else []
    ranked = sorted(ids, key=lambda v: (hashes[v], v))
    below = sum(hashes[v] < fraction for v in ids)
    return ranked[: max(0, min(max(below, least), len(ids) - 1))]
