"""A gate's product that waits for the shortcut, at the end of a residual block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from foveate.attention import Gate
from foveate.ops.gate import gate
from foveate.ops.pending import Product, can_wait, enough


@dataclass
class Recalibrate:
    """A gate's recalibration whose product waits.

    Attributes:
        relu: Whether it waits for ReLU after the addition.
    """

    relu: bool

    def __call__(self, x: Tensor, weights: Tensor, context: Any, channel: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Multiply, or promise to; first by weights of channels, where a gate before this one has left them."""
        given = (x, weights) if channel is None else (x, weights, channel)
        if x.dtype == weights.dtype and can_wait(*given) and enough(x.numel()):
            return Product(x, weights, channel=channel, relu=self.relu)
        return gate(x if channel is None else gate(x, channel), weights)


def join(module: Gate, *, relu: bool) -> None:
    """Let a gate's product wait; :func:`part` is the way back."""
    vars(module)["recalibrate"] = Recalibrate(relu)


def part(module: Any) -> None:
    """Give a gate its own recalibration back."""
    if isinstance(vars(module).get("recalibrate"), Recalibrate):
        del vars(module)["recalibrate"]
