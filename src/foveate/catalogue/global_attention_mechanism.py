"""Global Attention Mechanism: what, then where, without ever pooling."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Gate, Map, Sequence
from foveate.errors import check_at_least
from foveate.ops.groups import check_groups
from foveate.ops.norm import BatchNorm2d
from foveate.registry import Card, Paper, mechanism


class PointGate(Gate):
    """What: a gate for each channel at each position, from the channels at that position.

    Args:
        channels: Channels of the feature map.
        hidden: Units of the bottleneck.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, hidden, 1)
        self.fc2 = nn.Conv2d(hidden, channels, 1)
        self.map = Map("c", "h", "w")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """PyTorch's defaults."""
        self.fc1.reset_parameters()
        self.fc2.reset_parameters()

    def gather(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The features themselves: nothing is pooled."""
        return x

    def weigh(self, context: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The same two layers at every position."""
        return torch.sigmoid(self.fc2(torch.relu(self.fc1(context))))


class NeighbourhoodGate(Gate):
    """Where: a gate for each channel at each position, from a neighbourhood of all channels.

    Args:
        channels: Channels of the feature map.
        hidden: Channels between the two convolutions.
        kernel_size: Side of both.
        groups: Groups of both; between them the channels are shuffled.
    """

    def __init__(self, channels: int, hidden: int, *, kernel_size: int, groups: int) -> None:
        super().__init__()
        half = kernel_size // 2
        self.groups = groups
        self.conv1 = nn.Conv2d(channels, hidden, kernel_size, padding=half, groups=groups)
        self.norm1 = BatchNorm2d(hidden)
        self.conv2 = nn.Conv2d(hidden, channels, kernel_size, padding=half, groups=groups)
        self.norm2 = BatchNorm2d(channels)
        self.map = Map("c", "h", "w")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """PyTorch's defaults."""
        for layer in (self.conv1, self.norm1, self.conv2, self.norm2):
            layer.reset_parameters()

    def gather(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h w"]:
        """The first convolution."""
        summary = torch.relu(self.norm1(self.conv1(x)))
        return summary if self.groups == 1 else torch.channel_shuffle(summary, self.groups)

    def weigh(self, context: Float[Tensor, "b k h w"]) -> Float[Tensor, "b c h w"]:
        """The second."""
        return torch.sigmoid(self.norm2(self.conv2(context)))


@mechanism(
    Card(
        name="global_attention_mechanism",
        aliases=("gam",),
        title="Global Attention Mechanism",
        paper=Paper(
            "Global Attention Mechanism: Retain Information to Enhance Channel-Spatial Interactions",
            "Liu, Shao, Hoffmann",
            "arXiv 2021",
            "2112.05561",
        ),
        equation=("x' = x · σ(W₂ relu(W₁ x)) at every position\ny = x' · σ(norm(conv₇(relu(norm(conv₇(x'))))))"),
        reference="none: no code was released",
        differences=(
            "The channel gate has a sigmoid, as in the paper's figure; copies leave it out.",
            "The reduction is 16, BAM's, which the paper adopts; copies have 4. Only 16 gives the 149.5 M parameters "
            "of ResNet-50 that are printed.",
            "Biases, and a norm after each convolution, as in the versions in circulation; the paper says nothing.",
            "With `groups` the channels are shuffled between the two convolutions, as in ShuffleNet, so that the "
            "gates see other groups; copies shuffle the gates, which takes them to other channels than their own.",
            "At least one hidden unit, and one for each group.",
            "A training batch of one value per channel is normalised with the running statistics.",
        ),
        evidence=(
            "Image classification on CIFAR-100 and ImageNet with ResNet and MobileNet; the abstract gives no numbers. "
            "The repository of another paper (EMA) lists 81.33% top-1 on CIFAR-100 with ResNet-50, against 77.26% "
            "without it: for 149.5 M parameters instead of 23.71 M."
        ),
    )
)
class GlobalAttentionMechanism(Sequence):
    """Global Attention Mechanism: CBAM's order, with nothing pooled on the way.

    First every position passes a bottleneck of two layers over its channels, and a sigmoid. Then two convolutions with
    a bottleneck between them, over a neighbourhood of all channels, and a sigmoid. Both gates are as large as the map.

    Source: Liu et al., Global Attention Mechanism, section 3.

    Args:
        channels: Channels of the feature map.
        reduction: Both bottlenecks have ``max(1, channels // reduction)`` channels, rounded down to a multiple of the
            groups.
        groups: Groups of the convolutions, with a shuffle between them; the paper uses groups in large networks.

    Shape:
        ``(b, c, h, w)`` in and out; both maps have the axes ``c, h, w``.

    Raises:
        OptionError: If the groups do not divide the channels, or another value cannot work.

    Example:
        >>> import torch
        >>> from foveate.catalogue import GlobalAttentionMechanism
        >>> GlobalAttentionMechanism(64)(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])
    """

    def __init__(self, channels: int, *, reduction: int = 16, groups: int = 1) -> None:
        check_at_least("reduction", reduction, 1)
        check_groups("groups", channels, groups)
        hidden = max(1, channels // reduction)
        grouped = max(groups, hidden // groups * groups)
        super().__init__(
            channel=PointGate(channels, hidden),
            spatial=NeighbourhoodGate(channels, grouped, kernel_size=7, groups=groups),
        )
