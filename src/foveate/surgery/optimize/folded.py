"""A convolution's weights with a norm in them, and how to know that they still are what they were made from."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]
from torch.nn.modules.conv import _ConvNd  # pyright: ignore[reportPrivateUsage]

Tensors = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None, Tensor | None, Tensor | None]
Given = tuple[Tensor, Tensor | None, Tensor | None, Tensor | None, Tensor, Tensor]  # with all that is needed

# numbers of each tensor that are compared at every pass: they lie far apart in memory, and all would cost a percent
_PROBED = 32


def numbers(conv: _ConvNd, norm: _BatchNorm) -> Tensors:
    """What both compute with: weight and bias, weight and bias, mean and variance; ``None`` for what is not there."""
    own, its, kept = vars(conv)["_parameters"], vars(norm)["_parameters"], vars(norm)["_buffers"]
    return (
        own.get("weight"),
        own.get("bias"),
        its.get("weight"),
        its.get("bias"),
        kept.get("running_mean"),
        kept.get("running_var"),
    )


class Folded:
    """A convolution's weights with a norm in them.

    Attributes:
        weight: The weights.
        bias: The bias.
    """

    def __init__(self, tensors: Given, eps: float) -> None:
        own = tensors[0]
        _, bias, scale, shift, mean, variance = tensors
        with torch.no_grad():
            factor = torch.rsqrt(variance.double() + eps) * (1 if scale is None else scale)
            offset = (0 if bias is None else bias) - mean.double()
            self.weight = torch.empty_like(own).copy_(own * factor.reshape(-1, *[1] * (own.ndim - 1)))
            self.bias = (factor * offset + (0 if shift is None else shift)).to(own.dtype)
        self._eps = eps
        # with an alias of each, so that no other can come to lie where it lies
        self._made_from = [(one, None, 0) if one is None else (one, one.detach(), one._version) for one in tensors]
        self._probes = [_probe(one.detach()) for one in tensors if one is not None]
        self._probed = torch.cat(self._probes)

    def holds(self, tensors: Tensors, eps: float) -> bool:
        """Whether it was made from these, and they have not changed.

        Every change in place that PyTorch counts is seen, and every tensor put in another's place. What is written past
        the counter, through ``.data``, is seen by a sample: it finds other weights, not the change of a single filter.
        """
        if eps != self._eps:
            return False
        for one, (known, alias, count) in zip(tensors, self._made_from, strict=True):
            if one is not known:
                return False
            if one is not None and alias is not None and (one._version != count or not one.is_set_to(alias)):
                return False
        return torch.equal(torch.cat(self._probes), self._probed)


def _probe(tensor: Tensor) -> Tensor:
    """A few of its numbers: the first of rows that lie evenly."""
    step = -(-tensor.shape[0] // _PROBED)
    return tensor.as_strided((-(-tensor.shape[0] // step),), (tensor.stride(0) * step,), tensor.storage_offset())
