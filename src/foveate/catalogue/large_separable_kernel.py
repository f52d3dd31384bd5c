"""Large Separable Kernel Attention: what a wide neighbourhood says, read along rows and then along columns."""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Gate, Map
from foveate.errors import check_choice
from foveate.ops.initialise import normal_by_fan_out
from foveate.registry import Card, Paper, mechanism

# for each kernel size: cells of the near strips, cells of the far strips, and how far apart the latter lie
_STRIPS = {7: (3, 3, 2), 11: (3, 5, 2), 23: (5, 7, 3), 35: (5, 11, 3), 41: (5, 13, 3), 53: (5, 17, 3)}


@mechanism(
    Card(
        name="large_separable_kernel",
        aliases=("lska",),
        title="Large Separable Kernel Attention",
        paper=Paper(
            "Large Separable Kernel Attention: Rethinking the Large Kernel Attention Design in CNN",
            "Lau, Po, Rehman",
            "Expert Systems with Applications 2024",
            "2309.01439",
        ),
        equation=(
            "y = x · conv₁ₓ₁(dilated_v(dilated_h(near_v(near_h(x))))), strips of 2d - 1 and ⌊k / d⌋ cells\n"
            "k = 23, d = 3"
        ),
        reference="StevenLauHKHK/Large-Separable-Kernel-Attention @ bb2a8d2, models/van.py (LSKA)",
        differences=(
            "The default is k = 23, which the authors' released weights have; their constructor's is 7.",
            "The gate alone. The authors' attention block wraps it in two 1×1 convolutions, a GELU and a shortcut, "
            "which belong to the network.",
        ),
        evidence=(
            "In place of the large kernel attention in VAN: comparable results in classification, detection and "
            "segmentation at less computation and memory, which grow slower with the kernel, and with larger kernels "
            "more weight on shape than on texture. The abstract gives no numbers."
        ),
    )
)
class LargeSeparableKernel(Gate):
    """Large Separable Kernel Attention: a factor for each channel and position from a wide neighbourhood.

    Large Kernel Attention with each of its two depthwise convolutions taken apart once more, into one along the rows
    and one along the columns: near ones of 2d - 1 cells, far ones of ⌊k / d⌋ cells with dilation d. A 1×1 convolution
    mixes the channels. Its output multiplies the features as it is: no sigmoid bounds it.

    Source: Lau et al., Large Separable Kernel Attention, section 3; initialisation from the authors' code.

    Args:
        channels: Channels of the feature map.
        kernel_size: k, the side of the convolution that is taken apart: 7 or 11 (d = 2), 23, 35, 41 or 53 (d = 3).

    Shape:
        ``(b, c, h, w)`` in and out; the map has the axes ``c``, ``h``, ``w``.

    Raises:
        OptionError: If the kernel size is none of the published ones.

    Example:
        >>> import torch
        >>> from foveate.catalogue import LargeSeparableKernel
        >>> LargeSeparableKernel(64, kernel_size=35)(torch.randn(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])
    """

    def __init__(self, channels: int, *, kernel_size: Literal[7, 11, 23, 35, 41, 53] = 23) -> None:
        super().__init__()
        check_choice("kernel_size", kernel_size, _STRIPS)
        near, far, dilation = _STRIPS[kernel_size]
        # the authors' names, so that their checkpoints load
        self.conv0h = _strip(channels, near, 1, along_rows=True)
        self.conv0v = _strip(channels, near, 1, along_rows=False)
        self.conv_spatial_h = _strip(channels, far, dilation, along_rows=True)
        self.conv_spatial_v = _strip(channels, far, dilation, along_rows=False)
        self.conv1 = nn.Conv2d(channels, channels, 1)
        self.map = Map("c", "h", "w")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights normal by the fan out of a group, biases zero, as in the authors' network."""
        for layer in (self.conv0h, self.conv0v, self.conv_spatial_h, self.conv_spatial_v, self.conv1):
            normal_by_fan_out(layer)

    def gather(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Each channel's neighbourhood, near and then far, each along rows and then along columns."""
        return self.conv_spatial_v(self.conv_spatial_h(self.conv0v(self.conv0h(x))))

    def weigh(self, context: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """A factor for each channel and position."""
        return self.conv1(context)


def _strip(channels: int, cells: int, dilation: int, *, along_rows: bool) -> nn.Conv2d:
    reach = cells // 2 * dilation
    kernel, padding = ((1, cells), (0, reach)) if along_rows else ((cells, 1), (reach, 0))
    return nn.Conv2d(channels, channels, kernel, padding=padding, groups=channels, dilation=dilation)
