"""Maxima along an axis whose gradient goes to the first of several equal ones, quickly in either layout of a map."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from foveate.ops.graph import eager


def first_max(x: Float[Tensor, "*axes"], dim: int) -> Float[Tensor, "*left"]:
    """The maximum along an axis; where several are equal, the first one gets the gradient.

    PyTorch's `max` along an axis says which element it took, by a loop that no processor runs quickly; `amax` does
    not say, and shares the gradient between equal ones. Without gradients this is `amax`. With them the axis is cut
    into blocks, and the element looked for in one block only; or, where elements of the axis do not lie side by side,
    it is a pooling in channels_last memory, which keeps its indices in vectors.

    Args:
        x: The map.
        dim: The axis that goes.

    Example:
        >>> x = torch.tensor([[1.0, 3.0, 3.0]], requires_grad=True)
        >>> first_max(x, 1).sum().backward()
        >>> x.grad
        tensor([[0., 1., 0.]])
    """
    return _first_max(x, dim)


def _first_max(x: Tensor, dim: int) -> Tensor:
    if not eager(x):
        return x.max(dim).values
    if not (torch.is_grad_enabled() and x.requires_grad):
        return x.amax(dim)
    index = first_argmax(x.detach(), dim)
    return x.gather(dim, index).squeeze(dim)


def first_argmax(x: Tensor, dim: int) -> Tensor:
    """Where along an axis the first maximum is; the axis stays, of length one. Only for :func:`eager` tensors.

    Example:
        >>> first_argmax(torch.tensor([[1.0, 3.0, 3.0]]), 1)
        tensor([[1]])
    """
    x = x.movedim(dim, -1)
    if x.is_contiguous():
        index = _by_blocks(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], 1)
    else:
        index = _by_pooling(x) if _columns(x) else x.argmax(-1, keepdim=True)
    return index.movedim(-1, dim)


def _columns(x: Tensor) -> bool:
    """Whether, within a sample, the axes before the last lie side by side: the last one counts rows of them."""
    return x.ndim > 2 and x[0].movedim(-1, 0).is_contiguous()


def _by_pooling(x: Tensor) -> Tensor:
    samples, length = x.shape[0], x.shape[-1]
    # rows become pixels of a column, and what lies side by side its channels, in channels_last memory
    pixels = x.movedim(-1, 1).reshape(samples, length, 1, -1).permute(0, 3, 1, 2)
    index = F.max_pool2d(pixels, (length, 1), return_indices=True)[1]
    return index.reshape(*x.shape[:-1], 1)


def _by_blocks(x: Tensor) -> Tensor:
    rows, length = x.shape
    sizes = [size for size in range(32, 129) if length % size == 0] if length >= 256 else []
    if not sizes:
        return x.argmax(-1)
    block = min(sizes, key=lambda size: (size % 16 != 0, abs(size - 64)))
    blocks = x.view(rows, length // block, block)
    which = blocks.amax(-1).argmax(-1)
    first = torch.arange(0, rows * (length // block), length // block)
    inside = x.view(-1, block).index_select(0, first + which)
    return which * block + inside.argmax(-1)


torch.fx.wrap("_first_max")  # FX cannot follow a branch on a layout
