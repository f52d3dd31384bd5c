"""Multi-scale convolutional attention: what strips of several lengths say, multiplied with the features."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Gate, Map
from foveate.errors import OptionError, check_odd
from foveate.ops.initialise import normal_by_fan_out
from foveate.registry import Card, Paper, mechanism


@mechanism(
    Card(
        name="multiscale_convolutional",
        aliases=("msca",),
        title="Multi-Scale Convolutional Attention",
        paper=Paper(
            "SegNeXt: Rethinking Convolutional Attention Design for Semantic Segmentation",
            "Guo, Lu, Hou, Liu, Cheng, Hu",
            "NeurIPS 2022",
            "2209.08575",
        ),
        equation="u = depthwise₅(x), y = x · conv₁ₓ₁(u + Σ_k column_k(row_k(u))), k in {7, 11, 21}",
        reference="Visual-Attention-Network/SegNeXt @ c87bcae, mmseg/models/backbones/mscan.py (AttentionModule)",
        differences=(
            "The gate alone. The authors' attention block wraps it in two 1×1 convolutions, a GELU and a shortcut, "
            "which belong to the network.",
        ),
        evidence=(
            "Semantic segmentation by SegNeXt, whose encoder is made of it: single-scale mIoU on ADE20K of 41.1 "
            "(tiny: 4 M parameters, 7 GFLOPs), 44.3 (small: 14 M, 16), 48.5 (base: 28 M, 35) and 51.0 (large: 49 M, "
            "70). The authors' repository gives no figure for the module alone."
        ),
    )
)
class MultiscaleConvolutional(Gate):
    """Multi-scale convolutional attention: a factor for each channel and position from strips of several lengths.

    A depthwise 5×5 convolution sees the neighbourhood. On its output depthwise convolutions along the rows, each
    followed by one along the columns, see strips of several lengths; their sum, and the neighbourhood itself, pass
    through a 1×1 convolution. Its output multiplies the features as it is: no sigmoid bounds it.

    Source: Guo et al., SegNeXt, section 3.1; initialisation from the authors' code.

    Args:
        channels: Channels of the feature map.
        kernel_sizes: Lengths of the strips, odd, each once.

    Shape:
        ``(b, c, h, w)`` in and out; the map has the axes ``c``, ``h``, ``w``.

    Raises:
        OptionError: If a length is even, or there is none, or one twice.

    Example:
        >>> import torch
        >>> from foveate.catalogue import MultiscaleConvolutional
        >>> MultiscaleConvolutional(64)(torch.randn(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])
    """

    def __init__(self, channels: int, *, kernel_sizes: tuple[int, ...] | int = (7, 11, 21)) -> None:
        super().__init__()
        lengths = kernel_sizes if isinstance(kernel_sizes, tuple) else (kernel_sizes,)  # one is written without a plus
        for length in lengths:
            check_odd("kernel_sizes", length)
        if not lengths or len(set(lengths)) < len(lengths):
            raise OptionError(f"kernel_sizes must name each length once, and at least one; got {kernel_sizes!r}")
        self.conv0 = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.strips = nn.ModuleList(_strips(channels, length) for length in lengths)
        self.conv3 = nn.Conv2d(channels, channels, 1)
        self.map = Map("c", "h", "w")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights normal by the fan out of a group, biases zero, as in the authors' network."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                normal_by_fan_out(layer)

    def gather(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Each channel's neighbourhood, and its strips of every length, added."""
        near = self.conv0(x)
        total = near
        for strip in self.strips:
            total = total + strip(near)
        return total

    def weigh(self, context: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """A factor for each channel and position."""
        return self.conv3(context)


def _strips(channels: int, length: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, (1, length), padding=(0, length // 2), groups=channels),
        nn.Conv2d(channels, channels, (length, 1), padding=(length // 2, 0), groups=channels),
    )
