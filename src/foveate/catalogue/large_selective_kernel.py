"""Large Selective Kernel attention: how wide each position should look, and what it sees there."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Map, Transform
from foveate.ops.extremes import max_and_mean
from foveate.ops.initialise import normal_by_fan_out
from foveate.registry import Card, Paper, mechanism


class Views(NamedTuple):
    """What a position sees in two neighbourhoods, one inside the other, with fewer channels."""

    near: Tensor
    far: Tensor


@mechanism(
    Card(
        name="large_selective_kernel",
        aliases=("lsk",),
        title="Large Selective Kernel",
        paper=Paper(
            "Large Selective Kernel Network for Remote Sensing Object Detection",
            "Li, Hou, Zheng, Cheng, Yang, Li",
            "ICCV 2023",
            "2303.09030",
        ),
        equation=(
            "u₁ = depthwise₅(x), u₂ = dilated₇(u₁), v = [W₁u₁; W₂u₂], [s₁; s₂] = σ(conv₇([mean_c(v); max_c(v)]))\n"
            "y = x · W(s₁ · W₁u₁ + s₂ · W₂u₂)"
        ),
        reference="zcablii/Large-Selective-Kernel-Network @ c9b6c66, mmrotate/models/backbones/lsknet.py (LSKblock)",
        differences=(
            "Both views have half the channels, rounded down, as in the authors' code, which the paper's figure "
            "mentions nowhere; of one channel they have one, where half is none.",
            "The attention alone. The authors' block wraps it in two 1×1 convolutions, a GELU and a shortcut, which "
            "belong to the network.",
        ),
        evidence=(
            "Detection of oriented objects in aerial images, by the backbone made of it: LSKNet-S has 81.64 mAP on "
            "DOTA-v1.0 (the best before: 81.33), 47.87 on FAIR1M (oriented R-CNN with ResNet-50: 45.60) and 98.46 on "
            "HRSC2016 (97.63). The authors' repository lists no cost there."
        ),
    )
)
class LargeSelectiveKernel(Transform):
    """Large Selective Kernel attention: every position chooses between a near and a far view, and is scaled by it.

    A depthwise 5×5 convolution and, on its output, a depthwise 7×7 convolution with dilation 3 see two neighbourhoods.
    Mean and maximum over the channels of both views decide, for each position, how much of either is let through. The
    sum of what is let through becomes, by a 1×1 convolution, a factor for each channel and position; no sigmoid bounds
    it.

    Source: Li et al., Large Selective Kernel Network, section 3.3; biases, halved channels and initialisation from the
    authors' code.

    Args:
        channels: Channels of the feature map.

    Shape:
        ``(b, c, h, w)`` in and out. The map ``selection_map`` has the axes ``branch``, ``h``, ``w``: near, then far;
        the map ``factor_map`` has ``c``, ``h``, ``w``.

    Example:
        >>> import torch
        >>> from foveate.catalogue import LargeSelectiveKernel
        >>> LargeSelectiveKernel(64)(torch.randn(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = max(1, channels // 2)
        # the authors' names, so that their checkpoints load
        self.conv0 = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.conv_spatial = nn.Conv2d(channels, channels, 7, padding=9, groups=channels, dilation=3)
        self.conv1 = nn.Conv2d(channels, half, 1)
        self.conv2 = nn.Conv2d(channels, half, 1)
        self.conv_squeeze = nn.Conv2d(2, 2, 7, padding=3)
        self.conv = nn.Conv2d(half, channels, 1)
        self.selection_map = Map("branch", "h", "w")
        self.factor_map = Map("c", "h", "w")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights normal by the fan out of a group, biases zero, as in the authors' network."""
        for layer in (self.conv0, self.conv_spatial, self.conv1, self.conv2, self.conv_squeeze, self.conv):
            normal_by_fan_out(layer)

    def gather(self, x: Float[Tensor, "b c h w"]) -> Views:
        """The near view, and the far view through it."""
        near = self.conv0(x)
        return Views(self.conv1(near), self.conv2(self.conv_spatial(near)))

    def weigh(self, context: Views) -> Float[Tensor, "b c h w"]:
        """Choose between the views at every position; what is chosen gives the factors."""
        both = torch.cat(context, 1)
        largest, mean = max_and_mean(both, 1)
        squeezed = torch.stack([mean, largest], 1)
        selection = self.selection_map(torch.sigmoid(self.conv_squeeze(squeezed)))
        return self.factor_map(self.conv(context.near * selection[:, :1] + context.far * selection[:, 1:]))

    def recalibrate(
        self,
        x: Float[Tensor, "b c h w"],
        weights: Float[Tensor, "b c h w"],
        context: Views,  # noqa: ARG002
    ) -> Float[Tensor, "b c h w"]:
        """Multiply."""
        return x * weights
