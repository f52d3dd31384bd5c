"""Shuffle Attention: half of every group of channels is gated as channels, the other half as positions."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Map, Transform
from foveate.errors import OptionError
from foveate.ops.groups import GroupNorm, check_groups, fitting_groups
from foveate.registry import Card, Paper, mechanism

# The paper's number of groups on ImageNet.
GROUPS = 64


class Halves(NamedTuple):
    """What is gathered of the two halves of every group, or their weights: channels first, then positions."""

    channel: Tensor
    spatial: Tensor


@mechanism(
    Card(
        name="shuffle",
        aliases=("sa", "shuffle_attention"),
        title="Shuffle Attention",
        paper=Paper(
            "SA-Net: Shuffle Attention for Deep Convolutional Neural Networks",
            "Zhang, Yang",
            "ICASSP 2021",
            "2102.00240",
        ),
        equation=(
            "[x₁, x₂] = halves of each group\n"
            "x₁' = x₁ · σ(w₁ mean_hw(x₁) + b₁), x₂' = x₂ · σ(w₂ GN(x₂) + b₂)\n"
            "y = shuffle₂([x₁', x₂'])"
        ),
        reference="wofmanaf/SA-Net @ 00a6760, models/sa_resnet.py (no licence: run for its numbers, not copied)",
        differences=(
            "Without `groups` there are as many as fit: the largest divisor of C / 2 up to 64. The authors' code "
            "always has 64 and so runs only with multiples of 128 channels, where ours is the same.",
            "A group of one value, which has no variance, keeps its norm's bias; the authors' code raises if it is the "
            "batch's only one.",
        ),
        evidence=(
            "ImageNet top-1 of ResNet-50 rises by more than 1.34 points, to 77.88% in the released weights "
            "(ResNet-101: 78.95%); detection and segmentation on COCO gain too. By the paper's count it adds 300 "
            "parameters to 25.56 M (708 in the released network) and 0.00276 GFLOPs to 4.12."
        ),
    )
)
class ShuffleAttention(Transform):
    """Shuffle Attention: groups of channels, half of each gated by its means, half by its normalised values; shuffled.

    In every group the first half of the channels is gated channel by channel from its means, the second half position
    by position from its group-normalised features, each with one scale and one shift a channel that all groups share.
    A shuffle of the channels in two lets the halves meet in what follows.

    Source: Zhang and Yang, SA-Net, section 3; initialisation from the authors' code.

    Args:
        channels: Channels of the feature map, an even number.
        groups: Into how many groups they go, each of an even number of channels; ``None`` is the largest number that
            fits, 64 at most, as in the paper.

    Shape:
        ``(b, c, h, w)`` in and out; ``channel_map`` has the axis ``c``, ``spatial_map`` the axes ``c, h, w``, for half
        of the channels each.

    Raises:
        OptionError: If the channels cannot be halved in so many groups.

    Example:
        >>> import torch
        >>> from foveate.catalogue import ShuffleAttention
        >>> ShuffleAttention(64)(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])
    """

    def __init__(self, channels: int, *, groups: int | None = None) -> None:
        super().__init__()
        if groups is not None:
            check_groups("groups", channels, groups, each=2)
        elif channels % 2:
            nearest = "2" if channels == 1 else f"{channels - 1} and {channels + 1}"
            raise OptionError(f"{channels} channels cannot be halved, as shuffle does; the nearest that can: {nearest}")
        self.groups = fitting_groups(channels // 2, GROUPS) if groups is None else groups
        self.width = channels // (2 * self.groups)
        # the authors' names and shapes, so that their checkpoints load
        self.cweight = nn.Parameter(torch.empty(1, self.width, 1, 1))
        self.cbias = nn.Parameter(torch.empty(1, self.width, 1, 1))
        self.sweight = nn.Parameter(torch.empty(1, self.width, 1, 1))
        self.sbias = nn.Parameter(torch.empty(1, self.width, 1, 1))
        self.gn = GroupNorm(self.width, self.width)
        self.zeros = ("sweight",)
        self.channel_map = Map("c")
        self.spatial_map = Map("c", "h", "w")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Scales zero and shifts one: all gates start at σ(1), about 0.73, as in the authors' code."""
        for scale, shift in ((self.cweight, self.cbias), (self.sweight, self.sbias)):
            nn.init.zeros_(scale)
            nn.init.ones_(shift)
        self.gn.reset_parameters()

    def gather(self, x: Float[Tensor, "b c h w"]) -> Halves:
        """The means of the first halves, and the normalised features of the second, a group like a sample."""
        halves = x.unflatten(1, (self.groups, 2, self.width))
        first, second = halves[:, :, 0].flatten(0, 1), halves[:, :, 1].flatten(0, 1)
        return Halves(first.mean((2, 3), keepdim=True), self.gn(second))

    def weigh(self, context: Halves) -> Halves:
        """A gate for each channel of the first halves, and for each position of each channel of the second."""
        channel = torch.sigmoid(self.cweight * context.channel + self.cbias)
        spatial = torch.sigmoid(self.sweight * context.spatial + self.sbias)
        return Halves(self.channel_map(self._whole(channel)), self.spatial_map(self._whole(spatial)))

    def recalibrate(
        self,
        x: Float[Tensor, "b c h w"],
        weights: Halves,
        context: Halves,  # noqa: ARG002
    ) -> Float[Tensor, "b c h w"]:
        """Multiply, and deal the channels of the map's two halves out in turn."""
        channel, spatial = (gate.unflatten(1, (self.groups, self.width)) for gate in weights)
        gates = torch.stack((channel.expand_as(spatial), spatial), 2).flatten(1, 3)
        return torch.channel_shuffle(x * gates, 2)

    def _whole(self, gate: Tensor) -> Tensor:
        """From a group like a sample back to the groups beside each other."""
        return gate.unflatten(0, (-1, self.groups)).flatten(1, 2)
