"""Relations between pairs, a few sources at a time, and constant ones that stand in their place."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from foveate.attention import Relation
from foveate.ops.matmul import full_matmul

# of the values that are mixed at once: 16 MB of them
MOST_AT_ONCE = 2**22


def by_sources(relation: Relation | Tensor, like: Tensor) -> Iterator[tuple[int, Float[Tensor, "b some target"]]]:
    """The weights from a few sources at a time to all targets, with the number of the first.

    A relation is given values that are 1 at one source and 0 elsewhere, so that what it mixes is its weights; the
    matrix of all pairs is never there. Dense weights are cut; of several heads each is a sample.

    Args:
        relation: The weights.
        like: A tensor whose first axis is the batch, on the device and of the type of what is mixed.

    Example:
        >>> [(first, part.shape) for first, part in by_sources(torch.zeros(2, 9, 9), torch.zeros(2))]
        [(0, torch.Size([2, 9, 9]))]
    """
    if isinstance(relation, Tensor):
        whole = relation.flatten(0, -3)
        some = max(1, MOST_AT_ONCE // (len(whole) * whole.shape[2]))
        for first in range(0, whole.shape[1], some):
            yield first, whole[:, first : first + some]
        return
    count, batch = math.prod(relation.size), len(like)
    full = torch.promote_types(like.dtype, torch.float32)
    some = max(1, MOST_AT_ONCE // (batch * count))
    for first in range(0, count, some):
        ones = torch.eye(count, device=like.device, dtype=full)[first : first + some]
        if len(relation.size) == 1:  # channels mix, and positions stand beside each other: one for each source
            values = ones.mT[None, :, None].expand(batch, -1, -1, -1).contiguous()
            yield first, relation.mix(values)[:, :, 0].mT
        else:
            values = ones.reshape(1, -1, *relation.size).expand(batch, -1, -1, -1).contiguous()
            yield first, relation.mix(values).flatten(2)


@dataclass(frozen=True)
class SameForAll:
    """The same weights in every sample.

    Attributes:
        weights: From sources to targets; with one target, the same for all.
        size: Height and width of the positions, or the number of channels.
        batch: How many samples.
    """

    weights: Float[Tensor, "source target"]
    size: tuple[int, ...]
    batch: int

    def mix(self, value: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
        """Sum the values of all sources at every target, in at least float32.

        Example:
            >>> SameForAll(torch.tensor([[0.5], [0.5]]), (1, 2), 1).mix(torch.tensor([[[[1.0, 3.0]]]]))
            tensor([[[[2., 2.]]]])
        """
        weights = self.weights.to(value.device, torch.promote_types(value.dtype, torch.float32))
        if len(self.size) == 1:
            mixed = full_matmul(weights.mT, value.flatten(2))
        else:
            mixed = full_matmul(value.flatten(2), weights)
        return mixed.to(value.dtype).expand(-1, value.shape[1], value[0, 0].numel()).reshape(value.shape)

    def dense(self) -> Float[Tensor, "b source target"]:
        """The weights as one matrix a sample."""
        return self.weights.expand(self.batch, -1, math.prod(self.size))
