"""Power against closed forms, a published value, integrals of the noncentral t, and simulated studies."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import integrate, stats

from foveate.errors import OptionError
from foveate.study.statistics.power import attained, detectable_effect, power, seeds_needed
from foveate.study.statistics.sign_flip import fewest_seeds, sign_flip


def by_integral(effect: float, seeds: int, level: float) -> float:
    """Power of the t-test: a normal mean beyond so many estimated deviations, integrated over the estimate."""
    freedom = seeds - 1
    critical = float(stats.t.isf(level / 2, freedom))

    def beyond(square: float) -> float:
        reached = critical * math.sqrt(square / freedom) - effect * math.sqrt(seeds)
        return float(stats.norm.sf(reached) * stats.chi2.pdf(square, freedom))

    return integrate.quad(beyond, 0, np.inf, epsabs=1e-9, limit=200)[0]


@pytest.mark.parametrize("seeds", [13, 20, 34, 60])
@pytest.mark.parametrize("effect", [0.1, 0.5, 1.2])
def test_many_seeds_have_the_power_of_the_t_test(seeds: int, effect: float) -> None:
    level = 0.05 / 5
    step = math.floor(level * 2 ** (seeds - 1)) / 2 ** (seeds - 1)  # the largest p-value up to the level
    assert power(effect, seeds, level) == pytest.approx(by_integral(effect, seeds, step), abs=1e-6)


def test_a_published_value() -> None:
    # Faul et al. (2007), https://doi.org/10.3758/BF03193146, and every table since: d_z = 0.5, 5 %, 34 pairs: 0.8078
    assert power(0.5, 34, 0.05) == pytest.approx(0.8078, abs=5e-5)
    assert seeds_needed(0.5, 0.05) == 34


@pytest.mark.parametrize(("seeds", "arms"), [(6, 1), (8, 5), (9, 11)])
def test_where_all_signs_must_agree_it_is_a_power_of_the_normal(seeds: int, arms: int) -> None:
    for effect in (0.5, 1.0, 1.5, 2.0):
        exact = float(stats.norm.cdf(effect)) ** seeds
        # a share of 4,000 samples deviates by sqrt(p (1 - p) / 4,000); four of them
        assert abs(power(effect, seeds, 0.05 / arms) - exact) < 4 * math.sqrt(exact * (1 - exact) / 4000) + 1e-9


@pytest.mark.parametrize(("seeds", "level"), [(7, 0.05), (10, 0.01)])
def test_few_seeds_against_the_test_itself(seeds: int, level: float) -> None:
    samples = np.random.default_rng(7).standard_normal((1500, seeds)) + 1.1
    called = np.mean([sample.sum() > 0 and sign_flip(sample) <= level for sample in samples])
    found = power(1.1, seeds, level)
    # shares of 1,500 and of 4,000 samples: four deviations of their difference
    assert abs(called - found) < 4 * math.sqrt(found * (1 - found) * (1 / 1500 + 1 / 4000))


def test_too_few_seeds_have_none() -> None:
    for level, seeds in itertools.product((0.05, 0.01, 0.004), range(1, 12)):
        can = seeds >= fewest_seeds(level)
        assert (attained(seeds, level) > 0) == can
        assert (power(50.0, seeds, level) > 0.999) == can
        assert (detectable_effect(seeds, level) is not None) == can


@pytest.mark.parametrize("level", [0.05, 0.05 / 11])
def test_power_grows_with_the_effect_and_is_a_probability(level: float) -> None:
    for seeds in (9, 12, 13, 20, 51, 200):
        found = [power(effect, seeds, level) for effect in np.linspace(0.01, 12, 60)]
        assert all(0 <= one <= 1 for one in found)
        assert found == sorted(found) and found[-1] > 0.999


@pytest.mark.parametrize("chance", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("seeds", [8, 12, 13, 40])
def test_the_detectable_effect_has_its_power(seeds: int, chance: float) -> None:
    effect = detectable_effect(seeds, 0.01, chance)
    assert effect is not None
    assert power(effect, seeds, 0.01) >= chance > power(effect - 2e-6, seeds, 0.01)


@pytest.mark.parametrize("effect", [0.02, 0.3, 0.7, 1.2, 1.8])
def test_the_needed_seeds_are_the_first_that_do(effect: float) -> None:
    needed = seeds_needed(effect, 0.01)
    assert needed is not None
    assert power(effect, needed, 0.01) >= 0.8 > power(effect, needed - 1, 0.01)


def test_what_cannot_be_seen() -> None:
    assert seeds_needed(1e-4, 0.01) is None
    with pytest.raises(OptionError, match="above zero, not 0"):
        seeds_needed(0, 0.01)
