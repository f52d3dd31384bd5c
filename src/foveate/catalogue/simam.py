"""SimAM: which channels and positions matter, judged without parameters from how much they stand out."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from foveate.attention import Gate, Map
from foveate.errors import check_positive
from foveate.ops.deviations import gate_deviations
from foveate.ops.gate import gate
from foveate.ops.sigmoid import scaled_sigmoid
from foveate.ops.spread import standardised_squares
from foveate.registry import Card, Paper, mechanism


@mechanism(
    Card(
        name="simam",
        title="Simple, Parameter-Free Attention Module",
        paper=Paper(
            "SimAM: A Simple, Parameter-Free Attention Module for Convolutional Neural Networks",
            "Yang, Zhang, Li, Xie",
            "ICML 2021",
            page="https://proceedings.mlr.press/v139/yang21o.html",
        ),
        equation="y = x · σ(d / (4 (v + λ)) + 1/2), d = (x - mean_hw(x))², v = Σ_hw d / (H W - 1)",
        reference="ZjjConan/SimAM @ ae98f43, networks/attentions/simam_module.py",
        differences=(
            "The variance is divided by H·W - 1, as in the paper's listing and the authors' code; the paper's "
            "equation 5 divides by H·W.",
            "On a map of 1×1 the variance is zero and the gate σ(1/2), where the authors' code divides zero by zero.",
            "Distances and variance stay in float32 in half precision, where a square leaves the range at 256.",
        ),
        evidence=(
            "ImageNet top-1: 71.31% with ResNet-18, 77.45% with ResNet-50, 78.65% with ResNet-101, 72.36% with "
            "MobileNetV2; Faster R-CNN with ResNet-50 on COCO 39.2 AP. The authors' repository has no plain networks "
            "beside them. It has no parameters; ResNet-50 with it has 25.56 M and 4.11 GFLOPs."
        ),
    )
)
class SimAM(Gate):
    """SimAM: a gate for each channel and position, larger the farther its feature lies from its channel's mean.

    A neuron is important if a linear separation from the other neurons of its channel costs little energy. The
    smallest such energy has a closed form, whose inverse passes through a sigmoid. There is nothing to learn.

    Source: Yang et al., SimAM, section 3.

    Args:
        channels: Channels of the feature map; any will do.
        e_lambda: The regularisation λ of the energy: 0.0001 by default as in the paper, 0.1 in the commands that the
            authors give for training on ImageNet.

    Shape:
        ``(b, c, h, w)`` in and out; the map has the axes ``c``, ``h``, ``w``.

    Raises:
        OptionError: If λ is not positive.

    Example:
        >>> import torch
        >>> from foveate.catalogue import SimAM
        >>> SimAM(64)(torch.randn(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])
    """

    unordered = True

    def __init__(self, channels: int, *, e_lambda: float = 1e-4) -> None:  # noqa: ARG002 (every mechanism is told)
        super().__init__()
        check_positive("e_lambda", e_lambda)
        self.e_lambda = e_lambda
        self.map = Map("c", "h", "w")

    def reset_parameters(self) -> None:
        """Nothing: it has none."""

    def gather(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Squared distances from the mean of each channel, over its variance."""
        return standardised_squares(x, self.e_lambda)

    def weigh(self, context: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """A gate for each channel and position, from the inverse of its energy."""
        return scaled_sigmoid(context, 0.25, 0.5)

    def recalibrate(
        self,
        x: Float[Tensor, "b c h w"],
        weights: Float[Tensor, "b c h w"],
        context: Float[Tensor, "b c h w"],  # noqa: ARG002
    ) -> Float[Tensor, "b c h w"]:
        """Multiply, in the features' type."""
        return gate(x, weights.to(x.dtype))

    def at_once(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"] | None:
        """All steps while a channel is in the cache, where compiled operations are there."""
        return None if self.blend is not None else gate_deviations(x, self.e_lambda)
