"""Weights between positions, or channels, that answer about one of them without the matrix of all pairs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from foveate.attention import Relation
from foveate.explain.recording.relations import MOST_AT_ONCE, from_sources, to_targets


class Pairs(Protocol):
    """Weights from sources to targets, as many of one as of the other; with heads they have an axis before these."""

    def to_target(self, target: int) -> Float[Tensor, "b *head source"]:
        """What one target takes from every source."""
        ...

    def from_source(self, source: int) -> Float[Tensor, "b *head target"]:
        """What every target takes from one source."""
        ...

    def received(self) -> Float[Tensor, "b *head source"]:
        """What all targets take from every source, on average."""
        ...

    def dense(self) -> Float[Tensor, "b *head source target"]:
        """All of them."""
        ...


@dataclass(frozen=True)
class Matrix:
    """Weights that are there already."""

    weights: Float[Tensor, "b *head source target"]

    def to_target(self, target: int) -> Tensor:
        """A column."""
        return self.weights[..., target]

    def from_source(self, source: int) -> Tensor:
        """A row."""
        return self.weights[..., source, :]

    def received(self) -> Tensor:
        """The mean of each row."""
        return self.weights.mean(-1)

    def dense(self) -> Tensor:
        """The weights."""
        return self.weights


@dataclass(frozen=True)
class Factors:
    """A relation, from which weights are computed when they are asked for.

    Attributes:
        relation: With tensors of its own, on the CPU.
        like: Without elements: the batch, and the type of the values that the relation mixes.
    """

    relation: Relation
    like: Float[Tensor, "b 0"]

    @property
    def positions(self) -> int:
        """How many sources there are, and targets."""
        return math.prod(self.relation.size)

    def to_target(self, target: int) -> Tensor:
        """A share of one for this target, mixed back."""
        share = torch.zeros(self.positions)
        share[target] = 1
        return to_targets(self.relation, share, self.like).float()

    def from_source(self, source: int) -> Tensor:
        """A value of one at this source, mixed."""
        return self.some(source, 1)[:, 0]

    def some(self, first: int, count: int) -> Float[Tensor, "b some target"]:
        """The weights of some neighbouring sources."""
        with torch.no_grad():
            return from_sources(self.relation, first, count, self.like).float()

    def received(self) -> Tensor:
        """An equal share for every target, mixed back."""
        return to_targets(self.relation, torch.full((self.positions,), 1 / self.positions), self.like).float()

    def dense(self) -> Tensor:
        """The matrix that the relation shows."""
        with torch.no_grad():
            return self.relation.dense().float()


@dataclass(frozen=True)
class WeightedFactors:
    """The positive part of a relation's weights times their gradient.

    The gradient with respect to the weight from one position to another is the product of the values there with what
    the score asks for here: :math:`y = VW` has :math:`dL/dW = V^T dL/dy`. So it has factors, too.

    Attributes:
        weights: The weights.
        value: What was mixed; channels, or for relations of channels positions, in rows.
        upstream: The score's gradient with respect to what came out, likewise.
    """

    weights: Factors
    value: Float[Tensor, "b k source"]
    upstream: Float[Tensor, "b k target"]

    def to_target(self, target: int) -> Tensor:
        """A column."""
        gradient = (self.value * self.upstream[:, :, target, None]).sum(1)
        return torch.relu(self.weights.to_target(target) * gradient)

    def from_source(self, source: int) -> Tensor:
        """A row."""
        return self._some(source, 1)[:, 0]

    def _some(self, first: int, count: int) -> Tensor:
        gradient = self.value[:, :, first : first + count].mT @ self.upstream
        return torch.relu(self.weights.some(first, count) * gradient)

    def received(self) -> Tensor:
        """The mean of each row, a few rows at a time."""
        count = self.weights.positions
        some = max(1, MOST_AT_ONCE // (len(self.value) * count))
        return torch.cat([self._some(at, min(some, count - at)).mean(-1) for at in range(0, count, some)], 1)

    def dense(self) -> Tensor:
        """The matrix."""
        return torch.relu(self.weights.dense() * (self.value.mT @ self.upstream))


@dataclass(frozen=True)
class Passes:
    """Weights of several passes, joined along the batch."""

    parts: Sequence[Pairs]

    def to_target(self, target: int) -> Tensor:
        """Of each pass in turn."""
        return self._joined(lambda part: part.to_target(target))

    def from_source(self, source: int) -> Tensor:
        """Of each pass in turn."""
        return self._joined(lambda part: part.from_source(source))

    def received(self) -> Tensor:
        """Of each pass in turn."""
        return self._joined(lambda part: part.received())

    def dense(self) -> Tensor:
        """Of each pass in turn."""
        return self._joined(lambda part: part.dense())

    def _joined(self, ask: Callable[[Pairs], Tensor]) -> Tensor:
        found = [ask(part) for part in self.parts]
        return found[0] if len(found) == 1 else torch.cat(found)
