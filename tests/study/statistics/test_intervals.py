"""Intervals against scipy, formulas written out, and every resample of small tables."""

from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import pytest
from scipy import stats

from foveate.errors import FoveateError
from foveate.study.statistics.bootstrap import bootstrap_t
from foveate.study.statistics.crossed import crossed_bootstrap, crossed_t
from foveate.study.statistics.student import student

CHANCE = np.random.default_rng(1)


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_student_is_scipys(confidence: float) -> None:
    values = CHANCE.standard_normal(7)
    theirs = stats.ttest_1samp(values, 0).confidence_interval(confidence)
    assert student(list(values), confidence) == pytest.approx((theirs.low, theirs.high), rel=1e-12)


def test_bootstrap_t_is_that_of_all_resamples() -> None:
    # of 4 values there are 256 resamples, 4 of them of one value
    values = [1.0, 2.0, 4.0, 9.0]
    ratios = [
        (statistics.fmean(drawn) - 4.0) / statistics.stdev(drawn)
        for drawn in itertools.product(values, repeat=4)
        if len(set(drawn)) > 1
    ]
    low, high = bootstrap_t(values, resamples=100_000) or (0.0, 0.0)
    # the drawn quantile of 2.5 % is the exact one of a share that deviates by sqrt(0.025 · 0.975 / 100,000) = 0.05 %;
    # five of them are 0.25 %
    deviation = statistics.stdev(values)
    for found, share in (((4.0 - high) / deviation, 0.025), ((4.0 - low) / deviation, 0.975)):
        least, most = np.quantile(ratios, [share - 0.0025, share + 0.0025])
        assert least - 1e-9 <= found <= most + 1e-9


def test_bootstrap_t_moves_with_its_values() -> None:
    values = CHANCE.exponential(size=9)
    low, high = bootstrap_t(values) or (0.0, 0.0)
    assert bootstrap_t(3 * values + 1) == pytest.approx((3 * low + 1, 3 * high + 1))
    assert bootstrap_t(-values, seed=0) != (-high, -low) or low + high == 0  # quantiles of t are not symmetric


def test_bootstrap_t_leans_to_the_long_side() -> None:
    values = [0.0, 0.1, 0.2, 0.1, 0.0, 0.2, 0.1, 2.0]
    low, high = bootstrap_t(values) or (0.0, 0.0)
    mean = statistics.fmean(values)
    assert high - mean > 2 * (mean - low)


def test_crossed_t_is_its_formula() -> None:
    table = CHANCE.standard_normal((4, 6)) + CHANCE.standard_normal((4, 1)) + CHANCE.standard_normal(6)
    seeds = statistics.variance([statistics.fmean(row) for row in table.tolist()]) / 4
    examples = statistics.variance([statistics.fmean(column) for column in table.T.tolist()]) / 6
    freedom = (seeds + examples) ** 2 / (seeds**2 / 3 + examples**2 / 5)
    half = float(stats.t.isf(0.025, freedom)) * math.sqrt(seeds + examples)
    assert crossed_t(table) == pytest.approx((table.mean() - half, table.mean() + half), rel=1e-9)


def test_crossed_t_of_examples_that_do_not_differ_is_students() -> None:
    seeds = CHANCE.standard_normal((5, 1))
    table = np.broadcast_to(seeds, (5, 50))
    assert crossed_t(table) == pytest.approx(student(list(seeds[:, 0])), rel=1e-9)
    assert crossed_t(table.T) == pytest.approx(crossed_t(table))  # seeds and examples stand alike


def test_the_crossed_bootstrap_is_that_of_all_resamples() -> None:
    table = np.array([[0.0, 1.0, 0.5], [2.0, -1.0, 4.0]])
    means = [
        table[np.ix_(rows, columns)].mean()
        for rows in itertools.product(range(2), repeat=2)
        for columns in itertools.product(range(3), repeat=3)
    ]
    found = crossed_bootstrap(table, confidence=0.8, resamples=20_000) or (0.0, 0.0)
    # the drawn quantile of 10 % is that of a share that deviates by sqrt(0.1 · 0.9 / 20,000) = 0.2 %; five are 1 %
    for quantile, share in zip(found, (0.1, 0.9), strict=True):
        least, most = np.quantile(means, [share - 0.01, share + 0.01])
        assert least - 1e-9 <= quantile <= most + 1e-9


@pytest.mark.parametrize("method", [crossed_t, crossed_bootstrap])
def test_one_seed_or_one_example_has_no_crossed_interval(method) -> None:
    assert method(np.zeros((1, 5))) is None
    assert method(np.zeros((5, 1))) is None
    assert method(np.full((3, 4), 0.5)) == (0.5, 0.5)
    with pytest.raises(FoveateError, match="not finite"):
        method(np.array([[1.0, math.nan], [0.0, 1.0]]))
    with pytest.raises(FoveateError, match="a row a seed"):
        method(np.zeros(3))


def test_too_few_seeds_have_no_interval() -> None:
    assert student([1.0]) is None
    assert bootstrap_t([1.0, 2.0]) is None


def test_students_interval_covers_at_its_rate_and_the_crossed_bootstrap_does_not_at_five_seeds() -> None:
    covered = {"t": 0, "crossed t": 0, "crossed bootstrap": 0}
    for _ in range(400):
        table = CHANCE.standard_normal((5, 1)) + 0.5 * CHANCE.standard_normal((5, 20))
        for name, interval in (
            ("t", student(list(table.mean(axis=1)))),
            ("crossed t", crossed_t(table)),
            ("crossed bootstrap", crossed_bootstrap(table, resamples=200)),
        ):
            low, high = interval or (1.0, 0.0)
            covered[name] += low <= 0 <= high
    # so few of 400 at 95 % have a probability of 3e-4. Percentiles of 5 seeds reach 1.96 · sqrt(4/5) = 1.75 deviations
    # of the mean, where t has 2.78: they cover 84.5 %, and as many of 400 at that rate have a probability below 1e-3
    least = int(stats.binom.ppf(3e-4, 400, 0.95))
    assert covered["t"] >= least and covered["crossed t"] >= least
    assert covered["crossed bootstrap"] < least
