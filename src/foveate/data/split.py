"""Dealing images to splits, by seed, so that no image is in two of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence


def deal(digests: Sequence[str], shares: Mapping[str, int], seed: int) -> dict[str, list[int]]:
    """Deal the images of one class to ``train`` and the splits of ``shares``.

    The order is that of a hash of seed and content: it does not depend on names, places or the version of a random
    generator, and copies of one image are dealt as one, so none is learned from and tested on.

    Args:
        digests: The content of each image, as a hash; at least ``len(shares) + 1`` different ones.
        shares: Percent of the different images for each split, rounded to whole images, at least one; ``train``
            gets the rest.
        seed: Another seed is another split.

    Returns:
        For each split, positions in ``digests``, ascending.

    Example:
        >>> deal(["a", "b", "c", "d", "a"], {"test": 15}, seed=0)
        {'train': [0, 1, 3, 4], 'test': [2]}
    """
    different = sorted(set(digests), key=lambda digest: hashlib.sha256(f"{seed}/{digest}".encode()).digest())
    owner: dict[str, str] = {}
    for name, percent in shares.items():
        count = max(1, (len(different) * percent + 50) // 100)
        owner.update((digest, name) for digest in different[len(owner) : len(owner) + count])
    dealt: dict[str, list[int]] = {"train": [], **{name: [] for name in shares}}
    for position, digest in enumerate(digests):
        dealt[owner.get(digest, "train")].append(position)
    return dealt
