"""Spatial Group-wise Enhance: where each group of channels finds what the map as a whole is about."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Gate, Map
from foveate.errors import check_at_least
from foveate.ops.groups import fitting_groups
from foveate.ops.precision import full_precision
from foveate.ops.spread import standard_deviation
from foveate.registry import Card, Paper, mechanism

EPSILON = 1e-5


@mechanism(
    Card(
        name="spatial_groupwise",
        aliases=("sge",),
        title="Spatial Group-wise Enhance",
        paper=Paper(
            "Spatial Group-wise Enhance: Improving Semantic Feature Learning in Convolutional Networks",
            "Li, Hu, Yang",
            "arXiv 2019",
            "1905.09646",
        ),
        equation="in each group: c = Σ x · mean_hw(x),  y = x · σ(γ (c - mean_hw(c)) / (std_hw(c) + 10⁻⁵) + β)",
        reference="implus/PytorchInsight @ 2864528, classification/models/imagenet/resnet_sge.py",
        differences=(
            "The deviation divides by the number of positions less one, as in the authors' code; the paper divides by "
            "the number of positions.",
            "Channels that 64 groups do not divide get the largest number of groups below that does; the authors' code "
            "fails there. Fewer than 64 channels get groups of one channel.",
            "A map of one position, whose deviation is not a number in the authors' code, counts as its own mean.",
            "Similarities and their normalisation stay in float32 under autocast.",
        ),
        evidence=(
            "ImageNet top-1 of ResNet-50 from 76.38% to 77.58% (SE 77.18%) and of ResNet-101 from 78.20% to 78.80%; "
            "Faster R-CNN with ResNet-50 on COCO from 37.5 to 38.7 AP. ResNet-50 keeps its 25.56 M parameters to two "
            "places (SE 28.09 M) and goes from 4.122 to 4.127 GFLOPs."
        ),
    )
)
class SpatialGroupwise(Gate):
    """Spatial Group-wise Enhance: a gate for each group of channels and position.

    In each group every position's features are compared with their mean over the map, by a dot product. The
    similarities are normalised over the positions of the group, scaled and shifted by two numbers a group, and a
    sigmoid makes them gates.

    Source: Li et al., Spatial Group-wise Enhance, section 3; initialisation from the authors' code.

    Args:
        channels: Channels of the feature map.
        groups: Groups of neighbouring channels; the largest number not above it that divides the channels.

    Shape:
        ``(b, c, h, w)`` in and out; the map has the axes ``group``, ``h``, ``w``, or ``h`` and ``w`` with one group.

    Raises:
        OptionError: If the number of groups is not a positive whole number.

    Example:
        >>> import torch
        >>> from foveate.catalogue import SpatialGroupwise
        >>> SpatialGroupwise(256)(torch.randn(2, 256, 7, 7)).shape
        torch.Size([2, 256, 7, 7])
    """

    unordered = True

    def __init__(self, channels: int, *, groups: int = 64) -> None:
        super().__init__()
        check_at_least("groups", groups, 1)
        self.groups = fitting_groups(channels, groups)
        self.weight = nn.Parameter(torch.empty(self.groups, 1, 1))
        self.bias = nn.Parameter(torch.empty(self.groups, 1, 1))
        self.map = Map("h", "w") if self.groups == 1 else Map("group", "h", "w")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Scale zero and shift one, as in the authors' code: every gate starts at σ(1)."""
        nn.init.zeros_(self.weight)
        nn.init.ones_(self.bias)

    def gather(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b g h w"]:
        """How similar each position is to the mean of its group, normalised over positions."""
        grouped = full_precision(x).unflatten(1, (self.groups, -1))
        similarity = (grouped * grouped.mean((3, 4), keepdim=True)).sum(2)
        centred = similarity - similarity.mean((2, 3), keepdim=True)
        deviation = standard_deviation(similarity, (2, 3))[:, :, None, None]
        return (centred / (deviation + EPSILON)).to(x.dtype)

    def weigh(self, context: Float[Tensor, "b g h w"]) -> Float[Tensor, "b g h w"]:
        """A gate for each group and position."""
        return torch.sigmoid(self.weight * context + self.bias)

    def recalibrate(
        self,
        x: Float[Tensor, "b c h w"],
        weights: Float[Tensor, "b g h w"],
        context: Tensor,  # noqa: ARG002
    ) -> Float[Tensor, "b c h w"]:
        """Multiply all channels of a group by its gates."""
        return (x.unflatten(1, (self.groups, -1)) * weights[:, :, None]).flatten(1, 2)
