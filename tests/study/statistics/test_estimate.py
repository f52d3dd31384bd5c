"""Intervals against numbers computed by hand from the table of Student's t."""

from __future__ import annotations

import random

import pytest

from foveate.errors import FoveateError
from foveate.study.statistics import estimate, paired_difference


def test_three_values_by_hand() -> None:
    # mean 82, deviation sqrt((1 + 1 + 0) / 2) = 1, t(0.975; 2) = 4.302653: half the width is 4.302653 / sqrt(3)
    found = estimate([81.0, 83.0, 82.0])
    assert found.mean == 82.0 and found.count == 3
    assert found.interval == pytest.approx((82 - 2.484138, 82 + 2.484138), abs=1e-6)


def test_two_values_by_hand() -> None:
    # deviation sqrt(0.5), t(0.975; 1) = 12.706205: half the width is 12.706205 * sqrt(0.5) / sqrt(2) = 6.353102
    assert estimate([1.0, 2.0]).interval == pytest.approx((1.5 - 6.353102, 1.5 + 6.353102), abs=1e-6)


def test_ten_values_by_hand() -> None:
    # 1..10: mean 5.5, variance 82.5 / 9, t(0.975; 9) = 2.262157; 2.262157 * 3.027650 / sqrt(10) = 2.165850
    found = estimate([float(value) for value in range(1, 11)])
    assert found.interval == pytest.approx((5.5 - 2.165850, 5.5 + 2.165850), abs=1e-5)


def test_a_difference_is_paired() -> None:
    # the values scatter by 10, the differences are 1, 2, 3: mean 2, deviation 1
    found = paired_difference([11.0, 22.0, 33.0], [10.0, 20.0, 30.0])
    assert found.mean == 2.0
    assert found.interval == pytest.approx((2 - 2.484138, 2 + 2.484138), abs=1e-6)


def test_equal_values_have_an_interval_of_no_width() -> None:
    assert estimate([0.5, 0.5, 0.5]).interval == (0.5, 0.5)


def test_one_value_has_no_interval_and_says_so() -> None:
    found = estimate([0.8])
    assert found.mean == 0.8 and found.interval is None
    assert str(found) == "0.8 (one value: no interval)"


def test_the_interval_covers_the_mean_as_often_as_it_says() -> None:
    chance = random.Random(0)
    hits = 0
    for _ in range(2000):
        low, high = estimate([chance.gauss(3.0, 2.0) for _ in range(3)]).interval or (0.0, 0.0)
        hits += low <= 3.0 <= high
    # 2,000 trials of 0.95 deviate by sqrt(0.95 * 0.05 / 2000) = 0.5 %; four of them are 2 %
    assert abs(hits / 2000 - 0.95) < 0.02


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")]])
def test_what_has_no_mean_is_refused(values: list[float]) -> None:
    with pytest.raises(FoveateError):
        estimate(values)


def test_what_does_not_pair_is_refused() -> None:
    with pytest.raises(FoveateError, match="3 values and 2 of the baseline do not pair"):
        paired_difference([1.0, 2.0, 3.0], [1.0, 2.0])
