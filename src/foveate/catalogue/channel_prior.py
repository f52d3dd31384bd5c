"""Channel Prior Convolutional Attention: what matters, then where for every channel by itself, at several scales."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Map, Transform
from foveate.errors import check_at_least, check_choice
from foveate.ops.pool import global_max, global_mean
from foveate.registry import Card, Paper, mechanism

# Lengths of the pairs of strip convolutions.
STRIPS = (7, 11, 21)


class Prior(NamedTuple):
    """What is gathered: the features that are gated, and their global pools."""

    features: Tensor
    pools: Tensor


class Weighted(NamedTuple):
    """The features with their channel weights applied, and the spatial weights still to come."""

    features: Tensor
    spatial: Tensor


@mechanism(
    Card(
        name="channel_prior",
        aliases=("cpca",),
        title="Channel Prior Convolutional Attention",
        paper=Paper(
            "Channel prior convolutional attention for medical image segmentation",
            "Huang, Chen, Zou, Lu, Chen",
            "Computers in Biology and Medicine 2024",
            "2306.05196",
        ),
        equation=(
            "f = gelu(W x), f' = f · (σ(MLP(mean_hw(f))) + σ(MLP(max_hw(f))))\n"
            "y = W (f' · W (d + Σ_k conv_(k×1)(conv_(1×k)(d)))), d = conv₅ₓ₅(f'), k in {7, 11, 21}, all depthwise"
        ),
        reference=("Cuthbert-Huang/CPCANet @ 550b49a, CPCANet/nnunet/network_architecture/CPCANet.py (RepBlock)"),
        differences=(
            "The default is the released module: a 1×1 convolution and GELU before, the same 1×1 convolution mixing "
            "the spatial weights, and the same once more at the end, one set of weights for all three. "
            "`definition=paper` has it only where the paper's equations do, on the spatial weights.",
            "At least one hidden unit, where C // r is zero.",
        ),
        exemptions={
            "ties_go_to_the_first": "the maximum is one of projected features: where the projection turns the order "
            "of the input round, the limit of inputs without ties is the last position (the first of the projected "
            "ones gets the gradient, as in the authors' code; `definition=paper` meets the check)",
        },
        evidence=(
            "Segmentation of medical images by a network built of it, of the heart in MRI (ACDC) and of skin lesions "
            "(ISIC 2016, PH2). The abstract claims better results than the networks compared with, at less "
            "computation, and gives no numbers; nor does the authors' repository."
        ),
    )
)
class ChannelPriorAttention(Transform):
    """Channel Prior Convolutional Attention: channel weights first, then spatial weights that differ between channels.

    The channel weights are two sigmoids, of the mean and of the maximum through one bottleneck, added. What they let
    through passes a depthwise convolution and three pairs of depthwise strips beside it; their sum, mixed over
    channels, multiplies, without a sigmoid.

    Source: Huang et al., Channel prior convolutional attention, section 3; the authors' code.

    Args:
        channels: Channels of the feature map.
        reduction: The bottleneck has ``max(1, channels // reduction)`` units.
        definition: ``"released"`` with the projections around it, as in the authors' code, or ``"paper"``.

    Shape:
        ``(b, c, h, w)`` in and out; ``channel_map`` has the axis ``c``, ``spatial_map`` the axes ``c, h, w``.

    Raises:
        OptionError: If an option's value cannot work.

    Example:
        >>> import torch
        >>> from foveate.catalogue import ChannelPriorAttention
        >>> ChannelPriorAttention(64)(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])
    """

    def __init__(
        self, channels: int, *, reduction: int = 4, definition: Literal["released", "paper"] = "released"
    ) -> None:
        super().__init__()
        check_at_least("reduction", reduction, 1)
        check_choice("definition", definition, ("released", "paper"))
        hidden = max(1, channels // reduction)
        self.projects = definition == "released"
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)
        self.local = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.strips = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, channels, (1, k), padding=(0, k // 2), groups=channels),
                nn.Conv2d(channels, channels, (k, 1), padding=(k // 2, 0), groups=channels),
            )
            for k in STRIPS
        )
        self.project = nn.Conv2d(channels, channels, 1)
        self.channel_map = Map("c")
        self.spatial_map = Map("c", "h", "w")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """PyTorch's defaults, as in the authors' code."""
        for layer in self.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                layer.reset_parameters()

    def gather(self, x: Float[Tensor, "b c h w"]) -> Prior:
        """The features, projected, and their means and maxima."""
        features = F.gelu(self.project(x)) if self.projects else x
        return Prior(features, torch.stack([global_mean(features), global_max(features)], 1))

    def weigh(self, context: Prior) -> Weighted:
        """A weight for each channel; then, from what those let through, one for each channel and position."""
        pooled = torch.sigmoid(self.fc2(torch.relu(self.fc1(context.pools))))
        features = context.features * self.channel_map(pooled.sum(1)[:, :, None, None])
        local = self.local(features)
        total = local
        for strip in self.strips:
            total = total + strip(local)
        return Weighted(features, self.spatial_map(self.project(total)))

    def recalibrate(
        self,
        x: Float[Tensor, "b c h w"],  # noqa: ARG002
        weights: Weighted,
        context: Prior,  # noqa: ARG002
    ) -> Float[Tensor, "b c h w"]:
        """Multiply by the spatial weights, and project."""
        y = weights.features * weights.spatial
        return self.project(y) if self.projects else y
