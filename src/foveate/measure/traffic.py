"""How many bytes the operations of a forward pass read and write."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from foveate.measure.inference import inference

# besides the views: memory that is taken but not written, and a view whose schema does not say so
_MOVES_NOTHING = {
    torch.ops.aten.empty,
    torch.ops.aten.empty_like,
    torch.ops.aten.empty_strided,
    torch.ops.aten.new_empty,
    torch.ops.aten.new_empty_strided,
    torch.ops.aten._unsafe_view,
}


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
    with inference(module), _Traffic() as traffic:
        module(*inputs)
    return traffic.moved


class _Traffic(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.moved = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        with self:  # tensors made in inference mode arrive here before composite operations are taken apart
            result = func.decompose(*args, **kwargs)
        if result is not NotImplemented:
            return result
        result = func(*args, **kwargs)
        if not func.is_view and func.overloadpacket not in _MOVES_NOTHING:
            self.moved += _bytes(tree_leaves((args, kwargs))) + _bytes(tree_leaves(result))
        return result


def _bytes(leaves: Iterable[Any]) -> int:
    tensors = {id(leaf): leaf for leaf in leaves if isinstance(leaf, Tensor)}
    return sum(_memory_of(tensor) for tensor in tensors.values())


def _memory_of(tensor: Tensor) -> int:
    """The bytes behind a tensor; an axis of stride zero repeats what is there already."""
    axes = zip(tensor.shape, tensor.stride(), strict=True)
    return math.prod(size for size, stride in axes if stride != 0 or size == 0) * tensor.element_size()
