"""How the channels of a map vary together over its positions."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from jaxtyping import Float
from torch import Tensor
from torch.amp.autocast_mode import is_autocast_available

from foveate.ops.precision import full_precision


def covariance(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c c"]:
    """The covariance of every two channels over positions, divided by their number; at least float32, under autocast.

    Example:
        >>> covariance(torch.tensor([[[[1.0, 3.0]], [[2.0, 0.0]]]]))
        tensor([[[ 1., -1.],
                 [-1.,  1.]]])
    """
    return _covariance(x)


def _covariance(x: Tensor) -> Tensor:
    device = x.device.type
    with torch.autocast(device, enabled=False) if is_autocast_available(device) else nullcontext():
        distances = full_precision(x).flatten(2)
        distances = distances - distances.mean(2, keepdim=True)
        return distances @ distances.transpose(1, 2) / distances.shape[2]


torch.fx.wrap("_covariance")  # FX cannot follow a branch on a type
