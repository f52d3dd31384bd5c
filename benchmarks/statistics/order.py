"""Almost stochastic order of two equal distributions: how often is one said to be above the other?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from foveate.study.statistics.dominance import dominance

STUDIES = 2_000
SCORES = (5, 10, 20, 100)
RESAMPLES = 200


def rows(studies: int = STUDIES) -> Iterator[dict[str, Any]]:
    """A row a number of scores: in how many studies the bound for the first was below 0.5, and below 0.2."""
    for count in SCORES:
        chance = np.random.default_rng([5, count])
        bounds = [dominance(*chance.standard_normal((2, count)), resamples=RESAMPLES) for _ in range(studies)]
        yield {
            "scores": count,
            "studies": studies,
            "below_half": sum(bound < 0.5 for bound in bounds),
            "below_fifth": sum(bound < 0.2 for bound in bounds),
        }
