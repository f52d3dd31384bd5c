"""Global Second-order Pooling: which channels matter, judged from how all of them vary together."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Gate, Map
from foveate.errors import check_at_least
from foveate.ops.covariance import covariance
from foveate.ops.norm import BatchNorm2d
from foveate.registry import Card, Paper, mechanism

# Numbers that each row of the covariance becomes.
PER_ROW = 4


@mechanism(
    Card(
        name="gsop",
        title="Global Second-order Pooling",
        paper=Paper(
            "Global Second-order Pooling Convolutional Networks", "Gao, Xie, Wang, Li", "CVPR 2019", "1811.12006"
        ),
        equation="Σ = cov_hw(relu(norm(W₁ relu(x))))\ny = x · σ(W₃ rows(norm(Σ))), rows: 4 weighted sums of each row",
        reference=(
            "ZilinGao/Global-Second-order-Pooling-Convolutional-Networks @ 662a699, torchvision/models/resnet.py and "
            "MPNCOV/python/MPNCOV.py (channel attention, their default)"
        ),
        differences=(
            "The ReLU before the first convolution and the norm before the rows' are the authors' code, which has "
            "nothing between the rows' sums and the last layer.",
            "The covariance subtracts the means first and stays in float32 under autocast; the authors' multiplies by "
            "a centring matrix as large as the map.",
            "The authors halve the map of their first stage by `stride=2`; here the stride is 1 unless it is given.",
            "Position attention and its fusions with channel attention, variants in the authors' code, are not here.",
            "A training batch of one value per channel is normalised with the running statistics.",
        ),
        evidence=(
            "In the authors' repository an ImageNet top-1 error of 22.02% with blocks in ResNet-50 (GSoP-Net1), and of "
            "20.86% on CIFAR-100 with ResNet-164. As the ECA paper quotes it, 77.68% top-1, an error of 22.32%, "
            "against 75.20% for ResNet-50, with 28.05 M parameters and 6.18 GFLOPs; what the authors' code builds has "
            "28.29 M parameters, and the plain network 25.56 M."
        ),
    )
)
class GSoP(Gate):
    """Global Second-order Pooling: a gate for each channel from the covariance of a reduced map's channels.

    A 1×1 convolution reduces the channels; the covariance of those that are left, over all positions, is a square
    matrix. Each of its rows becomes four numbers by weights of its own, and one layer makes a gate of them all.

    Source: Gao et al., Global Second-order Pooling Convolutional Networks, section 3.2; the authors' code.

    Args:
        channels: Channels of the feature map.
        dimension: Channels of the reduced map, and rows of the covariance.
        stride: Of the reducing convolution: 2 takes every second position along height and width.

    Shape:
        ``(b, c, h, w)`` in and out; the map has the axis ``c``.

    Raises:
        OptionError: If an option's value cannot work.

    Example:
        >>> import torch
        >>> from foveate.catalogue import GSoP
        >>> GSoP(64, dimension=16)(torch.randn(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])
    """

    def __init__(self, channels: int, *, dimension: int = 128, stride: int = 1) -> None:
        super().__init__()
        check_at_least("dimension", dimension, 1)
        check_at_least("stride", stride, 1)
        self.smallest = 1 if stride == 1 else stride + 1
        self.reduce = nn.Conv2d(channels, dimension, 1, stride=stride)
        self.norm = BatchNorm2d(dimension)
        self.row_norm = BatchNorm2d(dimension)
        self.rows = nn.Conv2d(dimension, PER_ROW * dimension, (dimension, 1), groups=dimension)
        self.expand = nn.Conv2d(PER_ROW * dimension, channels, 1)
        self.map = Map("c")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights as He et al. (fan out), biases as PyTorch's default, as in the authors' code."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                layer.reset_parameters()
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(layer, nn.BatchNorm2d):
                layer.reset_parameters()

    def gather(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d d"]:
        """The covariance of the reduced map's channels."""
        return covariance(torch.relu(self.norm(self.reduce(torch.relu(x)))))

    def weigh(self, context: Float[Tensor, "b d d"]) -> Float[Tensor, "b c 1 1"]:
        """A gate for each channel from all rows of the covariance."""
        return torch.sigmoid(self.expand(self.rows(self.row_norm(context[..., None].to(self.row_norm.weight.dtype)))))

    def recalibrate(
        self,
        x: Float[Tensor, "b c h w"],
        weights: Float[Tensor, "b c 1 1"],
        context: Tensor,  # noqa: ARG002
    ) -> Float[Tensor, "b c h w"]:
        """Multiply, in the features' type."""
        return x * weights.to(x.dtype)
