"""Do the intervals cover the true mean as often as they say, and how long are they?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.statistics.scores import EXCHANGEABLE, differences
from foveate.study.statistics.bootstrap import bootstrap_t
from foveate.study.statistics.crossed import crossed_bootstrap, crossed_t
from foveate.study.statistics.student import student

Table = NDArray[np.float64]
Interval = tuple[float, float] | None
STUDIES = 2_000
SEEDS = (3, 5, 8, 10, 20)
EXAMPLES = 200
RESAMPLES = 500  # fewer than the defaults: quantiles of 2.5 % and 97.5 % are then off by 0.7 % of the resamples
# deviations of seed, example and rest; over 20 seeds of 200 examples each mixture has a mean that errs by about 0.1
MIXTURES = {
    "seeds differ": (0.5, 0.5, 1.0),
    "examples differ": (0.05, 2.0, 1.0),
    "both differ": (0.5, 2.0, 1.0),
    "neither differs": (0.0, 0.0, 4.0),
}


def rows(studies: int = STUDIES) -> Iterator[dict[str, Any]]:
    """A row a distribution, a number of seeds and a method; of means over seeds first, then of tables."""
    over_seeds: dict[str, Callable[[Table], Interval]] = {
        "t": lambda values: student(list(values)),
        "bootstrap-t": lambda values: bootstrap_t(values, resamples=RESAMPLES),
    }
    for kind in (*EXCHANGEABLE, "exponential"):
        for seeds in SEEDS:
            chance = np.random.default_rng([1, sum(map(ord, kind)), seeds])
            samples = [
                chance.exponential(size=seeds) - 1 if kind == "exponential" else differences(kind, chance, 1, seeds)[0]
                for _ in range(studies)
            ]
            yield from covered({"of": "seeds", "kind": kind, "seeds": seeds}, samples, over_seeds)
    over_both: dict[str, Callable[[Table], Interval]] = {
        "t of the seeds' means": lambda table: student(list(table.mean(axis=1))),
        "nested bootstrap": nested,
        "crossed bootstrap": lambda table: crossed_bootstrap(table, resamples=RESAMPLES),
        "crossed t": crossed_t,
    }
    for kind in (*MIXTURES, "right or wrong"):
        for seeds in SEEDS:
            chance = np.random.default_rng([2, sum(map(ord, kind)), seeds])
            tables = [crossed(kind, chance, seeds) for _ in range(studies)]
            yield from covered({"of": "seeds and examples", "kind": kind, "seeds": seeds}, tables, over_both)


def covered(
    row: dict[str, Any], samples: list[Table], methods: dict[str, Callable[[Table], Interval]]
) -> Iterator[dict[str, Any]]:
    """How often zero, the true mean, is within, above and below; and the interval's length in the mean's deviations."""
    error = float(np.std([sample.mean() for sample in samples]))
    for name, method in methods.items():
        found = [interval for sample in samples if (interval := method(sample)) is not None]
        low, high = np.array(found).T
        yield {
            **row,
            "method": name,
            "studies": len(found),
            "covered": int(((low <= 0) & (high >= 0)).sum()),
            "above": int((low > 0).sum()),
            "below": int((high < 0).sum()),
            "median_length": float(np.median(high - low)) / error,
        }


def crossed(kind: str, chance: np.random.Generator, seeds: int) -> Table:
    """Differences of seeds by examples, zero in the mean."""
    if kind == "right or wrong":  # two networks as good as each other, each with examples that suit it better
        ease = chance.normal(1.5, 1.5, EXAMPLES)
        suits = chance.normal(0, 0.7, EXAMPLES)
        luck = chance.normal(0, 0.3, (2, seeds, 1))
        right = chance.random((2, seeds, EXAMPLES)) < 1 / (
            1 + np.exp(-(ease + luck + np.stack((suits, -suits))[:, None]))
        )
        return right[0].astype(float) - right[1].astype(float)
    of_seed, of_example, rest = MIXTURES[kind]
    return (
        of_seed * chance.standard_normal((seeds, 1))
        + of_example * chance.standard_normal(EXAMPLES)
        + rest * chance.standard_normal((seeds, EXAMPLES))
    )


def nested(table: Table) -> Interval:
    """Seeds resampled, and examples anew within each: what is done where every seed has examples of its own."""
    chance = np.random.default_rng(0)
    seeds, examples = table.shape
    # the mean of resampled examples of one seed is all but normal, and 500 resamples of 200 of them need not be drawn
    means, errors = table.mean(axis=1), table.std(axis=1) / math.sqrt(examples)
    drawn = chance.integers(seeds, size=(RESAMPLES, seeds))
    found = (means[drawn] + errors[drawn] * chance.standard_normal(drawn.shape)).mean(axis=1)
    low, high = np.quantile(found, (0.025, 0.975))
    return float(low), float(high)
