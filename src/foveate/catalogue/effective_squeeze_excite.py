"""Effective Squeeze-Excitation: which channels matter, judged from all means without a bottleneck."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Gate, Map
from foveate.errors import check_choice
from foveate.ops.pool import global_mean
from foveate.registry import Card, Paper, mechanism


@mechanism(
    Card(
        name="effective_squeeze_excite",
        aliases=("ese",),
        title="Effective Squeeze-Excitation",
        paper=Paper(
            "CenterMask: Real-Time Anchor-Free Instance Segmentation",
            "Lee, Park",
            "CVPR 2020",
            "1911.06667",
        ),
        equation="y = x · h(W mean_hw(x) + b), h(z) = min(max(z + 3, 0), 6) / 6",
        reference="youngwanLEE/vovnet-detectron2 @ b81c813, vovnet/vovnet.py",
        differences=(
            "The gate is the hard sigmoid of the authors' code and of all released weights, where the paper writes a "
            "sigmoid; `gate=sigmoid` is the paper's.",
        ),
        evidence=(
            "Detection and instance segmentation with VoVNetV2, in which it is one of two changes. In the authors' "
            "repository Faster R-CNN on COCO has 42.7 AP with V2-39-FPN and 40.2 with ResNet-50-FPN, both in 0.047 s, "
            "with 52.6 M and 51.2 M parameters. The abstract gives no figure for the gate alone."
        ),
    )
)
class EffectiveSqueezeExcite(Gate):
    """Effective Squeeze-Excitation: a gate for each channel from the means of all channels, through one layer.

    The bottleneck of Squeeze-and-Excitation loses information on the channels; here one fully connected layer with
    as many outputs as inputs takes its place.

    Source: Lee and Park, CenterMask, section 3.3 (VoVNetV2); gate and initialisation from the authors' code.

    Args:
        channels: Channels of the feature map.
        gate: What makes a weight of a logit: ``"hard_sigmoid"`` or ``"sigmoid"``.

    Shape:
        ``(b, c, h, w)`` in and out; the map has the axis ``c``.

    Raises:
        OptionError: If the gate does not exist.

    Example:
        >>> import torch
        >>> from foveate.catalogue import EffectiveSqueezeExcite
        >>> EffectiveSqueezeExcite(64)(torch.randn(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])
    """

    unordered = True

    def __init__(self, channels: int, *, gate: Literal["hard_sigmoid", "sigmoid"] = "hard_sigmoid") -> None:
        super().__init__()
        check_choice("gate", gate, ("hard_sigmoid", "sigmoid"))
        self.hard = gate == "hard_sigmoid"
        self.fc = nn.Linear(channels, channels)
        self.map = Map("c")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights as He et al. (fan in), the bias as PyTorch's default, as in the authors' network."""
        self.fc.reset_parameters()
        nn.init.kaiming_normal_(self.fc.weight)

    def gather(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c"]:
        """The mean of each channel."""
        return global_mean(x)

    def weigh(self, context: Float[Tensor, "b c"]) -> Float[Tensor, "b c 1 1"]:
        """A gate for each channel from all means."""
        logits = self.fc(context)
        # not F.hardsigmoid: its gradient in float64 has the sixth of float32
        weights = F.relu6(logits + 3) / 6 if self.hard else torch.sigmoid(logits)
        return weights[:, :, None, None]
