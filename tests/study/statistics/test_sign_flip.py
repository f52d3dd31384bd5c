"""The sign-flip test against enumeration in whole numbers, scipy's permutation test, and its level by counting."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from foveate.errors import FoveateError
from foveate.study.statistics.sign_flip import fewest_seeds, sign_flip

CHANCE = np.random.default_rng(0)


def enumerated(whole: tuple[int, ...]) -> float:
    """Of whole numbers, where ties are ties and nothing is rounded."""
    seen = abs(sum(whole))
    sums = [
        abs(sum(s * w for s, w in zip(signs, whole, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(whole))
    ]
    return sum(one >= seen for one in sums) / len(sums)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 11])
@pytest.mark.parametrize("most", [2, 7, 1000])  # few values tie often, and many are zero
def test_it_is_the_share_of_all_signs(count: int, most: int) -> None:
    for _ in range(10):
        whole = tuple(int(one) for one in CHANCE.integers(-most, most + 1, size=count))
        assert sign_flip([float(one) for one in whole]) == enumerated(whole)


def test_accuracies_that_are_rounded_before_they_are_subtracted_still_tie() -> None:
    for _ in range(30):
        right = CHANCE.integers(380, 420, size=(2, 9))
        arm, base = right / 500
        assert sign_flip(arm - base) == enumerated(tuple(map(int, right[0] - right[1])))


@pytest.mark.parametrize("count", [4, 7, 10])
def test_it_is_scipys_exact_permutation_test(count: int) -> None:
    arm, base = CHANCE.standard_normal((2, count)) + np.array([[0.5], [0.0]])
    theirs = stats.permutation_test(
        (arm, base), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=np.inf
    )
    assert sign_flip(arm - base) == pytest.approx(theirs.pvalue, abs=1e-12)


def test_eighteen_differences_against_every_sum() -> None:
    values = CHANCE.standard_normal(18) + 0.4
    signs = 1 - 2 * ((np.arange(2**18)[:, None] >> np.arange(18)) & 1)
    assert sign_flip(values) == np.mean(np.abs(signs @ values) >= abs(values.sum()) - 1e-12)


@pytest.mark.parametrize("count", [35, 40, 41])  # 41 are drawn
def test_many_differences_are_nearly_normal(count: int) -> None:
    # equal magnitudes make it a sign test: the binomial says exactly what it is
    positive = count // 2 + 5
    values = [1.0] * positive + [-1.0] * (count - positive)
    exact = float(stats.binomtest(positive, count).pvalue)
    # drawn 99,999 times a share of p deviates by sqrt(p (1 - p) / 99,999); five of them, and the one that was seen
    assert abs(sign_flip(values) - exact) <= (5 * math.sqrt(exact / 99_999) + 1e-5 if count > 40 else 1e-12)


def test_what_is_drawn_never_says_never() -> None:
    assert sign_flip([1.0] * 60, draws=999) == 1 / 1000


@pytest.mark.parametrize("magnitudes", [(1, 2, 3, 4, 5, 6, 7, 8, 9, 10), (1,) * 9, (0, 0, 1, 1, 2, 3, 5, 8, 13, 100)])
def test_its_level_is_exact_whatever_the_magnitudes(magnitudes: tuple[int, ...]) -> None:
    # under no effect all signs are as probable: of all of them, at most a share of a may have p <= a, for every a
    found = sorted(
        sign_flip(np.array(signs) * magnitudes) for signs in itertools.product((1.0, -1.0), repeat=len(magnitudes))
    )
    assert all(np.searchsorted(found, a, side="right") / len(found) <= a for a in found)


def test_zeros_decide_nothing() -> None:
    assert sign_flip([0.0] * 10) == 1.0
    assert sign_flip([1.0, 2.0, 0.0, 0.0]) == sign_flip([1.0, 2.0]) == 0.5


def test_scale_and_sign_do_not_matter() -> None:
    values = CHANCE.standard_normal(12)
    assert sign_flip(values) == sign_flip(-values) == sign_flip(values * 1e-9) == sign_flip(values[::-1])


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")], [[1.0, 2.0]], ["a"]])
def test_what_has_no_test_is_refused(values: list[float]) -> None:
    with pytest.raises(FoveateError):
        sign_flip(values)


@pytest.mark.parametrize("arms", range(1, 40))
def test_the_fewest_seeds_are_the_first_whose_equal_signs_do(arms: int) -> None:
    level = 0.05 / arms
    assert fewest_seeds(level) == next(n for n in range(1, 40) if sign_flip([1.0] * n) <= level)
