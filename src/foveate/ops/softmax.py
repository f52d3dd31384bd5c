"""Softmax that does not lose what half precision cannot hold."""

from __future__ import annotations

import torch
from torch import Tensor


def full_softmax(logits: Tensor, dim: int) -> Tensor:
    """Softmax in at least float32, whatever the logits' type; the result stays in that precision.

    Example:
        >>> full_softmax(torch.zeros(2, dtype=torch.bfloat16), 0)
        tensor([0.5000, 0.5000])
    """
    return _full_softmax(logits, dim)


def _full_softmax(logits: Tensor, dim: int) -> Tensor:
    half = logits.dtype in (torch.float16, torch.bfloat16)
    return torch.softmax(logits, dim, dtype=torch.float32 if half else None)


torch.fx.wrap("_full_softmax")  # FX cannot follow a branch on a type
