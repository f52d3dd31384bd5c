"""Context Anchor Attention: where and which channels matter, judged from long strips of a smoothed map."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Gate, Map
from foveate.errors import check_bool, check_odd
from foveate.ops.norm import BatchNorm2d
from foveate.registry import Card, Paper, mechanism


@mechanism(
    Card(
        name="context_anchor",
        aliases=("caa",),
        title="Context Anchor Attention",
        paper=Paper(
            "Poly Kernel Inception Network for Remote Sensing Detection",
            "Cai, Lai, Wang, Wang, Sun, Yao",
            "CVPR 2024",
            "2403.06258",
        ),
        equation="y = x · σ(conv₁ₓ₁(column_k(row_k(conv₁ₓ₁(avgpool₇(x)))))), row and column depthwise, k = 11",
        reference="PKINet/PKINet @ 709f68a, mmrotate/models/backbones/pkinet.py (CAA)",
        differences=(
            "The 1×1 convolutions have neither norm nor activation, as PKINet builds them; the authors' class has both "
            "unless told otherwise, which `norm` and `activation` reproduce.",
            "The factors multiply the features that they come from; in PKINet they multiply another branch of the same "
            "block.",
            "In PKINet the strips grow by 2 from block to block of a stage: give each place its `kernel_size`.",
            "A training batch of one value per channel is normalised with the running statistics.",
        ),
        evidence=(
            "Detection of oriented objects in aerial images, by PKINet, of which it is one part beside convolutions "
            "of several sizes: with oriented R-CNN 78.39 mAP on DOTA-v1.0 and 71.47 on DOTA-v1.5 for PKINet-S. The "
            "authors' repository gives no cost, and none for the module alone."
        ),
    )
)
class ContextAnchor(Gate):
    """Context Anchor Attention: a gate for each channel and position from long strips of a smoothed map.

    The map is smoothed by average pooling over 7×7 positions, those beyond the border counting as zero. A 1×1
    convolution, depthwise strips along the rows and then along the columns, and another 1×1 convolution follow; a
    sigmoid makes the result a gate.

    Source: Cai et al., Poly Kernel Inception Network, section 3.3; options and initialisation from the authors' code.

    Args:
        channels: Channels of the feature map.
        kernel_size: Length of the strips, odd.
        norm: Whether batch normalisation follows each 1×1 convolution, in place of its bias.
        activation: Whether a SiLU follows each 1×1 convolution, the last one before the sigmoid too.

    Shape:
        ``(b, c, h, w)`` in and out; the map has the axes ``c``, ``h``, ``w``.

    Raises:
        OptionError: If an option's value cannot work.

    Example:
        >>> import torch
        >>> from foveate.catalogue import ContextAnchor
        >>> ContextAnchor(64, kernel_size=13)(torch.randn(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])
    """

    def __init__(self, channels: int, *, kernel_size: int = 11, norm: bool = False, activation: bool = False) -> None:
        super().__init__()
        check_odd("kernel_size", kernel_size)
        check_bool("norm", norm)
        check_bool("activation", activation)
        reach = kernel_size // 2
        self.conv1 = _pointwise(channels, norm, activation)
        self.h_conv = nn.Conv2d(channels, channels, (1, kernel_size), padding=(0, reach), groups=channels)
        self.v_conv = nn.Conv2d(channels, channels, (kernel_size, 1), padding=(reach, 0), groups=channels)
        self.conv2 = _pointwise(channels, norm, activation)
        self.map = Map("c", "h", "w")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights as PyTorch's default for a convolution, biases zero, as in the authors' network."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.BatchNorm2d):
                layer.reset_parameters()
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def gather(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Long strips of the smoothed map."""
        smooth = F.avg_pool2d(x, 7, 1, 3)
        return self.v_conv(self.h_conv(self.conv1(smooth)))

    def weigh(self, context: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """A gate for each channel and position."""
        return torch.sigmoid(self.conv2(context))


def _pointwise(channels: int, norm: bool, activation: bool) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 1, bias=not norm),
        BatchNorm2d(channels, eps=1e-3, momentum=0.03) if norm else nn.Identity(),
        nn.SiLU() if activation else nn.Identity(),
    )
