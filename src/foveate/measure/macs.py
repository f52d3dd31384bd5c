"""How many multiply-accumulates a forward pass takes."""

from __future__ import annotations

from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from foveate.measure.inference import inference


def count_macs(module: nn.Module, *inputs: Tensor) -> int:
    """The multiply-accumulates of one forward pass in evaluation mode: convolutions and matrix products.

    PyTorch's counter gives floating-point operations by formula from the shapes, two for each
    multiply-accumulate; this is half of them. It does *not* count normalisation, activations, pooling,
    resizing, softmax, additions, the multiplication by a gate, or matrix-vector and dot products: these
    take time in proportion to the bytes they move, which :func:`~foveate.measure.count_bytes` counts.

    Args:
        module: The network. It comes back with the training flags that it had.
        *inputs: What ``forward`` takes. On the ``meta`` device, network and inputs, nothing is computed.

    Example:
        >>> import torch
        >>> conv = nn.Conv2d(3, 8, 3, padding=1, device="meta")
        >>> count_macs(conv, torch.empty(1, 3, 10, 10, device="meta")) == 3 * 8 * 3 * 3 * 10 * 10
        True
    """
    with inference(module), FlopCounterMode(display=False) as counter:
        module(*inputs)
    return counter.get_total_flops() // 2
