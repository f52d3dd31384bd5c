"""Strip pooling: where and which channels matter, judged from whole rows and whole columns."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Gate, Map
from foveate.ops.norm import BatchNorm2d
from foveate.ops.strips import column_means, row_means
from foveate.registry import Card, Paper, mechanism


@mechanism(
    Card(
        name="strip_pooling",
        aliases=("spm",),
        title="Strip Pooling Module",
        paper=Paper(
            "Strip Pooling: Rethinking Spatial Pooling for Scene Parsing",
            "Hou, Zhang, Cheng, Feng",
            "CVPR 2020",
            "2003.13328",
        ),
        equation="y = x · σ(W relu(bn(conv₃ₓ₁(mean_w(x))) + bn(conv₁ₓ₃(mean_h(x)))))",
        reference="houqb/SPNet @ 5e97da3, models/resnet.py (SPBlock)",
        differences=(
            "The norms after the strips' convolutions and the ReLU after their sum are the authors' code; the paper's "
            "equations have neither.",
            "A training batch of one value per channel is normalised with the running statistics.",
        ),
        evidence=(
            "Scene parsing on ADE20K and Cityscapes, by a network that has a mixed pooling module besides: 82.0 mIoU "
            "on the Cityscapes test set, as a later paper (DRANet) quotes it. The abstract gives no numbers and no "
            "cost, and the authors' repository none either."
        ),
    )
)
class StripPooling(Gate):
    """Strip pooling: a gate for each channel and position from the means of its row and of its column.

    The means of all rows pass through a convolution along the height, those of all columns through one along the
    width; both mix all channels. Every position adds what its row and its column give. After a ReLU a 1×1 convolution
    and a sigmoid make the sums gates.

    Source: Hou et al., Strip Pooling, section 3.1; norms, ReLU and biases from the authors' code. Their mixed pooling
    module (section 3.2) is no gate, and is not here.

    Args:
        channels: Channels of the feature map.

    Shape:
        ``(b, c, h, w)`` in and out; the map has the axes ``c``, ``h``, ``w``.

    Example:
        >>> import torch
        >>> from foveate.catalogue import StripPooling
        >>> StripPooling(64)(torch.randn(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        # the authors' names, so that their checkpoints load
        self.conv1 = nn.Conv2d(channels, channels, (3, 1), padding=(1, 0), bias=False)
        self.bn1 = BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, (1, 3), padding=(0, 1), bias=False)
        self.bn2 = BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, channels, 1)
        self.map = Map("c", "h", "w")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights of deviation √(2 / kC) for k cells, the bias as PyTorch's default, as in the authors' code."""
        for layer in (self.conv1, self.conv2, self.conv3):
            layer.reset_parameters()
            nn.init.normal_(layer.weight, std=math.sqrt(2 / (math.prod(layer.kernel_size) * layer.out_channels)))
        for norm in (self.bn1, self.bn2):
            norm.reset_parameters()

    def gather(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """What a position's row gives, plus what its column gives."""
        rows = self.bn1(self.conv1(row_means(x)[:, :, :, None]))
        columns = self.bn2(self.conv2(column_means(x)[:, :, None]))
        return rows + columns

    def weigh(self, context: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """A gate for each channel and position."""
        return torch.sigmoid(self.conv3(torch.relu(context)))
