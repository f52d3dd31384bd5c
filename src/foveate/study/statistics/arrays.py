"""Numbers that were given, as an array that can be computed with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from foveate.errors import FoveateError

Floats: TypeAlias = NDArray[np.float64]
Numbers: TypeAlias = Sequence[float] | Floats


def finite(values: Numbers | Sequence[Sequence[float]], *, dimensions: int = 1) -> Floats:
    """The values in double precision.

    Args:
        values: One a seed; with two dimensions, a row a seed and a column an example.
        dimensions: How many there are to be.

    Raises:
        FoveateError: If there is none, one is not a finite number, or they do not have that shape.

    Example:
        >>> finite([1, 2]).tolist()
        [1.0, 2.0]
    """
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise FoveateError(f"the values are not numbers in rows of equal length: {error}") from error
    if array.ndim != dimensions or not array.size:
        wanted = "one a seed" if dimensions == 1 else "a row a seed and a column an example"
        raise FoveateError(f"the values must be {wanted}, at least one, not of shape {array.shape}")
    if not np.isfinite(array).all():
        raise FoveateError(
            f"{int((~np.isfinite(array)).sum())} of {array.size} values are not finite numbers; leave out, for arm and "
            "baseline alike, the seeds that have no result"
        )
    return array
