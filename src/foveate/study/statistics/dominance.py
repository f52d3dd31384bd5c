"""Almost stochastic order: are the scores of one network larger at nearly every quantile?"""

from __future__ import annotations

import numpy as np

from foveate.study.statistics.arrays import Floats, Numbers, finite
from foveate.study.statistics.student import CONFIDENCE, distributions


def violation(scores: Numbers, others: Numbers) -> float:
    """How far scores are from being larger than others at every quantile: 0 they are, 1 they are smaller at every one.

    The squared distance between the two quantile functions where the first is below, as a share of the whole; 0.5 of
    equal scores, where there is neither.

    Source: Dror, Shlomov and Reichart (2019), https://doi.org/10.18653/v1/P19-1266, equations 3 to 5, after del Barrio,
    Cuesta-Albertos and Matrán (2018), https://doi.org/10.1007/978-3-319-73848-2_3.

    Raises:
        FoveateError: If there is no score, or one is not a finite number.

    Example:
        >>> violation([2.0, 3.0], [1.0, 2.0]), violation([0.0, 4.0], [1.0, 2.0])
        (0.0, 0.2)
    """
    return float(_violations(finite(scores)[None], finite(others)[None])[0])


def dominance(
    scores: Numbers, others: Numbers, *, confidence: float = CONFIDENCE, resamples: int = 2_000, seed: int = 0
) -> float:
    """The upper bound ``eps_min`` of the violation, from its bootstrap deviation.

    Below 0.5 the first scores are said to be almost stochastically larger. It is a description, not a test: the theory
    behind the bound needs many scores and distributions that differ. Of two equal ones it is below 0.5 more than three
    times as often as its 5 % (``docs/statistics.md``). Nor does it know that runs are paired. So no verdict uses it.

    Source: Dror et al. (2019), section 4, https://doi.org/10.18653/v1/P19-1266.

    Args:
        scores: Of one network, one a seed, more is better.
        others: Of the other.
        confidence: How often the violation is to be below the bound.
        resamples: How many.
        seed: Where their chance begins.

    Raises:
        FoveateError: If there is no score, or one is not a finite number.
        MissingExtraError: If scipy is not installed.

    Example:
        >>> dominance([3.0, 3.1, 3.2, 3.3], [1.0, 1.1, 1.2, 1.3])
        0.0
    """
    first, second = finite(scores), finite(others)
    chance = np.random.default_rng(seed)
    drawn = _violations(
        first[chance.integers(first.size, size=(resamples, first.size))],
        second[chance.integers(second.size, size=(resamples, second.size))],
    )
    # sqrt(nm / (n + m)) is in the paper's deviation and, inverted, in its bound
    bound = violation(first, second) + float(distributions().norm.ppf(confidence)) * float(drawn.std(ddof=1))
    return min(1.0, max(0.0, bound))


def _violations(scores: Floats, others: Floats) -> Floats:
    """Row by row."""
    steps = np.union1d(
        np.arange(scores.shape[1] + 1) / scores.shape[1], np.arange(others.shape[1] + 1) / others.shape[1]
    )
    middles, lengths = (steps[1:] + steps[:-1]) / 2, np.diff(steps)
    differences = _quantiles(scores, middles) - _quantiles(others, middles)
    below = (np.minimum(differences, 0) ** 2) @ lengths
    whole = (differences**2) @ lengths
    return np.divide(below, whole, out=np.full(whole.shape, 0.5), where=whole > 0)


def _quantiles(values: Floats, shares: Floats) -> Floats:
    return np.sort(values, axis=1)[:, (shares * values.shape[1]).astype(int)]
