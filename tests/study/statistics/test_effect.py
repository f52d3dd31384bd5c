"""Effect sizes: Hedges' correction by its definition, and that it takes the bias away."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest

from foveate.study.statistics.effect import effect_size, scatter


@pytest.mark.parametrize("count", [3, 4, 8, 20, 500])
def test_it_is_hedges(count: int) -> None:
    values = np.random.default_rng(count).standard_normal(count) + 1
    freedom = count - 1
    # Hedges' own approximation 1 - 3 / (4 f - 1) differs from the gamma functions by 1 / (32 f²) and higher orders, as
    # both series say: J = 1 - 3 / 4f - 7 / 32f², and 1 - 3 / 4f - 6 / 32f²; twice that holds from f = 2
    near = (1 - 3 / (4 * freedom - 1)) * statistics.fmean(values) / statistics.stdev(values)
    assert effect_size(list(values)) == pytest.approx(near, rel=1 / (16 * freedom**2))


def test_by_hand() -> None:
    # J(3) = Γ(1.5) / (sqrt(1.5) Γ(1)) = 0.886227 / 1.224745; mean 2.5, deviation sqrt(5 / 3)
    assert effect_size([1.0, 2.0, 3.0, 4.0]) == pytest.approx(0.723601 * 2.5 / math.sqrt(5 / 3), abs=1e-6)


def test_it_is_right_on_average() -> None:
    drawn = np.random.default_rng(0).standard_normal((4000, 5)) + 1.0
    found = [effect_size(row) for row in drawn.tolist()]
    # five deviations of the mean of 4,000; without the correction the mean is 1 / J(4) = 1.25
    assert abs(statistics.fmean(found) - 1.0) < 5 * statistics.stdev(found) / math.sqrt(4000)


@pytest.mark.parametrize("values", [[1.0], [1.0, 2.0], [0.5, 0.5, 0.5], [0.3, 0.1 + 0.2, 0.3], [0.0, 0.0, 0.0]])
def test_there_is_none_of_two_or_of_equal_ones(values: list[float]) -> None:
    assert effect_size(values) is None


def test_scatter() -> None:
    assert scatter([1.0]) is None
    assert scatter([0.91 - 0.9, 0.81 - 0.8, 0.71 - 0.7]) is None  # 0.01 each, but for rounding
    assert scatter([1e-9, 2e-9, 3e-9]) == pytest.approx(1e-9)
