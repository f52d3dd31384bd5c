"""Scores of imaginary studies in which nothing is better than anything: a baseline and arms that share it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

IMAGES = 500

# Baseline and arms are exchangeable within a seed, so the differences are symmetric, whatever the scores are like.
EXCHANGEABLE = {
    "normal": "normal scores",
    "skewed": "exponentially distributed scores",
    "heavy-tailed": "scores of Student's t with 3 degrees of freedom",
    "heteroscedastic": "normal scores whose deviation is another one for each seed (log-normal)",
    "discrete": f"accuracies on {IMAGES} images, near 80 % and other for each seed; equal ones are frequent",
    "diverging": "normal scores, of which one in twenty loses ten deviations, in the baseline as in the arms",
}
# Equal means, but other shapes: the promise does not reach so far.
UNEQUAL = {
    "asymmetric": "normal scores of the baseline, and arms of equal mean that are skewed and scatter ten times more"
}


def scores(kind: str, chance: np.random.Generator, arms: int, seeds: int) -> NDArray[np.float64]:
    """The baseline's in the first row and the arms' in the others, a column a seed, deviation about 1."""
    shape = (arms + 1, seeds)
    if kind == "normal":
        return chance.standard_normal(shape)
    if kind == "skewed":
        return chance.exponential(size=shape)
    if kind == "heavy-tailed":
        return chance.standard_t(3, shape)
    if kind == "heteroscedastic":
        return chance.standard_normal(shape) * chance.lognormal(size=seeds)
    if kind == "discrete":
        right = np.clip(0.8 + 0.02 * chance.standard_normal(seeds), 0, 1)
        return chance.binomial(IMAGES, right, shape) / IMAGES
    if kind == "diverging":
        return chance.standard_normal(shape) - 10.0 * (chance.random(shape) < 0.05)
    if kind == "asymmetric":
        found = chance.exponential(size=shape) - 1
        found[0] = 0.1 * chance.standard_normal(seeds)
        return found
    raise ValueError(kind)


def differences(kind: str, chance: np.random.Generator, arms: int, seeds: int) -> NDArray[np.float64]:
    """Arm minus baseline, a row an arm."""
    found = scores(kind, chance, arms, seeds)
    return found[1:] - found[0]
