"""Matrix products that do not lose what half precision cannot hold."""

from __future__ import annotations

from contextlib import nullcontext

import torch
import torch.nn.functional as F
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


def full_project(x: Float[Tensor, "b k h w"], rows: Float[Tensor, "n k"]) -> Float[Tensor, "b n h w"]:
    """The product of a matrix with every position's channels, in at least float32: a 1×1 convolution.

    The same as a matrix product with the flattened map, which PyTorch would run once for each sample.

    Example:
        >>> full_project(torch.ones(1, 2, 1, 1, dtype=torch.bfloat16), torch.tensor([[1.0, 2.0]])).item()
        3.0
    """
    return _full_project(x, rows)


def _full_project(x: Tensor, rows: Tensor) -> Tensor:
    device = x.device.type
    with torch.autocast(device, enabled=False) if is_autocast_available(device) else nullcontext():
        x, rows = full_precision(x), full_precision(rows)
        widest = torch.promote_types(x.dtype, rows.dtype)
        return F.conv2d(x.to(widest), rows.to(widest)[:, :, None, None])


def _full_matmul(one: Tensor, other: Tensor) -> Tensor:
    device = one.device.type
    with torch.autocast(device, enabled=False) if is_autocast_available(device) else nullcontext():
        one, other = full_precision(one), full_precision(other)
        widest = torch.promote_types(one.dtype, other.dtype)
        return one.to(widest) @ other.to(widest)


torch.fx.wrap("_full_project")
torch.fx.wrap("_full_matmul")  # FX cannot follow a branch on a type
