"""Multi-scale channel attention: which channels matter here, judged from the position and from the whole map."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from foveate.attention import Gate, Map
from foveate.errors import check_at_least
from foveate.ops.context import LocalGlobalContext
from foveate.registry import Card, Paper, mechanism


@mechanism(
    Card(
        name="multiscale_channel",
        aliases=("ms_cam",),
        title="Multi-Scale Channel Attention Module",
        paper=Paper("Attentional Feature Fusion", "Dai, Gieseke, Oehmcke, Wu, Barnard", "WACV 2021", "2009.14082"),
        equation="y = x · σ(L(x) + G(mean_hw(x))), L and G = bn(W₂ relu(bn(W₁ ·)))",
        reference="YimianDai/open-aff @ 0bcfd8a, aff_pytorch/aff_net/fusion.py (MS_CAM)",
        differences=(
            "The convolutions have biases, as in the authors' code; the paper does not mention any.",
            "At least one hidden unit, where C // r is zero.",
            "A training batch of one sample, whose global context is one value per channel, is normalised with the "
            "running statistics.",
        ),
        evidence=(
            "It is the weight within attentional feature fusion, and its paper's results on CIFAR-100 and ImageNet "
            "are those of the fusions: 20.3% top-1 error on ImageNet with ResNet-50 and 30.3 M parameters. Neither "
            "the abstract nor the authors' repository has a figure for it as a module behind a convolution."
        ),
    )
)
class MultiscaleChannel(Gate):
    """Multi-scale channel attention: a gate for each channel and position from itself and from the map's mean.

    A bottleneck of 1×1 convolutions looks at every position (local context), another of the same shape at the mean
    over positions (global context). Their logits are added, and a sigmoid makes the sum a gate.

    Source: Dai et al., Attentional Feature Fusion, section 3.2; biases from the authors' code.

    Args:
        channels: Channels of the feature map.
        reduction: Both bottlenecks have ``max(1, channels // reduction)`` units.

    Shape:
        ``(b, c, h, w)`` in and out; the map has the axes ``c``, ``h``, ``w``.

    Raises:
        OptionError: If the reduction is not a positive whole number.

    Example:
        >>> import torch
        >>> from foveate.catalogue import MultiscaleChannel
        >>> MultiscaleChannel(64)(torch.randn(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])
    """

    unordered = True

    def __init__(self, channels: int, *, reduction: int = 4) -> None:
        super().__init__()
        check_at_least("reduction", reduction, 1)
        self.context = LocalGlobalContext(channels, reduction)
        self.map = Map("c", "h", "w")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """PyTorch's defaults, as in the authors' code."""
        self.context.reset_parameters()

    def gather(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Local and global context, added."""
        return self.context(x)

    def weigh(self, context: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """A gate for each channel and position."""
        return torch.sigmoid(context)
