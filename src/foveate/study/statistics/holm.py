"""Several comparisons with one baseline, and one chance in twenty for all of them together."""

from __future__ import annotations

from collections.abc import Mapping


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """P-values adjusted after Holm: those up to ``alpha`` hold together, with an error of ``alpha`` for the family.

    The smallest is multiplied by how many there are, the next by one less, and so on; none gets below the one before.
    It needs nothing about how the comparisons depend on each other, so they may share a baseline.

    Source: Holm (1979), https://www.jstor.org/stable/4615733.

    Args:
        p_values: Of each comparison, by name.

    Example:
        >>> holm({"se": 0.01, "eca": 0.04, "cbam": 0.03})
        {'se': 0.03, 'eca': 0.06, 'cbam': 0.06}
    """
    adjusted: dict[str, float] = {}
    reached = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        reached = max(reached, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = reached
    return {name: adjusted[name] for name in p_values}
