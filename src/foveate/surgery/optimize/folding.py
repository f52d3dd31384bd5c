"""Batch normalisation within the convolution before it, where both are run for inference.

The parameters stay where they are. The convolution returns a map that waits; the norm, if it is the next to see it,
runs the convolution with weights that have the norm in them. Anybody else gets what the convolution always returned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.modules import module as global_hooks
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]
from torch.nn.modules.conv import _ConvNd  # pyright: ignore[reportPrivateUsage]

from foveate.ops.pending import Pending, can_wait, enough
from foveate.surgery.optimize.folded import Folded, Given, Tensors, numbers

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_ANYWHERE = vars(global_hooks)  # hooks on all modules
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def foldable(conv: nn.Module, norm: nn.Module) -> bool:
    """Whether both do what PyTorch's own do, and nobody has put something else in the place of their forward pass."""
    convolves = any(
        type(conv).forward is kind.forward and type(conv)._conv_forward is kind._conv_forward  # type: ignore[attr-defined]
        for kind in _CONVOLUTIONS
        if isinstance(conv, kind)
    )
    normalises = any(type(norm).forward is kind.forward for kind in _NORMS if isinstance(norm, kind))
    own = {"forward", "_conv_forward"} & {*vars(conv), *vars(norm)}
    return bool(convolves and normalises and not own and conv.out_channels == norm.num_features)


class Convolved(Pending):
    """What a convolution makes of a map, which waits for a norm that knows the convolution.

    Attributes:
        conv: The convolution.
    """

    conv: _ConvNd

    def __init__(self, x: Tensor, conv: _ConvNd) -> None:
        self._wait(x)
        self.conv = conv

    def _compute(self, *sources: Tensor) -> Tensor:
        return type(self.conv).forward(self.conv, *sources)  # type: ignore[attr-defined]


@dataclass
class Convolve:
    """A convolution's forward pass: for inference its output waits."""

    conv: _ConvNd

    def __call__(self, input: Tensor) -> Tensor:  # noqa: A002 (the parameter's name in PyTorch)
        """Convolve, or promise to."""
        conv = self.conv
        weight = vars(conv)["_parameters"].get("weight")
        if (
            conv.training
            or weight is None
            or not can_wait(input)
            or input.dtype != weight.dtype
            or input.ndim != weight.ndim
            or torch.is_autocast_enabled("cpu")
            or not enough(_returned(conv, input))
            or _heard(conv)
        ):
            return type(conv).forward(conv, input)  # type: ignore[attr-defined]
        return Convolved(input, conv)


def _returned(conv: _ConvNd, x: Tensor) -> int:
    """About how many numbers a convolution makes of a map."""
    return x.numel() // x.shape[1] * conv.out_channels // math.prod(conv.stride)


@dataclass
class Normalise:
    """A norm's forward pass: what its convolution promised is made with folded weights."""

    norm: _BatchNorm
    conv: _ConvNd
    folded: Folded | None = field(default=None, repr=False, compare=False)

    def __call__(self, input: Tensor) -> Tensor:  # noqa: A002 (the parameter's name in PyTorch)
        """Normalise, or convolve with what was normalised before."""
        norm, conv = self.norm, self.conv
        inference = not (norm.training or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"))
        if inference and isinstance(input, Convolved) and input.conv is conv and input.waiting and not _heard(norm):
            folded = self._fold()
            if folded is not None:
                return conv._conv_forward(*input.sources(), folded.weight, folded.bias)  # type: ignore[operator]
        elif norm.training or torch.is_grad_enabled():
            self.folded = None  # it is trained: there will be others, and these take memory
        return type(norm).forward(norm, input)  # type: ignore[attr-defined]

    def _fold(self) -> Folded | None:
        tensors = numbers(self.conv, self.norm)
        if self.folded is None or not self.folded.holds(tensors, self.norm.eps):
            self.folded = Folded(tensors, self.norm.eps) if _can_fold(tensors, self.norm) else None
        return self.folded

    def __getstate__(self) -> dict[str, Any]:
        return {"norm": self.norm, "conv": self.conv, "folded": None}


def _can_fold(tensors: Tensors, norm: _BatchNorm) -> TypeGuard[Given]:
    """Whether all numbers are there, as tensors whose changes are counted."""
    weight, _, scale, shift, mean, variance = tensors
    there = weight is not None and mean is not None and variance is not None
    affine = (scale is not None and shift is not None) if norm.affine else (scale is None and shift is None)
    given = [one for one in tensors if one is not None]
    return there and affine and can_wait(*given) and not any(one.is_inference() for one in given)


def _heard(module: nn.Module) -> bool:
    """Whether somebody is told what a module is given or returns."""
    own = vars(module)
    if own["_forward_hooks"] or own["_forward_pre_hooks"]:
        return True
    return bool(_ANYWHERE["_global_forward_hooks"] or _ANYWHERE["_global_forward_pre_hooks"])


def fold(conv: nn.Module, norm: nn.Module) -> None:
    """Let a norm run within a convolution; :func:`unfold` is the way back."""
    vars(conv)["forward"] = Convolve(conv)  # type: ignore[arg-type]
    vars(norm)["forward"] = Normalise(norm, conv)  # type: ignore[arg-type]


def unfold(module: nn.Module) -> None:
    """Give a convolution or a norm its own forward pass back."""
    if isinstance(vars(module).get("forward"), Convolve | Normalise):
        del vars(module)["forward"]
