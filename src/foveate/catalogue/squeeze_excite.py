"""Squeeze-and-Excitation: which channels matter, judged from their means."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Gate, Map
from foveate.errors import check_at_least, check_bool
from foveate.ops.pool import global_mean
from foveate.ops.squeeze import squeeze_gate
from foveate.registry import Card, Paper, mechanism


@mechanism(
    Card(
        name="squeeze_excite",
        aliases=("se",),
        title="Squeeze-and-Excitation",
        paper=Paper(
            "Squeeze-and-Excitation Networks",
            "Hu, Shen, Albanie, Sun, Wu",
            "CVPR 2018, TPAMI 2020",
            "1709.01507",
        ),
        equation="y = x · σ(W₂ relu(W₁ mean_hw(x)))",
        reference="hujie-frank/SENet @ 0262d43, models/SE-ResNet-50.prototxt (Caffe)",
        differences=(
            "At least one hidden unit: with fewer channels than the reduction the paper's C // r is zero, "
            "which leaves a constant gate of 0.5.",
        ),
        evidence=(
            "ImageNet top-1 error of ResNet-50 from 24.80% to 23.29%, of ResNet-152 from 22.42% to 21.57%, of "
            "MobileNet from 28.4% to 25.3%. ResNet-50 goes from 25.6 M to 28.1 M parameters and from 3.86 to 3.87 "
            "GFLOPs, MobileNet from 4.2 M to 4.7 M and from 569 M to 572 M multiply-adds."
        ),
    )
)
class SqueezeExcite(Gate):
    """Squeeze-and-Excitation: a gate for each channel from the means of all channels.

    The mean of every channel passes through two fully connected layers with a bottleneck between them and a
    sigmoid after them, and multiplies the channel.

    Source: Hu et al., Squeeze-and-Excitation Networks, section 3; the released Caffe networks.

    Args:
        channels: Channels of the feature map.
        reduction: The bottleneck has ``max(1, channels // reduction)`` units.
        bias: Whether the two layers have biases: the released networks do, the paper's ablations do not.

    Shape:
        ``(b, c, h, w)`` in and out; the map has the axis ``c``.

    Raises:
        OptionError: If an option's value cannot work.

    Example:
        >>> import torch
        >>> from foveate.catalogue import SqueezeExcite
        >>> SqueezeExcite(64, reduction=16)(torch.randn(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])
    """

    unordered = True

    def __init__(self, channels: int, *, reduction: int = 16, bias: bool = True) -> None:
        super().__init__()
        check_at_least("reduction", reduction, 1)
        check_bool("bias", bias)
        hidden = max(1, channels // reduction)
        self.fc1 = nn.Linear(channels, hidden, bias=bias)
        self.fc2 = nn.Linear(hidden, channels, bias=bias)
        self.zeros = ("fc1.bias",) if bias else ()
        self.map = Map("c")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights from a normal distribution of deviation 0.01, biases zero, as the group's prototxt has it."""
        for layer in (self.fc1, self.fc2):
            nn.init.normal_(layer.weight, std=0.01)
            if layer.bias is not None:  # pyright: ignore[reportUnnecessaryComparison]
                nn.init.zeros_(layer.bias)

    def gather(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c"]:
        """Squeeze: the mean of each channel."""
        return global_mean(x)

    def weigh(self, context: Float[Tensor, "b c"]) -> Float[Tensor, "b c 1 1"]:
        """Excite: a gate for each channel."""
        return torch.sigmoid(self.fc2(torch.relu(self.fc1(context))))[:, :, None, None]

    def at_once(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"] | None:
        """All steps for one sample after the other, where compiled operations are there."""
        return squeeze_gate(x, self.fc1, self.fc2, self.blend)
