"""The exponent of a growth: of powers exactly, of others as least squares have it."""

from __future__ import annotations

import math

import pytest

from benchmarks.speed.exponent import power


@pytest.mark.parametrize("exponent", [0, 0.5, 1, 2, -1])
def test_a_power_is_found_whatever_its_factor(exponent: float):
    sizes = [3, 5, 11, 40]
    found = power(sizes, [7 * size**exponent for size in sizes])
    assert (found.exponent, found.residual) == (pytest.approx(exponent), 0.0)


def test_the_residual_is_the_mean_distance_as_a_share():
    # logarithms to base 2 of the costs: 0, 3, 2 at 0, 1, 2; least squares: slope 1, from 2/3; left -2/3, 4/3, -2/3
    found = power([1, 2, 4], [1, 8, 4])
    assert found.exponent == pytest.approx(1, abs=1e-4)
    assert found.residual == pytest.approx(2 ** math.sqrt((4 / 9 + 16 / 9 + 4 / 9) / 3) - 1, abs=1e-4)
