"""Memory formats: a result laid out in memory as the map that it was made from."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def laid_like(y: Float[Tensor, "b k p q"], x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k p q"]:
    """The same values in the map's memory format, rows one after another or channels_last; a graph holds neither.

    Operations that lay channels of samples, groups or heads beside one another undo channels_last, and the layers
    behind them would take the slower way.

    Args:
        y: What was made of the map.
        x: The map. One whose memory is in neither format leaves the result as it is.

    Example:
        >>> x = torch.zeros(1, 2, 3, 3).to(memory_format=torch.channels_last)
        >>> laid_like(torch.zeros(1, 4, 2, 2), x).is_contiguous(memory_format=torch.channels_last)
        True
    """
    return _laid_like(y, x)


def _laid_like(y: Tensor, x: Tensor) -> Tensor:
    if not torch.compiler.is_compiling():
        for layout in (torch.contiguous_format, torch.channels_last):
            if x.is_contiguous(memory_format=layout):
                return y.contiguous(memory_format=layout)
    return y


torch.fx.wrap("_laid_like")  # FX cannot follow a branch on a memory format
