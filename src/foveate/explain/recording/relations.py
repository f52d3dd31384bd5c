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

    The matrix of all pairs is never there. Dense weights are cut; of several heads each is a sample.

    Args:
        relation: The weights.
        like: A tensor whose first axis is the batch, on the device and of the type of what is mixed.

    Example:
        >>> [(first, part.shape) for first, part in by_sources(torch.zeros(2, 9, 9), torch.zeros(2))]
        [(0, torch.Size([2, 9, 9]))]
    """
    if isinstance(relation, Tensor):
        whole = relation.detach().flatten(0, -3)
        some = max(1, MOST_AT_ONCE // (len(whole) * whole.shape[2]))
        for first in range(0, whole.shape[1], some):
            yield first, whole[:, first : first + some]
        return
    count = math.prod(relation.size)
    some = max(1, MOST_AT_ONCE // (len(like) * count))
    for first in range(0, count, some):
        yield first, from_sources(relation, first, min(some, count - first), like)


def from_sources(relation: Relation, first: int, count: int, like: Tensor) -> Float[Tensor, "b some target"]:
    """The weights from some neighbouring sources to all targets.

    The relation is given values that are 1 at one source and 0 elsewhere, so that what it mixes is its weights.

    Example:
        >>> halves = SameForAll(torch.tensor([[0.5], [0.25]]), (1, 2), 1)
        >>> from_sources(halves, 1, 1, torch.zeros(1))
        tensor([[[0.2500, 0.2500]]])
    """
    places = torch.arange(math.prod(relation.size), device=like.device)
    full = torch.promote_types(like.dtype, torch.float32)
    ones = (places == places[first : first + count, None]).to(full)
    if len(relation.size) == 1:  # channels mix, and positions stand beside each other: one for each source
        values = ones.mT[None, :, None].expand(len(like), -1, -1, -1).contiguous()
        return relation.mix(values)[:, :, 0].mT
    values = ones.reshape(1, -1, *relation.size).expand(len(like), -1, -1, -1).contiguous()
    return relation.mix(values).flatten(2)


def to_targets(relation: Relation, share: Float[Tensor, " target"], like: Tensor) -> Float[Tensor, "b source"]:
    """What targets take from every source, summed over them with a share for each.

    Mixing is linear in the values, so its transpose is its gradient with respect to them: one pass there and one back,
    and no matrix that mixing itself does not build.

    Args:
        relation: The weights; of tensors that were not made in inference mode.
        share: How much each target counts: 1 at one and 0 elsewhere is what that target takes.
        like: A tensor whose first axis is the batch, on the device and of the type of what is mixed.

    Example:
        >>> halves = SameForAll(torch.tensor([[0.5], [0.25]]), (1, 2), 1)
        >>> to_targets(halves, torch.tensor([0.0, 1.0]), torch.zeros(1))
        tensor([[0.5000, 0.2500]])
    """
    sides = (*relation.size, 1, 1) if len(relation.size) == 1 else (1, *relation.size)
    with torch.inference_mode(False), torch.enable_grad():
        full = torch.promote_types(like.dtype, torch.float32)
        value = torch.zeros(len(like), *sides, dtype=full, device=like.device, requires_grad=True)
        upstream = share.to(value).reshape(sides).expand_as(value)
        (taken,) = torch.autograd.grad(relation.mix(value), value, upstream.contiguous())
    return taken.flatten(1)


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
