"""Iterative attentional fusion: two maps fused by attention, by weights from a first fusion of the two."""

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
        name="iterative_attentional_fusion",
        aliases=("iaff",),
        title="Iterative Attentional Feature Fusion",
        paper=Paper("Attentional Feature Fusion", "Dai, Gieseke, Oehmcke, Wu, Barnard", "WACV 2021", "2009.14082"),
        equation=(
            "u = w · x + (1 - w) · y, w = M(x + y)\n"
            "z = w' · x + (1 - w') · y, w' = M'(u)\n"
            "M and M' = σ(L(·) + G(mean_hw(·))), L and G = bn(W₂ relu(bn(W₁ ·)))"
        ),
        reference="YimianDai/open-aff @ 0bcfd8a, aff_pytorch/aff_net/fusion.py (iAFF)",
        differences=(
            "The second step has a global context of its own, as in the paper and in the authors' MXNet code, which "
            "their released weights come from. The PyTorch code in their repository builds it and uses the first "
            "step's in its place: share_global=true does the same.",
            "Equal weights give the mean of the maps, half of the sum that it replaces, as in the paper and in both "
            "codes: unlike attentional_fusion, it is not doubled.",
            "The convolutions have biases, as in the authors' code; the paper does not mention any.",
            "At least one hidden unit, where C // r is zero.",
            "A training batch of one sample, whose mean over positions is one value a channel, is normalised with the "
            "running statistics.",
        ),
        evidence=(
            "ImageNet top-1 error of 20.2% with ResNet-50 and 35.1 M parameters, against 20.3% and 30.3 M with one "
            "step of fusion, and 19.78% with ResNeXt-50 and 34.7 M. Beside it the authors' repository lists SENet-101 "
            "(20.9%, 49.4 M). They say that their recipe there gives a little more than the paper's, and give no "
            "FLOPs."
        ),
    )
)
class IterativeAttentionalFusion(Fusion):
    """Iterative attentional feature fusion: the weights of two maps, judged from a first fusion of them by attention.

    The first step weighs the maps by their sum, the second weighs them anew by what the first made of them; only the
    second's weights make the result.

    Source: Dai et al., Attentional Feature Fusion, section 3.4; biases from the authors' code.

    Args:
        channels: Channels of both maps.
        reduction: Each of the four bottlenecks has ``max(1, channels // reduction)`` units.
        share_global: Whether both steps have one bottleneck for the global context, as in the authors' PyTorch code.

    Shape:
        Two maps ``(b, c, h, w)`` in, one out; the maps of weights, those of the first map in either step, have the axes
        ``c``, ``h``, ``w``.

    Raises:
        OptionError: If an option's value cannot work.

    Example:
        >>> import torch
        >>> from foveate.catalogue import IterativeAttentionalFusion
        >>> IterativeAttentionalFusion(64)(torch.randn(2, 64, 7, 7), torch.randn(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])
    """

    unordered = True

    def __init__(self, channels: int, *, reduction: int = 4, share_global: bool = False) -> None:
        super().__init__()
        check_at_least("reduction", reduction, 1)
        check_bool("share_global", share_global)
        self.initial = LocalGlobalContext(channels, reduction)
        self.context = LocalGlobalContext(channels, reduction)
        if share_global:
            self.context.everywhere = self.initial.everywhere
        self.initial_map = Map("c", "h", "w")
        self.map = Map("c", "h", "w")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """PyTorch's defaults, as in the authors' code."""
        self.initial.reset_parameters()
        self.context.reset_parameters()

    def gather(self, x: Float[Tensor, "b c h w"], y: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Local and global context, added, of a first fusion."""
        weights = self.initial_map(torch.sigmoid(self.initial(x + y)))
        return self.context(self.recalibrate(x, y, weights))

    def weigh(self, context: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The first map's weight, for each channel and position."""
        return torch.sigmoid(context)

    def recalibrate(
        self,
        x: Float[Tensor, "b c h w"],
        y: Float[Tensor, "b c h w"],
        weights: Float[Tensor, "b c h w"],
        context: Tensor | None = None,  # noqa: ARG002
    ) -> Float[Tensor, "b c h w"]:
        """The weighted sum."""
        return x * weights + y * (1 - weights)
