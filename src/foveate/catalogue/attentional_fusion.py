"""Attentional feature fusion: of two maps that meet, how much of each, for every channel and position."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from foveate.attention import Map
from foveate.errors import check_at_least, check_bool
from foveate.fusion import Fusion
from foveate.ops.context import LocalGlobalContext
from foveate.registry import Card, Paper, mechanism


@mechanism(
    Card(
        name="attentional_fusion",
        aliases=("aff",),
        title="Attentional Feature Fusion",
        paper=Paper("Attentional Feature Fusion", "Dai, Gieseke, Oehmcke, Wu, Barnard", "WACV 2021", "2009.14082"),
        equation="z = 2 w · x + 2 (1 - w) · y, w = σ(L(x + y) + G(mean_hw(x + y))), L and G = bn(W₂ relu(bn(W₁ ·)))",
        reference="YimianDai/open-aff @ 0bcfd8a, aff_pytorch/aff_net/fusion.py (AFF)",
        differences=(
            "The result is doubled, as in the authors' code: equal weights then give the sum that it replaces. The "
            "paper's equation has no factor; doubled=false is the paper's.",
            "The convolutions have biases, as in the authors' code; the paper does not mention any.",
            "At least one hidden unit, where C // r is zero.",
            "A training batch of one sample, whose mean over positions is one value a channel, is normalised with the "
            "running statistics.",
        ),
        evidence=(
            "ImageNet top-1 error of 20.3% with ResNet-50, whose shortcuts it joins, and 30.3 M parameters; beside it "
            "the authors' repository lists SENet-101 (20.9%, 49.4 M) and ResNet-101 (23.2%, 42.5 M). They say that "
            "their recipe there gives a little more than the paper's, and give no FLOPs."
        ),
    )
)
class AttentionalFusion(Fusion):
    """Attentional feature fusion: a weighted sum of two maps in place of their sum, by weights from that sum.

    A bottleneck of 1×1 convolutions looks at every position of the sum of both maps, another of the same shape at its
    mean over positions. What a sigmoid makes of both is the first map's weight; the second map has the rest.

    Source: Dai et al., Attentional Feature Fusion, section 3.3; factor and biases from the authors' code.

    Args:
        channels: Channels of both maps.
        reduction: Both bottlenecks have ``max(1, channels // reduction)`` units.
        doubled: Whether the weighted sum is doubled, so that equal weights give the sum; else they give the mean.

    Shape:
        Two maps ``(b, c, h, w)`` in, one out; the map of weights, those of the first, has the axes ``c``, ``h``, ``w``.

    Raises:
        OptionError: If an option's value cannot work.

    Example:
        >>> import torch
        >>> from foveate.catalogue import AttentionalFusion
        >>> AttentionalFusion(64)(torch.randn(2, 64, 7, 7), torch.randn(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])
    """

    unordered = True

    def __init__(self, channels: int, *, reduction: int = 4, doubled: bool = True) -> None:
        super().__init__()
        check_at_least("reduction", reduction, 1)
        check_bool("doubled", doubled)
        self.scale = 2 if doubled else 1
        self.context = LocalGlobalContext(channels, reduction)
        self.map = Map("c", "h", "w")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """PyTorch's defaults, as in the authors' code."""
        self.context.reset_parameters()

    def gather(self, x: Float[Tensor, "b c h w"], y: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Local and global context of the sum, added."""
        return self.context(x + y)

    def weigh(self, context: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The first map's weight, for each channel and position."""
        return torch.sigmoid(context)

    def recalibrate(
        self,
        x: Float[Tensor, "b c h w"],
        y: Float[Tensor, "b c h w"],
        weights: Float[Tensor, "b c h w"],
        context: Tensor,  # noqa: ARG002
    ) -> Float[Tensor, "b c h w"]:
        """The weighted sum."""
        weights = self.scale * weights
        return x * weights + y * (self.scale - weights)
