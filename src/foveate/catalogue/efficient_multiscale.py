"""Efficient Multi-Scale Attention: where in each group of channels, judged by two branches that look at each other."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Gate, Map
from foveate.errors import check_at_least
from foveate.ops.groups import GroupNorm, check_groups, fitting_groups
from foveate.ops.matmul import full_matmul
from foveate.ops.softmax import full_softmax
from foveate.ops.strips import column_means, row_means
from foveate.registry import Card, Paper, mechanism

# The authors' default number of groups.
FACTOR = 32


class Branches(NamedTuple):
    """The features of the two branches, a group like a sample."""

    gated: Tensor
    local: Tensor


@mechanism(
    Card(
        name="efficient_multiscale",
        aliases=("ema",),
        title="Efficient Multi-Scale Attention",
        paper=Paper(
            "Efficient Multi-Scale Attention Module with Cross-Spatial Learning",
            "Ouyang, He, Zhang, Luo, Guo, Zhan, Huang",
            "ICASSP 2023",
            "2305.13563",
        ),
        equation=(
            "[h; w] = conv₁([mean_w(x); mean_h(x)]), u = GN(x · σ(h) · σ(w)), v = conv₃(x), in each group\n"
            "y = x · σ(softmax_c(mean_hw(u))ᵀ v + softmax_c(mean_hw(v))ᵀ u)"
        ),
        reference=(
            "YOLOonMe/EMA-attention-module @ afc37ec, EMA_attention_module (no licence: run for its numbers, "
            "not copied)"
        ),
        differences=(
            "Without `factor` there are as many groups as fit: the largest divisor of C up to 32. The authors' code "
            "always has 32 and fails where they do not divide the channels (48), or are fewer (16).",
            "A group of one value, which has no variance, keeps its norm's bias; the authors' code raises if it is the "
            "batch's only one.",
        ),
        evidence=(
            "CIFAR-100 top-1 of ResNet-50 from 77.26% to 80.69%, with 23.85 M parameters instead of 23.71 M. ImageNet "
            "top-1 of MobileNetV2 is 74.32%, with 3.55 M parameters and 306 MFLOPs (coordinate attention: 74.3%, 3.95 "
            "M, 310); trained in the same way with and without it for 200 epochs, 72.55% and 72.19%."
        ),
    )
)
class EfficientMultiscaleAttention(Gate):
    """Efficient Multi-Scale Attention: one gate for every position and group, from a 1×1 and a 3×3 branch.

    The channels go into groups, and all groups share what is learned. One branch gates the features by row and by
    column, from means that pass a 1×1 convolution, and normalises them; the other is a 3×3 convolution. Each branch's
    means, through a softmax over channels, weigh the other's channels; the sum of both, through a sigmoid, is the gate.

    Source: Ouyang et al., Efficient Multi-Scale Attention, section 3.

    Args:
        channels: Channels of the feature map.
        factor: Into how many groups they go; ``None`` is the largest number that fits, 32 at most, as in the authors'
            code.

    Shape:
        ``(b, c, h, w)`` in and out; the map has the axes ``c``, ``h``, ``w``, with one channel for each group.

    Raises:
        OptionError: If the channels cannot be split into so many groups.

    Example:
        >>> import torch
        >>> from foveate.catalogue import EfficientMultiscaleAttention
        >>> EfficientMultiscaleAttention(64)(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])
    """

    def __init__(self, channels: int, *, factor: int | None = None) -> None:
        super().__init__()
        if factor is not None:
            check_at_least("factor", factor, 1)
            check_groups("factor", channels, factor)
        self.groups = fitting_groups(channels, FACTOR) if factor is None else factor
        width = channels // self.groups
        # the authors' names, so that their checkpoints load
        self.gn = GroupNorm(width, width)
        self.conv1x1 = nn.Conv2d(width, width, 1)
        self.conv3x3 = nn.Conv2d(width, width, 3, padding=1)
        self.map = Map("c", "h", "w")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """PyTorch's defaults, as in the authors' code."""
        for layer in (self.gn, self.conv1x1, self.conv3x3):
            layer.reset_parameters()

    def gather(self, x: Float[Tensor, "b c h w"]) -> Branches:
        """Each group gated by its rows and columns and normalised, and each group convolved."""
        groups = x.unflatten(1, (self.groups, -1)).flatten(0, 1)
        rows, columns = row_means(groups)[:, :, :, None], column_means(groups)[:, :, None]
        # a 1×1 convolution of one behind the other is a 1×1 convolution of each
        gates = torch.sigmoid(self.conv1x1(rows)) * torch.sigmoid(self.conv1x1(columns))
        return Branches(self.gn(groups * gates), self.conv3x3(groups))

    def weigh(self, context: Branches) -> Float[Tensor, "b g h w"]:
        """Each branch's channels, weighted by what the other's means say."""
        logits = _across(context.gated, context.local) + _across(context.local, context.gated)
        weights = torch.sigmoid(logits).to(context.local.dtype).reshape(context.local[:, :1].shape)
        return weights.unflatten(0, (-1, self.groups)).flatten(1, 2)

    def recalibrate(
        self,
        x: Float[Tensor, "b c h w"],
        weights: Float[Tensor, "b g h w"],
        context: Branches,  # noqa: ARG002
    ) -> Float[Tensor, "b c h w"]:
        """Multiply every channel by its group's gate."""
        return (x.unflatten(1, (self.groups, -1)) * weights[:, :, None]).flatten(1, 2)


def _across(asking: Tensor, asked: Tensor) -> Tensor:
    share = full_softmax(asking.mean((2, 3)), 1)
    return full_matmul(share[:, None], asked.flatten(2))
