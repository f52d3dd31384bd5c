"""How large a difference is beside its own scatter."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence


def effect_size(differences: Sequence[float]) -> float | None:
    """The mean difference in standard deviations of the differences, ``d_z``, without the bias of few seeds.

    ``J(n - 1) · mean / deviation`` with ``J(f) = Γ(f/2) / (sqrt(f/2) · Γ((f-1)/2))``, which is 0.56 for three seeds,
    0.89 for eight and 0.96 for twenty. It says how surely another seed shows the same, not how much the difference
    matters: that stands in the metric's own units.

    Source: Hedges (1981), https://doi.org/10.3102/10769986006002107; Lakens (2013),
    https://doi.org/10.3389/fpsyg.2013.00863.

    Returns:
        The effect; ``None`` of fewer than three differences or of ones that do not scatter.

    Example:
        >>> round(effect_size([1.0, 2.0, 3.0]), 3)
        1.128
    """
    freedom = len(differences) - 1
    if freedom < 2:
        return None
    deviation = scatter(differences)
    if deviation is None:
        return None
    correction = math.exp(math.lgamma(freedom / 2) - math.lgamma((freedom - 1) / 2)) / math.sqrt(freedom / 2)
    return correction * statistics.fmean(differences) / deviation


def scatter(differences: Sequence[float]) -> float | None:
    """Their standard deviation; ``None`` of fewer than two, or where they are all equal but for rounding.

    Example:
        >>> scatter([1.0, 2.0, 3.0])
        1.0
        >>> scatter([0.3, 0.1 + 0.2]) is None
        True
    """
    if len(differences) < 2:
        return None
    deviation = statistics.stdev(differences)
    # scores up to 1 are rounded by 1e-16 before they are subtracted, and differences by 1e-16 of themselves
    return deviation if deviation > 1e-12 * max(map(abs, differences)) else None
