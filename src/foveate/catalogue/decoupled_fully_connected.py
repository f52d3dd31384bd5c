"""Decoupled fully connected attention: where and which channels matter, judged along rows and then along columns."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Gate, Map
from foveate.errors import check_at_least, check_odd
from foveate.ops.norm import BatchNorm2d
from foveate.registry import Card, Paper, mechanism


@mechanism(
    Card(
        name="decoupled_fully_connected",
        aliases=("dfc",),
        title="Decoupled Fully Connected Attention",
        paper=Paper(
            "GhostNetV2: Enhance Cheap Operation with Long-Range Attention",
            "Tang, Han, Guo, Xu, Xu, Wang",
            "NeurIPS 2022",
            "2211.12905",
        ),
        equation="y = x · nearest(σ(bn(column₅(bn(row₅(bn(conv₁ₓ₁(avgpool₂(x))))))))), row and column depthwise",
        reference=(
            "huawei-noah/Efficient-AI-Backbones @ f90e129, ghostnetv2_pytorch/model/ghostnetv2_torch.py "
            "(GhostModuleV2, short_conv)"
        ),
        differences=(
            "Rows and columns are aggregated over 5 positions, as in the authors' code; the paper's equations sum over "
            "whole rows and columns.",
            "Rows come before columns, as in the authors' code; the paper's equations have columns first.",
            "In GhostNetV2 the gates come from a block's input and multiply its output, with other channels; here both "
            "are the same features.",
            "A side of one position is not pooled; the authors' pooling leaves nothing of it.",
            "A training batch of one value per channel is normalised with the running statistics.",
        ),
        evidence=(
            "ImageNet top-1 of GhostNetV2, which is GhostNet with it, of 75.3% at 167 M FLOPs, against 74.5% for "
            "GhostNet at a similar cost. The abstract says that it runs fast on common hardware, and gives no time."
        ),
    )
)
class DecoupledFullyConnected(Gate):
    """Decoupled fully connected attention: a gate for each channel and neighbourhood from its row and its column.

    The map is shrunk by average pooling, a 1×1 convolution mixes its channels, and depthwise convolutions aggregate
    along the rows and then along the columns, each with a norm. A sigmoid makes the result gates, which nearest-
    neighbour interpolation brings to the map's size.

    Source: Tang et al., GhostNetV2, sections 3.2 and 3.4; the authors' code.

    Args:
        channels: Channels of the feature map.
        kernel_size: How many positions are aggregated along a row and along a column, odd.
        shrink: Side of the pooled neighbourhoods; rows and columns that fill none are left out. 1 pools nothing.

    Shape:
        ``(b, c, h, w)`` in and out; the map has the axes ``c``, ``h``, ``w``, at the pooled resolution.

    Raises:
        OptionError: If an option's value cannot work.

    Example:
        >>> import torch
        >>> from foveate.catalogue import DecoupledFullyConnected
        >>> DecoupledFullyConnected(64)(torch.randn(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])
    """

    def __init__(self, channels: int, *, kernel_size: int = 5, shrink: int = 2) -> None:
        super().__init__()
        check_odd("kernel_size", kernel_size)
        check_at_least("shrink", shrink, 1)
        self.shrink = shrink
        self.smallest = 1 if shrink == 1 else 2 * shrink
        reach = kernel_size // 2
        row, column = (1, kernel_size), (kernel_size, 1)
        self.branch = nn.Sequential(
            nn.Conv2d(channels, channels, 1, bias=False),
            BatchNorm2d(channels),
            nn.Conv2d(channels, channels, row, padding=(0, reach), groups=channels, bias=False),
            BatchNorm2d(channels),
            nn.Conv2d(channels, channels, column, padding=(reach, 0), groups=channels, bias=False),
            BatchNorm2d(channels),
        )
        self.map = Map("c", "h", "w")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """PyTorch's defaults, as in the authors' code."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.BatchNorm2d):
                layer.reset_parameters()

    def gather(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c s t"]:
        """Shrink, and aggregate along rows and columns."""
        return self.branch(x if self.shrink == 1 else _pooled(x, self.shrink))

    def weigh(self, context: Float[Tensor, "b c s t"]) -> Float[Tensor, "b c s t"]:
        """A gate for each channel and neighbourhood."""
        return torch.sigmoid(context)

    def recalibrate(
        self,
        x: Float[Tensor, "b c h w"],
        weights: Float[Tensor, "b c s t"],
        context: Tensor,  # noqa: ARG002
    ) -> Float[Tensor, "b c h w"]:
        """Bring the gates to the map's size and multiply."""
        if self.shrink == 1:
            return x * weights
        return x * F.interpolate(weights, size=x.shape[2:], mode="nearest")


def _pooled(x: Tensor, shrink: int) -> Tensor:
    return F.avg_pool2d(x, (min(shrink, x.shape[2]), min(shrink, x.shape[3])))


torch.fx.wrap("_pooled")  # FX cannot follow a branch on a shape
