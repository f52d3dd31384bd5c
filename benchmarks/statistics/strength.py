"""Under a known effect of one arm: is it called better as often as the formula says?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.statistics.scores import differences
from foveate.study.statistics.judge import ALPHA, Paired, judge
from foveate.study.statistics.power import detectable_effect, power

STUDIES = 2_000
ARMS = (1, 5, 11)
SEEDS = (8, 9, 10, 12, 15, 20, 30)
AIMS = (0.5, 0.8, 0.95)


def rows(studies: int = STUDIES) -> Iterator[dict[str, Any]]:
    """A row a number of arms, a number of seeds and an effect."""
    for arms in ARMS:
        for seeds in SEEDS:
            for aim in AIMS:
                effect = detectable_effect(seeds, ALPHA / arms, aim)
                if effect is not None:
                    yield one(arms, seeds, effect, studies)


def one(arms: int, seeds: int, effect: float, studies: int) -> dict[str, Any]:
    """The arm's verdicts, and a t-test at the same level, whose power the noncentral t gives exactly."""
    level = ALPHA / arms
    chance = np.random.default_rng([arms, seeds, round(1e6 * effect)])
    better = worse = by_t = 0
    critical = float(stats.t.ppf(1 - level / 2, seeds - 1))
    for _ in range(studies):
        table = differences("normal", chance, arms, seeds)
        table[0] += effect * math.sqrt(2)  # the difference of two normal scores of deviation 1
        word = judge({str(arm): Paired(tuple(row)) for arm, row in enumerate(table)})["0"].word
        better += word == "better"
        worse += word == "worse"
        by_t += bool(table[0].mean() * math.sqrt(seeds) / table[0].std(ddof=1) >= critical)
    return {
        "arms": arms,
        "seeds": seeds,
        "effect": effect,
        "studies": studies,
        "better": better,
        "worse": worse,
        "formula": power(effect, seeds, level),
        "t_test": by_t,
        "noncentral_t": float(stats.nct.sf(critical, seeds - 1, effect * math.sqrt(seeds))),
    }
