"""Bottleneck Attention Module: channels and positions judged side by side, and weighed by one gate."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Gate, Map
from foveate.errors import check_at_least, check_choice
from foveate.ops.norm import BatchNorm1d, BatchNorm2d
from foveate.ops.pool import global_mean
from foveate.registry import Card, Paper, mechanism


class Summary(NamedTuple):
    """What the two branches gather.

    Attributes:
        means: The mean of each channel.
        surroundings: Reduced features that have seen what is around them.
    """

    means: Float[Tensor, "b c"]
    surroundings: Float[Tensor, "b hidden h w"]


@mechanism(
    Card(
        name="bam",
        title="Bottleneck Attention Module",
        paper=Paper("BAM: Bottleneck Attention Module", "Park, Woo, Lee, Kweon", "BMVC 2018", "1807.06514"),
        equation="y = x · (1 + σ(MLP(mean_hw(x)) · f(x)))   (combine=product)   or with +   (combine=sum, the paper's)",
        reference="Jongchan/attention-module @ 459efad, MODELS/bam.py and model_resnet.py",
        differences=(
            "The logits of the two branches are multiplied, as in the authors' code and for their released weights; "
            "the paper adds them (`combine=sum`).",
            "Norms stand where the authors' code has them, before every ReLU and at the end of no branch; the paper "
            "writes one at the end of each.",
            "The channel branch takes the mean of any map, where the authors' code pools a square one.",
            "At least one hidden unit, where C // r is zero.",
            "A training batch of one value per channel, as the channel branch has with one sample, is normalised with "
            "the running statistics.",
        ),
        evidence=(
            "ImageNet top-1 error: 24.02% with ResNet-50 and 22.44% with ResNet-101 (24.56% and 23.38% without, in "
            "the same authors' CBAM paper), and no gain with ResNeXt-50 (22.85%). Three modules between the stages "
            "add 0.36 M parameters to ResNet-50's 25.56 M."
        ),
    )
)
class BAM(Gate):
    """Bottleneck Attention Module: one gate between one and two for each channel and position.

    The channel branch is a small network on the means of all channels. The spatial branch reduces the channels,
    looks around with two dilated 3×3 convolutions, and projects to one number a position. One sigmoid of both, plus
    one, multiplies the features. It is made for the bottlenecks of a network, after a stage and before the next one
    shrinks the map.

    Source: Park et al., BAM, section 3; norms, combination and initialisation from the authors' code.

    Args:
        channels: Channels of the feature map.
        reduction: Both branches work on ``max(1, channels // reduction)`` units.
        dilation: Spacing of the 3×3 convolutions' taps.
        combine: ``"product"`` or ``"sum"`` of the branches' logits.

    Shape:
        ``(b, c, h, w)`` in and out; the map has the axes ``c``, ``h``, ``w``.

    Raises:
        OptionError: If an option's value cannot work.

    Example:
        >>> import torch
        >>> from foveate.catalogue import BAM
        >>> BAM(64)(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        dilation: int = 4,
        combine: Literal["product", "sum"] = "product",
    ) -> None:
        super().__init__()
        check_at_least("reduction", reduction, 1)
        check_at_least("dilation", dilation, 1)
        check_choice("combine", combine, ("product", "sum"))
        hidden = max(1, channels // reduction)
        self.combine: Literal["product", "sum"] = combine
        self.mlp = nn.Sequential(
            nn.Linear(channels, hidden), BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, channels)
        )
        self.surround = nn.Sequential(nn.Conv2d(channels, hidden, 1), BatchNorm2d(hidden), nn.ReLU())
        for _ in range(2):
            self.surround.append(nn.Conv2d(hidden, hidden, 3, padding=dilation, dilation=dilation))
            self.surround.extend((BatchNorm2d(hidden), nn.ReLU()))
        self.project = nn.Conv2d(hidden, 1, 1)
        self.map = Map("c", "h", "w")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Convolutions as He et al. (fan out), linear layers as PyTorch's default, all biases zero, as the authors."""
        for layer in self.modules():
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                layer.reset_parameters()
            elif isinstance(layer, nn.Conv2d | nn.Linear):
                layer.reset_parameters()
                if isinstance(layer, nn.Conv2d):
                    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                if layer.bias is not None:  # pyright: ignore[reportUnnecessaryComparison]
                    nn.init.zeros_(layer.bias)

    def gather(self, x: Float[Tensor, "b c h w"]) -> Summary:
        """The mean of each channel, and reduced features that have looked around."""
        return Summary(global_mean(x), self.surround(x))

    def weigh(self, context: Summary) -> Float[Tensor, "b c h w"]:
        """One gate for each channel and position, from a logit for each channel and one for each position."""
        what = self.mlp(context.means)[:, :, None, None]
        where = self.project(context.surroundings)
        return 1 + torch.sigmoid(what * where if self.combine == "product" else what + where)
