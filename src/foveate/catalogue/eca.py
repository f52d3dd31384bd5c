"""Efficient Channel Attention: which channels matter, judged from their neighbours' means."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Gate, Map
from foveate.errors import check_odd
from foveate.ops.pool import global_mean
from foveate.ops.width import odd_width
from foveate.registry import Card, Paper, mechanism


@mechanism(
    Card(
        name="eca",
        title="Efficient Channel Attention",
        paper=Paper(
            "ECA-Net: Efficient Channel Attention for Deep Convolutional Neural Networks",
            "Wang, Wu, Zhu, Li, Zuo, Hu",
            "CVPR 2020",
            "1910.03151",
        ),
        equation="y = x · σ(conv_k(mean_hw(x))), k = |(log₂ C + 1) / 2|_odd",
        reference="BangguWu/ECANet @ b332f6b, models/eca_module.py",
        differences=(
            "The kernel size follows the paper's equation; the authors' networks set it by hand for each stage "
            "(ResNet-50: 3, 5, 5, 7 where the equation gives 5, 5, 5, 7), which `kernel_size` reproduces.",
        ),
        evidence=(
            "ImageNet top-1 of ResNet-50 from 75.20% to 77.48% (SE 76.71%), of ResNet-101 from 76.83% to 78.65%, of "
            "MobileNetV2 from 71.64% to 72.56%; Faster R-CNN with ResNet-50 on COCO from 36.4 to 38.0 AP. It adds 80 "
            "parameters to ResNet-50, whose 3.86 GFLOPs do not change."
        ),
    )
)
class EfficientChannelAttention(Gate):
    """Efficient Channel Attention: a gate for each channel from the means of its neighbours in channel order.

    One convolution without bias runs along the channel axis, padded with zeros; a sigmoid follows. It has as many
    parameters as the kernel is wide.

    Source: Wang et al., ECA-Net, section 3.

    Args:
        channels: Channels of the feature map.
        kernel_size: Width of the convolution, odd; ``None`` computes it from the channels by the paper's equation
            12, with γ = 2 and b = 1.

    Shape:
        ``(b, c, h, w)`` in and out; the map has the axis ``c``.

    Raises:
        OptionError: If the kernel size is not odd and positive.

    Example:
        >>> import torch
        >>> from foveate.catalogue import EfficientChannelAttention
        >>> EfficientChannelAttention(256).conv.kernel_size
        (5,)
    """

    unordered = True

    def __init__(self, channels: int, *, kernel_size: int | None = None) -> None:
        super().__init__()
        size = odd_width(channels) if kernel_size is None else kernel_size
        check_odd("kernel_size", size)
        self.conv = nn.Conv1d(1, 1, size, padding=size // 2, bias=False)
        self.map = Map("c")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """PyTorch's default for a convolution, as in the authors' code."""
        self.conv.reset_parameters()

    def gather(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c"]:
        """The mean of each channel."""
        return global_mean(x)

    def weigh(self, context: Float[Tensor, "b c"]) -> Float[Tensor, "b c 1 1"]:
        """A gate for each channel from its neighbourhood."""
        return torch.sigmoid(self.conv(context[:, None]))[:, 0, :, None, None]
