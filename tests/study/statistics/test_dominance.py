"""Almost stochastic order against integrals, and what it is of shifted, equal and crossing scores."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from foveate.study.statistics.dominance import dominance, violation

CHANCE = np.random.default_rng(3)


@pytest.mark.parametrize("counts", [(4, 4), (3, 5), (10, 7), (1, 6)])
def test_it_is_the_integral_over_quantiles(counts: tuple[int, int]) -> None:
    first, second = CHANCE.standard_normal(counts[0]), CHANCE.standard_normal(counts[1])
    shares = (np.arange(42_000) + 0.5) / 42_000  # steps of i/3, i/4, i/5, i/6, i/7 and i/10 fall between two
    apart = np.quantile(first, shares, method="inverted_cdf") - np.quantile(second, shares, method="inverted_cdf")
    assert violation(first, second) == pytest.approx(np.sum(apart[apart < 0] ** 2) / np.sum(apart**2), abs=1e-9)


def test_of_many_normal_scores_it_is_that_of_the_distributions() -> None:
    shares = (np.arange(100_000) + 0.5) / 100_000
    apart = stats.norm.ppf(shares, 0.5, 1) - stats.norm.ppf(shares, 0, 2)
    exact = np.sum(apart[apart < 0] ** 2) / np.sum(apart**2)
    found = violation(CHANCE.normal(0.5, 1, 20_000), CHANCE.normal(0, 2, 20_000))
    assert found == pytest.approx(exact, abs=0.03)  # five times the deviation over 100 repetitions, 0.006


def test_both_directions_make_one() -> None:
    first, second = CHANCE.standard_normal(8), CHANCE.standard_normal(9)
    assert violation(first, second) + violation(second, first) == pytest.approx(1.0)
    assert violation(first, first) == 0.5


def test_the_bound_is_above_and_decides_where_all_is_larger() -> None:
    first = CHANCE.standard_normal(20)
    assert dominance(first + 5, first) == 0.0
    assert dominance(first, first + 5) == 1.0
    other = CHANCE.standard_normal(20)
    assert dominance(first, other) >= violation(first, other)
    assert dominance(first, other) == dominance(first, other)  # the same seed, the same bound
