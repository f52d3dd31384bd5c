"""Means and variances of a map over a data set, of which only the map's own size is kept."""

from __future__ import annotations

import torch
from torch import Tensor

from foveate.errors import FoveateError


class Moments:
    """The mean and the variance over inputs of every element, gone through batch by batch (Chan et al., 1979).

    Example:
        >>> seen = Moments()
        >>> seen.add(torch.tensor([[1.0], [2.0]]))
        >>> seen.add(torch.tensor([[3.0]]))
        >>> seen.mean, seen.variance
        (tensor([2.], dtype=torch.float64), tensor([0.6667], dtype=torch.float64))
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = torch.zeros((), dtype=torch.float64)
        self._squares = torch.zeros((), dtype=torch.float64)

    @property
    def variance(self) -> Tensor:
        """Over inputs, of every element."""
        return self._squares / max(self.count, 1)

    def add(self, values: Tensor) -> None:
        """Go on by a batch; one of no inputs changes nothing.

        Raises:
            FoveateError: If its elements are not those of the batches before.
        """
        if len(values) == 0:
            return
        values = values.detach().cpu().double()
        if self.count and values.shape[1:] != self.mean.shape:
            raise FoveateError(
                f"a map of {tuple(values.shape[1:])} follows one of {tuple(self.mean.shape)}: its mean over the data "
                "needs images of one size"
            )
        mean, squares, count = values.mean(0), values.var(0, correction=0) * len(values), len(values)
        total, apart = self.count + count, mean - self.mean
        self._squares = self._squares + squares + apart**2 * (self.count * count / total)
        self.mean = self.mean + apart * (count / total)
        self.count = total
