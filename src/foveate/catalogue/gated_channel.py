"""Gated Channel Transformation: which channels compete and which work together, judged from their norms."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Gate, Map
from foveate.errors import check_choice
from foveate.ops.precision import full_precision
from foveate.registry import Card, Paper, mechanism

# Under the roots and beside the mean, in the paper and the authors' code.
EPS = 1e-5


@mechanism(
    Card(
        name="gated_channel",
        aliases=("gct",),
        title="Gated Channel Transformation",
        paper=Paper(
            "Gated Channel Transformation for Visual Recognition", "Yang, Zhu, Wu, Yang", "CVPR 2020", "1909.11519"
        ),
        equation=("s = α √(Σ_hw x² + ε)\ny = x · (1 + tanh(γ s / √(mean_c(s²) + ε) + β))"),
        reference="z-x-yang/GCT @ 68983ed, PyTorch/GCT.py",
        differences=(
            "It starts as the identity by itself: γ and β are zero, so that the gate is one. `start_at_identity` is "
            "that start, without a blend.",
            "The authors place it before every convolution and decay no β; a place and an optimiser choose that here.",
            "The sums over positions and channels stay in float32 under autocast.",
        ),
        evidence=(
            "ImageNet top-1 of ResNet-50 from 76.2% to 77.3%, of ResNet-101 from 77.8% to 78.6%, of VGG-16 from 73.8% "
            "to 74.9%; Mask R-CNN with ResNet-50 on COCO from 37.8 to 39.8 box AP. It stands before every "
            "convolution, with three parameters a channel; one a block costs 0.1 to 0.2 points on ImageNet."
        ),
    )
)
class GatedChannel(Gate):
    """Gated Channel Transformation: a gate for each channel from its norm, relative to those of all channels.

    The norm of every channel over positions, weighted, is divided by the mean over channels; a gate of
    1 + tanh follows, with a weight and a bias for each channel. A positive weight makes channels compete, a negative
    one makes them work together.

    Source: Yang et al., Gated Channel Transformation, section 3; the other norms from the authors' code.

    Args:
        channels: Channels of the feature map.
        norm: ``"l2"``, the root of the sum of squares; ``"l1"``, the sum of magnitudes; or ``"sum"``, the same for
            features that have no sign, behind a ReLU (the authors' ``after_relu``).

    Shape:
        ``(b, c, h, w)`` in and out; the map has the axis ``c``.

    Raises:
        OptionError: If an option's value cannot work.

    Example:
        >>> import torch
        >>> from foveate.catalogue import GatedChannel
        >>> x = torch.randn(2, 64, 7, 7)
        >>> torch.equal(GatedChannel(64)(x), x)  # until it has learned something
        True
    """

    unordered = True

    def __init__(self, channels: int, *, norm: Literal["l2", "l1", "sum"] = "l2") -> None:
        super().__init__()
        check_choice("norm", norm, ("l2", "l1", "sum"))
        self.norm = norm
        self.alpha = nn.Parameter(torch.empty(channels))
        self.gamma = nn.Parameter(torch.empty(channels))
        self.beta = nn.Parameter(torch.empty(channels))
        self.map = Map("c")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """α is one, γ and β are zero, as in the paper: every gate starts at one."""
        nn.init.ones_(self.alpha)
        nn.init.zeros_(self.gamma)
        nn.init.zeros_(self.beta)

    def start_at_identity(self) -> None:
        """Become the identity function, as published: γ and β have a gradient in the first step, α in the second."""
        nn.init.zeros_(self.gamma)
        nn.init.zeros_(self.beta)

    def gather(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c"]:
        """The norm of each channel, in at least float32."""
        x = full_precision(x)
        if self.norm == "l2":
            return (x.square().sum((2, 3)) + EPS).sqrt()
        return (x.abs() if self.norm == "l1" else x).sum((2, 3))

    def weigh(self, context: Float[Tensor, "b c"]) -> Float[Tensor, "b c 1 1"]:
        """A gate for each channel from its norm among the norms of all."""
        norms = context * self.alpha
        if self.norm == "l2":
            among = (norms.square().mean(1, keepdim=True) + EPS).sqrt()
        else:
            among = norms.abs().mean(1, keepdim=True) + EPS
        return (1 + torch.tanh(self.gamma * norms / among + self.beta))[:, :, None, None]

    def recalibrate(
        self,
        x: Float[Tensor, "b c h w"],
        weights: Float[Tensor, "b c 1 1"],
        context: Tensor,  # noqa: ARG002
    ) -> Float[Tensor, "b c h w"]:
        """Multiply, in the features' type."""
        return x * weights.to(x.dtype)
