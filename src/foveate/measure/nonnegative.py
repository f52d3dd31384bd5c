"""Least squares with few unknowns that cannot be below zero: costs are not."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch

_TURNS = 4


def shares(features: Sequence[Sequence[float]], totals: Sequence[float]) -> tuple[float, ...]:
    """The factors, none below zero, whose sums over the features come closest to the totals.

    A total that is half of what it should be is as far off as one that is twice of it: deviations are divided by the
    geometric mean of the total and what the factors make of it, which takes a few turns.

    Args:
        features: A row for each total.
        totals: Above zero.

    Example:
        >>> shares([[1, 10], [1, 20], [1, 40]], [12, 22, 42])
        (2.0, 1.0)
    """
    rows = torch.tensor(features, dtype=torch.float64)
    wanted = torch.tensor(totals, dtype=torch.float64)
    found, expected = torch.zeros(rows.shape[1], dtype=torch.float64), wanted
    for _ in range(_TURNS):
        weights = 1 / (wanted * expected).sqrt()
        found = _solved(rows * weights[:, None], wanted * weights)
        expected = (rows @ found).clamp(min=wanted / 100)
    return tuple(float(f"{value:.9g}") for value in found.tolist())


def _solved(rows: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Every set of features is tried with the others left out; of a handful that is quick, and finds the best."""
    scale = rows.abs().amax(0)
    there = [place for place, size in enumerate(scale.tolist()) if size > 0]
    best, found = float("inf"), torch.zeros_like(scale)
    for count in range(1, len(there) + 1):
        for chosen in map(list, combinations(there, count)):
            part = rows[:, chosen] / scale[chosen]
            factors = torch.linalg.lstsq(part, wanted[:, None], driver="gelsd").solution[:, 0]
            left = float((part @ factors - wanted).square().sum())
            if bool((factors >= 0).all()) and left < best - 1e-12:
                best, found = left, torch.zeros_like(scale).index_put((torch.tensor(chosen),), factors / scale[chosen])
    return found
