"""Softmax that does not lose what half precision cannot hold."""

from __future__ import annotations

import torch
from torch import Tensor

from foveate.ops.precision import full_precision


def full_softmax(logits: Tensor, dim: int) -> Tensor:
    """Softmax in at least float32, whatever the logits' type; the result stays in that precision.

    Example:
        >>> full_softmax(torch.zeros(2, dtype=torch.bfloat16), 0)
        tensor([0.5000, 0.5000])
    """
    return torch.softmax(full_precision(logits), dim)
