"""How many bytes the operations of a forward pass read and write."""

from __future__ import annotations

from torch import Tensor, nn

from foveate.measure.record import operations


def count_bytes(module: nn.Module, *inputs: Tensor) -> int:
    """The bytes that the operations of one eager forward pass in evaluation mode read and write.

    Every operation reads its input tensors and writes its output tensors once, in full; a view moves nothing,
    and what is broadcast is read once. So this is the traffic of the algorithm as eager PyTorch runs it,
    not of a machine: a cache makes it less, and the workspace inside one operation (the unfolded input of a
    convolution, say) makes it more. Count before ``torch.compile``, whose fused kernels it cannot see into.

    Args:
        module: The network. It comes back with the training flags that it had.
        *inputs: What ``forward`` takes. On the ``meta`` device, network and inputs, nothing is computed; each
            batch normalisation then counts two vectors more, because PyTorch gives it two outputs more there.

    Example:
        >>> import torch
        >>> count_bytes(nn.ReLU(), torch.zeros(2, 3, 4, 4)) == 2 * (2 * 3 * 4 * 4) * 4  # read and written
        True
    """
    return sum(one.bytes for one in operations(module, *inputs))
