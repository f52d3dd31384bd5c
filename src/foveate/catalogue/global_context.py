"""Global context block: one summary of the map, gathered by attention and given to every position."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Map, Update
from foveate.errors import check_at_least, check_choice
from foveate.ops.pool import global_mean, project_channels, weighted_sum
from foveate.ops.softmax import full_softmax
from foveate.registry import Card, Paper, mechanism


@mechanism(
    Card(
        name="global_context",
        aliases=("gc",),
        title="Global context block",
        paper=Paper(
            "GCNet: Non-local Networks Meet Squeeze-Excitation Networks and Beyond",
            "Cao, Xu, Lin, Wei, Hu",
            "ICCV Workshops 2019, TPAMI 2020",
            "1904.11492",
        ),
        equation="y = x + W₂ relu(LN(W₁ Σ_j α_j x_j)),  α = softmax_hw(w_kᵀ x)",
        reference="xvjiarui/GCNet @ 029db54, mmdet/ops/gcb/context_block.py",
        differences=(
            "The bottleneck has `max(2, channels // reduction)` units, where the authors multiply by a ratio of 1/16 "
            "and round down: layer normalisation of a single unit is a constant, which attends to nothing.",
            "The mask has no bias: the softmax over all positions cancels it, and it would never learn. The authors' "
            "weights give the same without it.",
            "Started at the identity, the last convolution has PyTorch's default weights and not the published zeros: "
            "the blend is the zero.",
            "The softmax and the sum that it weighs stay in float32 under autocast.",
        ),
        evidence=(
            "Mask R-CNN with ResNet-50-FPN on COCO, blocks in three stages: box AP from 37.3 to 38.5 (reduction 16) "
            "or 38.9 (4), for 4.5 or 4.6 GB of memory instead of 3.9 and 10.1 or 9.9 images a second instead of 10.6. "
            "ImageNet top-1 of ResNet-50, as the ECA paper quotes it, from 75.20% to 77.70%; 28.08 M parameters."
        ),
    )
)
class GlobalContext(Update):
    """Global context block: what the whole map says, transformed and added to every position.

    Every position gets a weight by a softmax over all of them, the same for whoever looks; the weighted sum of the
    features passes a bottleneck with layer normalisation and is added to the features (or gates them).

    Source: Cao et al., GCNet, section 4; the authors' code.

    Args:
        channels: Channels of the feature map.
        reduction: The bottleneck has ``max(2, channels // reduction)`` units.
        pooling: How positions are summed up: ``"attention"``, or ``"avg"`` for their plain mean.
        fusion: ``"add"`` a shift for each channel, ``"mul"`` by a gate for each channel, or ``"both"``, the gate first,
            each from a bottleneck of its own.

    Shape:
        ``(b, c, h, w)`` in and out. The map ``position_map`` has the axes ``h`` and ``w`` (not with average pooling),
        ``shift_map`` and ``gate_map`` the axis ``c``: what is added to each channel, and what multiplies it.

    Raises:
        OptionError: If an option's value cannot work.

    Example:
        >>> import torch
        >>> from foveate.catalogue import GlobalContext
        >>> GlobalContext(64)(torch.randn(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])
    """

    unordered = True

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        pooling: Literal["attention", "avg"] = "attention",
        fusion: Literal["add", "mul", "both"] = "add",
    ) -> None:
        super().__init__()
        check_at_least("reduction", reduction, 1)
        check_choice("pooling", pooling, ("attention", "avg"))
        check_choice("fusion", fusion, ("add", "mul", "both"))
        hidden = max(2, channels // reduction)
        self.pooling, self.fusion = pooling, fusion
        # the authors' names, so that their checkpoints load
        if pooling == "attention":
            self.conv_mask = nn.Conv2d(channels, 1, 1, bias=False)
            self.position_map = Map("h", "w")
        if fusion != "mul":
            self.channel_add_conv = _bottleneck(channels, hidden)
            self.shift_map = Map("c")
        if fusion != "add":
            self.channel_mul_conv = _bottleneck(channels, hidden)
            self.gate_map = Map("c")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The mask's weights as He et al. (fan in), the last convolutions zero, all else PyTorch's defaults."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.LayerNorm):
                layer.reset_parameters()
        if self.pooling == "attention":
            nn.init.kaiming_normal_(self.conv_mask.weight, nonlinearity="relu")
        for last in self._last():
            for parameter in last.parameters():
                nn.init.zeros_(parameter)

    def start_at_identity(self) -> None:
        """Become the identity function by the blend alone: no other zero stands behind it."""
        super().start_at_identity()
        for last in self._last():
            last.reset_parameters()

    def gather(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c 1 1"]:
        """Context modelling: the sum over positions, weighted by attention."""
        if self.pooling == "avg":
            return global_mean(x)[:, :, None, None]
        logits = project_channels(x, self.conv_mask.weight, self.conv_mask.bias)
        weights = self.position_map(full_softmax(logits.flatten(2), 2).reshape(logits.shape))
        return weighted_sum(x, weights).to(x.dtype)[:, :, None, None]

    def weigh(self, context: Float[Tensor, "b c 1 1"]) -> dict[str, Float[Tensor, "b c 1 1"]]:
        """Transform: a gate and a shift for each channel, as far as the fusion has them."""
        terms: dict[str, Tensor] = {}
        if self.fusion != "add":
            terms["gate"] = self.gate_map(torch.sigmoid(self.channel_mul_conv(context)))
        if self.fusion != "mul":
            terms["shift"] = self.shift_map(self.channel_add_conv(context))
        return terms

    def recalibrate(
        self,
        x: Float[Tensor, "b c h w"],
        weights: dict[str, Float[Tensor, "b c 1 1"]],
        context: Float[Tensor, "b c 1 1"],  # noqa: ARG002
    ) -> Float[Tensor, "b c _ _"]:
        """The update: a shift is the same for all positions, and stays as small as it is."""
        if "gate" not in weights:
            return weights["shift"]
        update = x * (weights["gate"] - 1)
        return update + weights["shift"] if "shift" in weights else update

    def _last(self) -> list[nn.Conv2d]:
        paths = ("channel_add_conv.3", "channel_mul_conv.3")
        named = dict(self.named_modules())
        return [layer for path in paths if isinstance(layer := named.get(path), nn.Conv2d)]


def _bottleneck(channels: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, hidden, 1), nn.LayerNorm([hidden, 1, 1]), nn.ReLU(), nn.Conv2d(hidden, channels, 1)
    )
