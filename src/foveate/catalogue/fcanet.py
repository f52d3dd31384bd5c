"""Frequency Channel Attention: which channels matter, judged from one frequency of each."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Gate, Map
from foveate.errors import OptionError, check_at_least, check_choice, check_size
from foveate.ops.cosines import SIDE, cosine_sums
from foveate.registry import Card, Paper, mechanism

# Frequencies along height and width on a map of 7×7, in the authors' order: `top` from the one that is best on its
# own, as they measured it, `low` from the lowest, `bottom` from the worst.
_ORDER = {
    "top": "00 01 60 05 02 10 12 40 50 16 30 04 06 03 35 22 46 63 33 53 55 21 61 52 54 32 31 41 23 20 65 13",
    "low": "00 01 10 11 02 20 21 12 22 03 30 40 04 13 31 05 14 23 32 41 50 06 15 24 33 42 51 60 16 25 34 43",
    "bottom": "66 14 34 36 26 43 11 24 44 45 56 15 42 62 25 51 64 13 65 20 23 41 31 32 54 52 61 21 55 53 33 63",
}
MOST = 32


@mechanism(
    Card(
        name="fcanet",
        aliases=("fca",),
        title="Frequency Channel Attention",
        paper=Paper("FcaNet: Frequency Channel Attention Networks", "Qin, Zhang, Wu, Li", "ICCV 2021", "2012.11879"),
        equation="y = x · σ(W₂ relu(W₁ f)), f_c = Σ_hw x_c · B_(u,v), (u, v) the frequency of the group of channel c",
        reference="cfzd/FcaNet @ aa5fb63, model/layer.py",
        differences=(
            "The cosines are computed from the options and are no part of the state; the authors' checkpoints have "
            "them as `att.dct_layer.weight`, which can be left out.",
            "On a side shorter than seven the authors' scaled frequencies are all zero, and every coefficient a mean; "
            "here the grid has at least seven bins a side, and the map is spread over them as in adaptive pooling.",
            "Where the channels cannot be split evenly, the first groups have one more; the authors' refuses.",
            "A map of another size is not pooled: the cosines are, which is the same sum and deterministic on a GPU.",
            "At least one hidden unit, where C // r is zero.",
        ),
        evidence=(
            "ImageNet top-1 of 75.07%, 78.52%, 79.64% and 80.08% with ResNet-34, 50, 101 and 152. In the authors' "
            "repository fixed cosines give ResNet-50 78.57%, filters learned from cosines 78.35%, learned from random "
            "ones 77.91% and fixed random ones 77.74%. It has as many parameters as SE without biases."
        ),
    )
)
class FcaNet(Gate):
    """Frequency Channel Attention: a gate for each channel from one coefficient of its cosine transform.

    A mean is the lowest frequency of a discrete cosine transform. Here the channels are split into groups, and each
    group is summarised by a frequency of its own; the bottleneck of Squeeze-and-Excitation, without biases, follows.

    Source: Qin et al., FcaNet, section 3; the order of frequencies and their scaling from the authors' code.

    Args:
        channels: Channels of the feature map.
        selection: Which frequencies: the ``"top"`` ones on their own, the ``"low"`` ones or the ``"bottom"`` ones.
        frequencies: How many of them, up to 32; into as many groups go the channels.
        reduction: The bottleneck has ``max(1, channels // reduction)`` units.
        size: Height and width of the map that the cosines are made for; 7 by 7 unless it is given. Maps of other
            sizes count by their means over as many bins.

    Shape:
        ``(b, c, h, w)`` in and out; the map has the axis ``c``.

    Raises:
        OptionError: If an option's value cannot work.

    Example:
        >>> import torch
        >>> from foveate.catalogue import FcaNet
        >>> FcaNet(64, size=(14, 14))(torch.randn(2, 64, 14, 14)).shape
        torch.Size([2, 64, 14, 14])
    """

    def __init__(
        self,
        channels: int,
        *,
        selection: Literal["top", "low", "bottom"] = "top",
        frequencies: int = 16,
        reduction: int = 16,
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        check_choice("selection", selection, _ORDER)
        check_at_least("frequencies", frequencies, 1)
        if frequencies > MOST:
            raise OptionError(f"frequencies must be a whole number up to {MOST}, not {frequencies}: no more are ranked")
        check_at_least("reduction", reduction, 1)
        if size is not None:
            check_size("size", size)
        self.frequencies = [(int(u), int(v)) for u, v in _ORDER[selection].split()[:frequencies]]
        height, width = size or (SIDE, SIDE)
        self.grid = (max(SIDE, height), max(SIDE, width))
        hidden = max(1, channels // reduction)
        self.fc1 = nn.Linear(channels, hidden, bias=False)
        self.fc2 = nn.Linear(hidden, channels, bias=False)
        self.map = Map("c")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """PyTorch's defaults, as in the authors' code."""
        self.fc1.reset_parameters()
        self.fc2.reset_parameters()

    def gather(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c"]:
        """One coefficient of each channel."""
        return cosine_sums(x, self.frequencies, self.grid)

    def weigh(self, context: Float[Tensor, "b c"]) -> Float[Tensor, "b c 1 1"]:
        """A gate for each channel from all coefficients."""
        return torch.sigmoid(self.fc2(torch.relu(self.fc1(context))))[:, :, None, None]
