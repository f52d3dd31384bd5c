"""Attention gate: of a map that skips ahead, the places that what came the long way asks for."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Map
from foveate.errors import check_at_least, check_choice
from foveate.fusion import GuidedGate
from foveate.ops.softmax import full_softmax
from foveate.registry import Card, Paper, mechanism

_DIMENSIONS = {
    1: (nn.Conv1d, "linear", ("w",)),
    2: (nn.Conv2d, "bilinear", ("h", "w")),
    3: (nn.Conv3d, "trilinear", ("d", "h", "w")),
}


@mechanism(
    Card(
        name="attention_gate",
        title="Attention Gate",
        paper=Paper(
            "Attention U-Net: Learning Where to Look for the Pancreas",
            "Oktay, Schlemper, Le Folgoc, Lee, Heinrich, Misawa, Mori, McDonagh, Hammerla, Kainz, Glocker, Rueckert",
            "MIDL 2018",
            "1804.03999",
        ),
        equation="y = x · up(α), α = σ(ψ · relu(W_x x + W_g g))",
        reference="ozan-oktay/Attention-Gated-Networks @ eee4881, models/layers/grid_attention_layer.py",
        differences=(
            "The authors' code puts a 1×1 convolution with a norm, from C to C, behind the product; the paper's output "
            "is the product, and so is this one's: the decoder's own convolution follows it.",
            "The authors' network runs two gates beside each other and joins them by a convolution; the paper has one.",
            "A side of the map shorter than the stride is filled up with zeros, where the authors' code fails.",
            "The softmax is computed in at least float32.",
        ),
        evidence=(
            "Segmentation of organs, the pancreas above all, in two sets of abdominal CT scans: the gates make a "
            "U-Net more sensitive and more accurate, on both and for training sets of different sizes. The abstract "
            "gives no numbers, and of the cost says that it is minimal."
        ),
    )
)
class AttentionGate(GuidedGate):
    """Attention gate: a gate for each position of an encoder's map, guided by the decoder's map that it is to join.

    Both maps are brought to the same few channels and to the coarser grid, added and rectified; one more convolution
    makes a logit of every position, and its sigmoid, brought back to the map's size, is the gate.

    Source: Oktay et al., Attention U-Net, section 2.2; resampling and initialisation from the authors' code.

    Args:
        channels: Channels of the map that is gated.
        partner_channels: Channels of the map that guides it; as many if ``None``.
        reduction: Both maps are brought to ``max(1, channels // reduction)`` channels.
        stride: By how much the gated map is shrunk before the two meet: the gate is computed on that grid.
        normalisation: What makes weights of the logits: ``"sigmoid"``, or ``"softmax"`` over all positions, which the
            paper found too sparse and the authors' code has as well.
        dimensions: Axes of positions: 2 for images, 1 for signals, 3 for volumes. ``attach`` chooses it by the map.

    Shape:
        ``(b, c, h, w)`` and the guide ``(b, k, h', w')`` in, ``(b, c, h, w)`` out; the map has the axes ``h`` and
        ``w``.

    Raises:
        OptionError: If an option's value cannot work.

    Example:
        >>> import torch
        >>> from foveate.catalogue import AttentionGate
        >>> AttentionGate(64, partner_channels=128)(torch.randn(2, 64, 14, 14), torch.randn(2, 128, 7, 7)).shape
        torch.Size([2, 64, 14, 14])
    """

    def __init__(
        self,
        channels: int,
        *,
        partner_channels: int | None = None,
        reduction: int = 2,
        stride: int = 2,
        normalisation: Literal["sigmoid", "softmax"] = "sigmoid",
        dimensions: int = 2,
    ) -> None:
        super().__init__()
        check_at_least("reduction", reduction, 1)
        check_at_least("stride", stride, 1)
        check_choice("normalisation", normalisation, ("sigmoid", "softmax"))
        check_choice("dimensions", dimensions, tuple(_DIMENSIONS))
        convolution, self.mode, axes = _DIMENSIONS[dimensions]
        guide = channels if partner_channels is None else partner_channels
        check_at_least("partner_channels", guide, 1)
        hidden = max(1, channels // reduction)
        self.stride = stride
        self.smallest = 2 * stride if stride > 1 else 1
        self.normalisation = normalisation
        self.theta = convolution(channels, hidden, stride, stride=stride, bias=False)
        self.phi = convolution(guide, hidden, 1)
        self.psi = convolution(hidden, 1, 1)
        self.map = Map(*axes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights as He et al. (fan in), biases as PyTorch's default, as in the authors' code."""
        for layer in (self.theta, self.phi, self.psi):
            layer.reset_parameters()
            nn.init.kaiming_normal_(layer.weight)

    def gather(
        self, x: Float[Tensor, "b c *positions"], y: Float[Tensor, "b k *others"]
    ) -> tuple[Float[Tensor, "b hidden *grid"], tuple[int, ...]]:
        """Both maps in the same channels on the same grid, added and rectified; and the size to come back to."""
        own = self.theta(_at_least(x, self.stride))
        guide = F.interpolate(self.phi(y), size=own.shape[2:], mode=self.mode)
        return torch.relu(own + guide), x.shape[2:]

    def weigh(
        self, context: tuple[Float[Tensor, "b hidden *grid"], tuple[int, ...]]
    ) -> Float[Tensor, "b 1 *positions"]:
        """A gate for each position."""
        both, size = context
        logits = self.psi(both)
        if self.normalisation == "softmax":
            weights = full_softmax(logits.flatten(2), 2).to(logits.dtype).reshape(logits.shape)
        else:
            weights = torch.sigmoid(logits)
        return F.interpolate(weights, size=size, mode=self.mode)


def _at_least(x: Tensor, side: int) -> Tensor:
    missing = [max(0, side - length) for length in x.shape[2:]]
    if not any(missing):
        return x
    return F.pad(x, [amount for more in reversed(missing) for amount in (0, more)])


torch.fx.wrap("_at_least")  # FX cannot follow a branch on a shape
