"""Matrix products that do not lose what half precision cannot hold."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from jaxtyping import Float
from torch import Tensor
from torch.amp.autocast_mode import is_autocast_available

from foveate.ops.precision import full_precision


def full_matmul(one: Float[Tensor, "... n k"], other: Float[Tensor, "... k m"]) -> Float[Tensor, "... n m"]:
    """The matrix product in at least float32, under autocast too; the result stays in that precision.

    Example:
        >>> full_matmul(torch.ones(1, 2, dtype=torch.bfloat16), torch.ones(2, 1, dtype=torch.bfloat16))
        tensor([[2.]])
    """
    return _full_matmul(one, other)


def _full_matmul(one: Tensor, other: Tensor) -> Tensor:
    device = one.device.type
    with torch.autocast(device, enabled=False) if is_autocast_available(device) else nullcontext():
        one, other = full_precision(one), full_precision(other)
        widest = torch.promote_types(one.dtype, other.dtype)
        return one.to(widest) @ other.to(widest)


torch.fx.wrap("_full_matmul")  # FX cannot follow a branch on a type
