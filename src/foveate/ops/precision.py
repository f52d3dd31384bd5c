"""At least float32, for arithmetic that leaves the range of half precision."""

from __future__ import annotations

import torch
from torch import Tensor


def full_precision(x: Tensor) -> Tensor:
    """The tensor itself, or float32 in place of float16 and bfloat16.

    Example:
        >>> full_precision(torch.zeros(1, dtype=torch.bfloat16)).dtype
        torch.float32
    """
    return _full_precision(x)


def _full_precision(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


torch.fx.wrap("_full_precision")  # FX cannot follow a branch on a type
