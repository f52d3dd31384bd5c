"""How alike two maps of one image are."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from foveate.errors import FoveateError, MissingExtraError


def rank_correlation(one: Float[Tensor, "h w"], other: Float[Tensor, "h w"]) -> float | None:
    """Spearman's correlation of two maps; ``None`` where one of them is the same everywhere, and has no ranks.

    Raises:
        FoveateError: If the two have different shapes.
        MissingExtraError: If scipy is not installed.

    Example:
        >>> import torch
        >>> rank_correlation(torch.tensor([[1.0, 2.0, 9.0]]), torch.tensor([[3.0, 4.0, 5.0]]))
        1.0
    """
    _check(one, other)
    if _level(one) or _level(other):
        return None
    try:
        from scipy.stats import spearmanr
    except ImportError as error:
        raise MissingExtraError("scipy", "explain") from error
    found: Any = spearmanr(one.flatten().numpy(), other.flatten().numpy())
    return round(float(found.statistic), 12)


def structural_similarity(one: Float[Tensor, "h w"], other: Float[Tensor, "h w"]) -> float | None:
    """The structural similarity (SSIM) of two maps, each stretched to 0 to 1; ``None`` where one is even.

    Of Gaussian windows of deviation 1.5, as Wang et al. (2004) have it, or less on maps below 11 positions a side.

    Raises:
        FoveateError: If the two have different shapes.
        MissingExtraError: If torchmetrics is not installed.

    Example:
        >>> import torch
        >>> ramp = torch.arange(256.0).reshape(16, 16)
        >>> structural_similarity(ramp, 2 * ramp + 1)
        1.0
    """
    _check(one, other)
    if _level(one) or _level(other):
        return None
    try:
        from torchmetrics.functional.image import structural_similarity_index_measure as ssim
    except ImportError as error:
        raise MissingExtraError("torchmetrics", "explain") from error
    first, second = (_stretched(heat)[None, None] for heat in (one, other))
    deviation = 1.5 * min(1.0, (min(one.shape) - 1) / 11)
    found = ssim(first, second, data_range=1.0, sigma=max(deviation, 0.1))
    assert isinstance(found, Tensor)  # noqa: S101 (a pair only where more is asked for)
    return round(float(found), 6)


def _stretched(heat: Tensor) -> Tensor:
    heat = heat.double()
    return (heat - heat.min()) / (heat.max() - heat.min())


def _level(heat: Tensor) -> bool:
    return bool((heat == heat.flatten()[0]).all())


def _check(one: Tensor, other: Tensor) -> None:
    if one.shape != other.shape or one.ndim != 2:
        raise FoveateError(f"maps of {tuple(one.shape)} and {tuple(other.shape)} cannot be compared")
