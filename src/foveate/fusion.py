"""Mechanisms of two maps: what joins them where a network adds, and what lets one through as the other says.

The three steps are those of :mod:`foveate.attention`, of two maps instead of one:

==============  ==================================  ===============================  ============================
base class      what it computes                    you write                        what it is at the identity
==============  ==================================  ===============================  ============================
``Fusion``      both maps, weighed, in place of     ``gather, weigh, recalibrate``   ``x + y``
                their sum
``GuidedGate``  ``x · weights``, the weights from   ``gather, weigh``                ``x``
                both
==============  ==================================  ===============================  ============================
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Map
from foveate.ops.size import same_shape


class Pair(nn.Module, ABC):
    """A mechanism of two maps: one out, of the first one's shape.

    A constructor takes the channels of the first map, and where the second may have others,
    ``partner_channels`` by keyword.

    Attributes:
        blend: ``None`` for the mechanism as published. After :meth:`start_at_identity` one learned number: at 0 the
            mechanism leaves the maps as a network without it would, at 1 it is the published one.
        zeros: As :attr:`foveate.attention.Attention.zeros`.
        fixed_size: As :attr:`foveate.attention.Attention.fixed_size`.
        smallest: As :attr:`foveate.attention.Attention.smallest`.
        unordered: As :attr:`foveate.attention.Attention.unordered`, of both maps at once.
    """

    map: Map
    blend: nn.Parameter | None
    zeros: tuple[str, ...] = ()
    fixed_size: tuple[int, int] | None = None
    smallest: int = 1
    unordered: bool = False

    def __init__(self) -> None:
        super().__init__()
        self.register_parameter("blend", None)

    @abstractmethod
    def forward(self, x: Float[Tensor, "b c *positions"], y: Float[Tensor, "b k *others"]) -> Tensor:
        """Attend."""

    @abstractmethod
    def identity(self, x: Float[Tensor, "b c *positions"], y: Float[Tensor, "b k *others"]) -> Tensor:
        """What the network has without the mechanism."""

    @abstractmethod
    def reset_parameters(self) -> None:
        """Initialise as the paper or its authors' code does."""

    def start_at_identity(self) -> None:
        """Become the identity, ready to learn: as :meth:`foveate.attention.Attention.start_at_identity`."""
        like = next(self.parameters(), None)
        zero = torch.zeros(1, device=getattr(like, "device", None), dtype=getattr(like, "dtype", None))
        self.blend = nn.Parameter(zero)
        for name in self.zeros:
            nn.init.ones_(self.get_parameter(name))


class Fusion(Pair):
    """What joins two maps of the same shape where a network adds them.

    Required: :meth:`gather`, :meth:`weigh`, :meth:`recalibrate`, ``self.map``.
    """

    @abstractmethod
    def gather(self, x: Float[Tensor, "b c *positions"], y: Float[Tensor, "b c *positions"]) -> Any:
        """Summarise both maps."""

    @abstractmethod
    def weigh(self, context: Any) -> Tensor:
        """Turn the summary into weights."""

    @abstractmethod
    def recalibrate(
        self, x: Float[Tensor, "b c *positions"], y: Float[Tensor, "b c *positions"], weights: Tensor, context: Any
    ) -> Float[Tensor, "b c *positions"]:
        """Join the maps by the weights."""

    def identity(
        self, x: Float[Tensor, "b c *positions"], y: Float[Tensor, "b c *positions"]
    ) -> Float[Tensor, "b c *positions"]:
        """The sum."""
        return x + y

    def forward(
        self, x: Float[Tensor, "b c *positions"], y: Float[Tensor, "b c *positions"]
    ) -> Float[Tensor, "b c *positions"]:
        """Gather, weigh, recalibrate.

        Raises:
            FoveateError: If the maps differ in shape.
        """
        y = same_shape(y, x)
        context = self.gather(x, y)
        fused = self.recalibrate(x, y, self.map(self.weigh(context)), context)
        if self.blend is None:
            return fused
        total = self.identity(x, y)
        return total + self.blend * (fused - total)


class GuidedGate(Pair):
    """A gate on one map whose weights come from both: the other guides it, and may be coarser and of other channels.

    Required: :meth:`gather`, :meth:`weigh`, ``self.map``.
    """

    @abstractmethod
    def gather(self, x: Float[Tensor, "b c *positions"], y: Float[Tensor, "b k *others"]) -> Any:
        """Summarise both maps."""

    @abstractmethod
    def weigh(self, context: Any) -> Float[Tensor, "b _ *positions"]:
        """Turn the summary into weights."""

    def identity(
        self,
        x: Float[Tensor, "b c *positions"],
        y: Float[Tensor, "b k *others"],  # noqa: ARG002
    ) -> Float[Tensor, "b c *positions"]:
        """The first map."""
        return x

    def forward(
        self, x: Float[Tensor, "b c *positions"], y: Float[Tensor, "b k *others"]
    ) -> Float[Tensor, "b c *positions"]:
        """Gather, weigh, recalibrate."""
        weights = self.weigh(self.gather(x, y))
        if self.blend is not None:  # on the weights, which are smaller than the map: no extra pass over it
            weights = 1 + self.blend * (weights - 1)
        return x * self.map(weights)
