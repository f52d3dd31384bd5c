"""Normalization-based Attention: channels weigh as much as the scales that batch normalisation has learned for them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from foveate.attention import Gate, Map
from foveate.ops.norm import BatchNorm2d
from foveate.ops.precision import full_precision
from foveate.registry import Card, Paper, mechanism


@mechanism(
    Card(
        name="nam",
        title="Normalization-based Attention Module",
        paper=Paper(
            "NAM: Normalization-based Attention Module",
            "Liu, Shao, Teng, Hoffmann",
            "NeurIPS Workshops 2021",
            "2111.12419",
        ),
        equation="y = x · σ(s · norm(x)), s_c = |γ_c| / Σ_k |γ_k|, γ the norm's scales",
        reference="Christian-lyc/NAM @ 6e8d3e3, MODELS/attention.py",
        differences=(
            "The scales learn through their shares s, too, as the equation has it; the authors' code reads them there "
            "as constants, so that its gradient is not that of its output.",
            "The channel part alone, as in the authors' code: the paper's spatial part, with a norm for each position, "
            "was not released.",
            "Scales that are all zero get no share, where zero divided by zero is not a number.",
            "A training batch of one value per channel is normalised with the running statistics.",
        ),
        evidence=(
            "Image classification on CIFAR-100 and ImageNet with ResNet and MobileNet; the abstract gives no numbers. "
            "The repository of another paper (EMA) lists, with a link to this one's, 80.62% top-1 on CIFAR-100 with "
            "ResNet-50, against 77.26% without it and 80.56% with CBAM, at the plain network's 23.71 M parameters."
        ),
    )
)
class NAM(Gate):
    """Normalization-based Attention: a gate for each channel and position from batch normalisation alone.

    The scale that batch normalisation learns for a channel says how much the channel varies. Its share in the sum of
    all scales weighs the normalised feature, and a sigmoid makes it a gate.

    Source: Liu et al., NAM, section 3, channel attention.

    Args:
        channels: Channels of the feature map.

    Shape:
        ``(b, c, h, w)`` in and out; the map has the axes ``c``, ``h``, ``w``.

    Example:
        >>> import torch
        >>> from foveate.catalogue import NAM
        >>> NAM(64)(torch.randn(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])
    """

    unordered = True

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = BatchNorm2d(channels)
        self.map = Map("c", "h", "w")

    def reset_parameters(self) -> None:
        """Scales of one, shifts of zero."""
        self.norm.reset_parameters()

    def gather(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The normalised features."""
        return self.norm(x)

    def weigh(self, context: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """A gate for each channel and position, from the feature and its channel's share of the scales."""
        shares = F.normalize(full_precision(self.norm.weight).abs(), p=1.0, dim=0)
        return torch.sigmoid(context * shares.to(context.dtype)[:, None, None])
