"""Dealing: whole, disjoint, by content."""

from __future__ import annotations

import pytest

from foveate.data.split import deal

SHARES = {"validation": 15, "test": 15}


@pytest.mark.parametrize(
    ("count", "expected"),
    [(3, (1, 1, 1)), (9, (7, 1, 1)), (10, (6, 2, 2)), (20, (14, 3, 3)), (100, (70, 15, 15))],
)
def test_shares_are_rounded_and_never_zero(count, expected):
    dealt = deal([str(number) for number in range(count)], SHARES, seed=3)
    assert tuple(len(dealt[split]) for split in ("train", "validation", "test")) == expected
    assert sorted(position for positions in dealt.values() for position in positions) == list(range(count))


@pytest.mark.parametrize("seed", range(8))
def test_shares_are_of_different_images(seed):
    """97 copies of one image weigh as much as any other: no split can consist of them and their like."""
    digests = ["copied"] * 97 + ["b", "c", "d"]
    dealt = deal(digests, SHARES, seed)
    owned = [{digests[position] for position in positions} for positions in dealt.values()]
    assert [len(of_split) for of_split in owned] == [2, 1, 1]
    assert len(set.union(*owned)) == 4


def test_order_does_not_matter():
    digests = [str(number) for number in range(30)]
    forwards, backwards = deal(digests, SHARES, seed=0), deal(digests[::-1], SHARES, seed=0)
    for split, positions in forwards.items():
        assert positions == sorted(29 - position for position in backwards[split])


def test_every_image_gets_everywhere_with_some_seed():
    digests = [str(number) for number in range(10)]
    tested = [deal(digests, SHARES, seed)["test"] for seed in range(50)]
    counts = [sum(position in of_seed for of_seed in tested) for position in range(10)]
    # 2 of 10 in each of 50 seeds: 10 times each on average; binomial, so beyond 1 to 24 once in 10^4 and less
    assert min(counts) >= 1
    assert max(counts) <= 24
