"""Global Response Normalization: channels compete by the size of their responses."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Map, Transform
from foveate.ops.pool import global_l2
from foveate.ops.precision import full_precision
from foveate.registry import Card, Paper, mechanism

# What keeps the quotient finite where all responses are zero, in the paper's listing and the authors' code.
EPSILON = 1e-6


@mechanism(
    Card(
        name="grn",
        aliases=("global_response_norm",),
        title="Global Response Normalization",
        paper=Paper(
            "ConvNeXt V2: Co-designing and Scaling ConvNets with Masked Autoencoders",
            "Woo, Debnath, Hu, Chen, Liu, Kweon, Xie",
            "CVPR 2023",
            "2301.00808",
        ),
        equation="y = x + γ · x · n + β, n_c = |x_c| / mean_k |x_k|, |x_c| = √Σ_hw x_c²",
        reference="facebookresearch/ConvNeXt-V2 @ 2553895, models/utils.py",
        differences=(
            "Features are (b, c, h, w), where the authors' code has channels last; there the module sits in the middle "
            "of each block, on four times the block's channels.",
            "γ and β start at zero, as published. In a start at the identity the blend is what is zero, and γ is one.",
            "The gradient at a channel of zeros is zero, and sums of squares stay in float32 in half precision.",
        ),
        evidence=(
            "Introduced with ConvNeXt V2 and a masked autoencoder that trains it before: the base network then has "
            "84.9% top-1 on ImageNet at 224×224, with 89 M parameters and 15.4 GFLOPs. The abstract says that such "
            "pre-training does poorly with the plain network, and gives no figure for the layer alone."
        ),
    )
)
class GlobalResponseNorm(Transform):
    """Global Response Normalization: each channel is weighed by its size relative to the mean of all channels' sizes.

    A channel's size is the root of its sum of squares over all positions. Learned scales and shifts, both zero at
    first, say how much of the weighed features is added to the features.

    Source: Woo et al., ConvNeXt V2, section 3.2.

    Args:
        channels: Channels of the feature map.

    Shape:
        ``(b, c, h, w)`` in and out; the map has the axis ``c``.

    Example:
        >>> import torch
        >>> from foveate.catalogue import GlobalResponseNorm
        >>> x = torch.randn(2, 64, 7, 7)
        >>> torch.equal(GlobalResponseNorm(64)(x), x)
        True
    """

    unordered = True
    zeros = ("weight",)

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.map = Map("c")

    def reset_parameters(self) -> None:
        """Scale and shift zero, as published: nothing is added at first."""
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def gather(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c"]:
        """The size of each channel."""
        return global_l2(full_precision(x))

    def weigh(self, context: Float[Tensor, "b c"]) -> Float[Tensor, "b c 1 1"]:
        """Each channel's size relative to the mean of all."""
        return self.map((context / (context.mean(1, keepdim=True) + EPSILON))[:, :, None, None])

    def recalibrate(
        self,
        x: Float[Tensor, "b c h w"],
        weights: Float[Tensor, "b c 1 1"],
        context: Float[Tensor, "b c"],  # noqa: ARG002
    ) -> Float[Tensor, "b c h w"]:
        """The features, their weighed and scaled copy, and a shift; the first two in one product."""
        scale = 1 + self.weight[:, None, None] * weights
        return x * scale.to(x.dtype) + self.bias[:, None, None]
