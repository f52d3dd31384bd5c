"""Triplet Attention: channel and column, row and channel, row and column, each pair judged across the third axis."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Gates, Map
from foveate.errors import check_bool, check_odd
from foveate.ops.extremes import max_and_mean
from foveate.ops.norm import BatchNorm2d
from foveate.registry import Card, Paper, mechanism


@mechanism(
    Card(
        name="triplet",
        title="Triplet Attention",
        paper=Paper(
            "Rotate to Attend: Convolutional Triplet Attention Module",
            "Misra, Nalamada, Arasanipalai, Hou",
            "WACV 2021",
            "2010.03045",
        ),
        equation=(
            "y = x · (A_cw + A_hc + A_hw) / 3\n"
            "A_cw = σ(norm(conv_k(Z_h(x)))), A_hc = σ(norm(conv_k(Z_w(x)))), A_hw = σ(norm(conv_k(Z_c(x))))\n"
            "Z_a(x) = [max_a(x); mean_a(x)]"
        ),
        reference="landskape-ai/triplet-attention @ 2cf02fb, triplet_attention.py",
        differences=(
            "The three weights are averaged and multiply the features once, where the authors rotate the features, "
            "multiply three times and average the products: the same number, with less memory.",
            "A training batch of one value (one sample of one position) is normalised with the running statistics.",
        ),
        evidence=(
            "ImageNet top-1 error of 22.52% with ResNet-50 and 28.91% with ResNet-18, with kernels of 7; kernels of 3 "
            "give 23.88% and 29.67%. Plain networks, as the MCA paper lists them, have 23.87% and 30.24%. It adds "
            "4,800 parameters to ResNet-50, which then has 4.169 GFLOPs instead of 4.122."
        ),
    )
)
class TripletAttention(Gates):
    """Triplet Attention: three gates, each over two axes from the maximum and the mean along the third, averaged.

    One branch looks at channels and columns, one at rows and channels, one at rows and columns. Each lays its two
    axes out as the plane of a small convolution, which so mixes channels that stand next to one another; batch
    normalisation and a sigmoid follow.

    Source: Misra et al., Rotate to Attend, section 3; kernel, norm and initialisation from the authors' code.

    Args:
        channels: Channels of the feature map.
        kernel_size: Side of the three convolutions, odd.
        no_spatial: Leave out the branch of rows and columns, and average the other two.

    Shape:
        ``(b, c, h, w)`` in and out; the maps have the axes ``c, w`` (``cw_map``), ``c, h`` (``hc_map``) and ``h, w``
        (``hw_map``).

    Raises:
        OptionError: If an option's value cannot work.

    Example:
        >>> import torch
        >>> from foveate.catalogue import TripletAttention
        >>> TripletAttention(64)(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])
    """

    def __init__(self, channels: int, *, kernel_size: int = 7, no_spatial: bool = False) -> None:  # noqa: ARG002
        super().__init__()
        check_odd("kernel_size", kernel_size)
        check_bool("no_spatial", no_spatial)
        self.cw = _branch(kernel_size)
        self.hc = _branch(kernel_size)
        self.hw = None if no_spatial else _branch(kernel_size)
        self.zeros = () if no_spatial else ("hw.1.weight",)
        self.cw_map = Map("c", "w")
        self.hc_map = Map("c", "h")
        if not no_spatial:
            self.hw_map = Map("h", "w")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As in the authors' network: the norm of rows and columns has a weight of zero, so that gate starts at 0.5."""
        for branch in (self.cw, self.hc, self.hw):
            for layer in branch or ():
                if isinstance(layer, nn.Conv2d):
                    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                elif isinstance(layer, nn.BatchNorm2d):
                    layer.reset_parameters()
                    nn.init.constant_(layer.weight, 0.0 if branch is self.hw else 1.0)

    def gather(self, x: Float[Tensor, "b c h w"]) -> dict[str, Float[Tensor, "b 2 _ _"]]:
        """Maximum, then mean, along the axis that a branch does not look at."""
        pooled = {"cw": _pool(x, 2), "hc": _pool(x, 3).transpose(2, 3)}
        return pooled if self.hw is None else {**pooled, "hw": _pool(x, 1)}

    def weigh(self, context: dict[str, Float[Tensor, "b 2 _ _"]]) -> dict[str, Float[Tensor, "b _ _ _"]]:
        """A gate for every pair of places along two axes."""
        weights = {
            "cw": torch.sigmoid(self.cw(context["cw"]))[:, 0, :, None, :],
            "hc": torch.sigmoid(self.hc(context["hc"]))[:, 0].transpose(1, 2)[..., None],
        }
        return weights if self.hw is None else {**weights, "hw": torch.sigmoid(self.hw(context["hw"]))}

    def recalibrate(
        self,
        x: Float[Tensor, "b c h w"],
        weights: dict[str, Float[Tensor, "b _ _ _"]],
        context: dict[str, Tensor],  # noqa: ARG002
    ) -> Float[Tensor, "b c h w"]:
        """Multiply by the mean of the gates."""
        first, *others = weights.values()
        total = first
        for other in others:
            total = total + other
        return x * (total / len(weights))


def _branch(kernel_size: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False), BatchNorm2d(1, momentum=0.01)
    )


def _pool(x: Tensor, axis: int) -> Tensor:
    return torch.stack(max_and_mean(x, axis), 1)
