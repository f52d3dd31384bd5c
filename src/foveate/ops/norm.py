"""Batch normalisation that survives a batch with one value per channel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BatchNorm2d(nn.BatchNorm2d):
    """PyTorch's batch normalisation, except where a training batch holds one value per channel.

    One value has no variance, and PyTorch raises. This happens to attention whenever it pools a map to one position
    and the last batch of an epoch has one sample. Such a batch is normalised with the running statistics, and leaves
    them as they are.

    Example:
        >>> BatchNorm2d(3).train()(torch.ones(1, 3, 1, 1)).shape
        torch.Size([1, 3, 1, 1])
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (the parameter's name in PyTorch)
        """Normalise."""
        statistics = self.running_mean, self.running_var, self.num_batches_tracked
        return normalise(input, *statistics, self.weight, self.bias, self.training, self.momentum, self.eps)


class BatchNorm1d(nn.BatchNorm1d):
    """The same for signals."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (the parameter's name in PyTorch)
        """Normalise."""
        statistics = self.running_mean, self.running_var, self.num_batches_tracked
        return normalise(input, *statistics, self.weight, self.bias, self.training, self.momentum, self.eps)


class BatchNorm3d(nn.BatchNorm3d):
    """The same for volumes."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (the parameter's name in PyTorch)
        """Normalise."""
        statistics = self.running_mean, self.running_var, self.num_batches_tracked
        return normalise(input, *statistics, self.weight, self.bias, self.training, self.momentum, self.eps)


def normalise(
    x: Tensor,
    mean: Tensor | None,
    variance: Tensor | None,
    batches: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    training: bool,
    momentum: float | None,
    eps: float,
) -> Tensor:
    """Normalise a batch, and in training move the running statistics, unless it holds one value per channel.

    A function of its own because FX traces into the forward pass of every module that is not PyTorch's, and cannot
    see through a branch on a shape.
    """
    if training and x.numel() == x.shape[1]:
        training = False
    elif training and batches is not None:
        batches.add_(1)
        if momentum is None:  # a plain average over all batches
            momentum = 1.0 / float(batches)
    return F.batch_norm(x, mean, variance, weight, bias, training, momentum or 0.0, eps)


torch.fx.wrap("normalise")
