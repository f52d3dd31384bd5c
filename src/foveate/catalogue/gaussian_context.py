"""Gaussian Context Transformer: the further a channel's mean lies from those of the others, the less it counts."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Gate, Map
from foveate.errors import check_choice, check_positive
from foveate.ops.pool import global_mean
from foveate.ops.precision import full_precision
from foveate.registry import Card, Paper, mechanism

# Under the root of the deviation over channels.
EPS = 1e-5
# A learned deviation lies between LEAST and LEAST + RANGE.
RANGE, LEAST = 3.0, 1.0


@mechanism(
    Card(
        name="gaussian_context",
        aliases=("gct",),
        title="Gaussian Context Transformer",
        paper=Paper(
            "Gaussian Context Transformer",
            "Ruan, Wang, Zheng, Zheng, Zheng",
            "CVPR 2021",
            page="https://openaccess.thecvf.com/content/CVPR2021/html/Ruan_Gaussian_Context_Transformer_CVPR_2021_paper.html",
        ),
        equation=(
            "z = (mean_hw(x) - μ) / √(v + ε), μ and v the mean and variance over channels\n"
            "y = x · exp(-z² / (2c²)), c = 2 (B0) or c = 3 σ(θ) + 1 (B1)"
        ),
        reference="no code was released",
        differences=(
            "Written from a full account of the paper, whose text could not be read here. ε = 1e-5 stands under the "
            "root, so that equal means have a gradient; the account has a small constant beside the root.",
            "The bounds of a learned deviation, 1 and 4, are those that independent implementations agree on.",
            "With one channel the gate is one: there is no other channel to differ from.",
        ),
        evidence=(
            "Classification on ImageNet and detection on COCO, where it improves various networks and detectors and "
            "is better than SE and ECA, according to the abstract, which gives no numbers. With a fixed deviation it "
            "has no parameters."
        ),
    )
)
class GaussianContext(Gate):
    """Gaussian Context Transformer: a gate for each channel from how far its mean lies from the other channels'.

    The means of all channels are normalised over the channels; a Gaussian of the distance is the gate, one in the
    middle and less to either side. Nothing is learned, or one number: the Gaussian's deviation.

    Source: Ruan et al., Gaussian Context Transformer, section 3.

    Args:
        channels: Channels of the feature map.
        deviation: The Gaussian's standard deviation c (the paper's GCT-B0), or ``"learned"``: one parameter θ, from
            which it is 3 σ(θ) + 1 (GCT-B1).

    Shape:
        ``(b, c, h, w)`` in and out; the map has the axis ``c``.

    Raises:
        OptionError: If the deviation is neither positive nor ``"learned"``.

    Example:
        >>> import torch
        >>> from foveate.catalogue import GaussianContext
        >>> sum(p.numel() for p in GaussianContext(64, deviation="learned").parameters())
        1
    """

    unordered = True

    def __init__(
        self,
        channels: int,  # noqa: ARG002 (every mechanism is told; this one has nothing that depends on it)
        *,
        deviation: float | Literal["learned"] = 2.0,
    ) -> None:
        super().__init__()
        if isinstance(deviation, str):
            check_choice("a deviation that is a word", deviation, ("learned",))
        else:
            check_positive("deviation", deviation)
        self.deviation: float | Literal["learned"] = deviation
        if isinstance(deviation, str):
            self.theta = nn.Parameter(torch.empty(1))
        self.map = Map("c")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """θ is zero, as in the paper: a learned deviation starts in the middle of its bounds, at 2.5."""
        if isinstance(self.deviation, str):
            nn.init.zeros_(self.theta)

    def gather(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c"]:
        """The mean of each channel, normalised over channels, in at least float32."""
        means = full_precision(global_mean(x))
        distances = means - means.mean(1, keepdim=True)
        return distances / (distances.square().mean(1, keepdim=True) + EPS).sqrt()

    def weigh(self, context: Float[Tensor, "b c"]) -> Float[Tensor, "b c 1 1"]:
        """A Gaussian of each channel's distance."""
        if isinstance(self.deviation, str):
            deviation = RANGE * torch.sigmoid(full_precision(self.theta)) + LEAST
        else:
            deviation = self.deviation
        return torch.exp(-context.square() / (2 * deviation**2))[:, :, None, None]

    def recalibrate(
        self,
        x: Float[Tensor, "b c h w"],
        weights: Float[Tensor, "b c 1 1"],
        context: Tensor,  # noqa: ARG002
    ) -> Float[Tensor, "b c h w"]:
        """Multiply, in the features' type."""
        return x * weights.to(x.dtype)
