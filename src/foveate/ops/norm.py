"""Batch normalisation that survives a batch with one value per channel."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class BatchNorm2d(nn.BatchNorm2d):
    """PyTorch's batch normalisation, except where a training batch holds one value per channel.

    One value has no variance, and PyTorch raises. This happens to attention whenever it pools a map to one position
    and the last batch of an epoch has one sample. Such a batch is normalised with the running statistics, and leaves
    them as they are.

    Example:
        >>> import torch
        >>> BatchNorm2d(3).train()(torch.ones(1, 3, 1, 1)).shape
        torch.Size([1, 3, 1, 1])
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (the parameter's name in PyTorch)
        """Normalise."""
        if self.training and input.shape[0] * input.shape[2] * input.shape[3] == 1:
            return F.batch_norm(
                input,
                self.running_mean,
                self.running_var,
                self.weight,
                self.bias,
                training=False,
                eps=self.eps,
            )
        return super().forward(input)
