"""Style-based Recalibration: which channels matter, judged from the mean and deviation of each on its own."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Gate, Map
from foveate.ops.norm import BatchNorm1d
from foveate.ops.pool import global_mean
from foveate.ops.spread import squared_deviations
from foveate.registry import Card, Paper, mechanism

# Under the root of the deviation, in the authors' code; the paper has none.
EPS = 1e-5


@mechanism(
    Card(
        name="style_recalibration",
        aliases=("srm",),
        title="Style-based Recalibration Module",
        paper=Paper(
            "SRM: A Style-based Recalibration Module for Convolutional Neural Networks",
            "Lee, Kim, Nam",  # codespell:ignore nam
            "ICCV 2019",
            "1903.10829",
        ),
        equation="y = x · σ(norm(u · mean_hw(x) + v · std_hw(x)))",
        reference="hyunjaelee410/style-based-recalibration-module @ f6221c7, models/recalibration_modules.py",
        differences=(
            "A map of one position has a variance of zero, where the authors' unbiased estimate divides by zero and "
            "gives no number.",
            "The deviation is the root of the unbiased variance plus 1e-5, as in the authors' code; the paper divides "
            "by the number of positions and adds nothing.",
            "A training batch of one sample is normalised with the running statistics, where the authors' raises.",
        ),
        evidence=(
            "ImageNet top-1 of ResNet-50 from 75.89% to 77.13% (SE 76.80%, GE 76.75%) and of ResNet-101 from 77.40% "
            "to 78.47%. ResNet-50 goes from 25.56 M to 25.62 M parameters (SE 28.09 M) and from 3.86 to 3.88 GFLOPs."
        ),
    )
)
class StyleRecalibration(Gate):
    """Style-based Recalibration: a gate for each channel from its own mean and standard deviation.

    Two weights of the channel's own join its mean and deviation, batch normalisation and a sigmoid follow. No
    channel sees another.

    Source: Lee et al., SRM, section 3; norm and initialisation from the authors' code.

    Args:
        channels: Channels of the feature map.

    Shape:
        ``(b, c, h, w)`` in and out; the map has the axis ``c``.

    Raises:
        OptionError: From ``foveate.create``, if an option is given: there are none.

    Example:
        >>> import torch
        >>> from foveate.catalogue import StyleRecalibration
        >>> StyleRecalibration(64)(torch.randn(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])
    """

    unordered = True
    zeros = ("cfc",)

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.cfc = nn.Parameter(torch.empty(channels, 2))
        self.bn = BatchNorm1d(channels)
        self.map = Map("c")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The weights of mean and deviation are zero, as in the authors' code: every gate starts at a half."""
        nn.init.zeros_(self.cfc)
        self.bn.reset_parameters()

    def gather(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c 2"]:
        """Mean and standard deviation of each channel."""
        variance = squared_deviations(x)[1].flatten(1)
        return torch.stack([global_mean(x), (variance + EPS).sqrt().to(x.dtype)], 2)

    def weigh(self, context: Float[Tensor, "b c 2"]) -> Float[Tensor, "b c 1 1"]:
        """A gate for each channel from its own two numbers."""
        style = (context * self.cfc).sum(2)
        return torch.sigmoid(self.bn(style)).to(context.dtype)[:, :, None, None]
