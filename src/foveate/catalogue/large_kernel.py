"""Large Kernel Attention: what a wide neighbourhood says, multiplied with the features."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Gate, Map
from foveate.errors import OptionError, check_at_least
from foveate.ops.initialise import normal_by_fan_out
from foveate.registry import Card, Paper, mechanism


@mechanism(
    Card(
        name="large_kernel",
        aliases=("lka",),
        title="Large Kernel Attention",
        paper=Paper("Visual Attention Network", "Guo, Lu, Liu, Cheng, Hu", "CVMJ 2023", "2202.09741"),
        equation="y = x · conv₁ₓ₁(dilated(depthwise(x))), of sides 2d - 1 and ⌈K / d⌉; K = 21, d = 3",
        reference="Visual-Attention-Network/VAN-Classification @ e19779b, models/van.py (LKA)",
        differences=(
            "The gate alone. The paper's attention block wraps it in two 1×1 convolutions, a GELU and a shortcut, "
            "which belong to the network.",
        ),
        evidence=(
            "Figures are of the network it was made for, with its convolutions around it: ImageNet top-1 of 75.4% for "
            "VAN-B0 (4.1 M parameters, 0.9 GFLOPs), 81.1% for B1 (13.9 M, 2.5), 82.8% for B2 (26.6 M, 5.0) and 83.9% "
            "for B3 (44.8 M, 9.0). The authors' repository gives none for the gate in another network."
        ),
    )
)
class LargeKernel(Gate):
    """Large Kernel Attention: a factor for each channel and position from a wide neighbourhood.

    A large convolution is taken apart: a depthwise one of side 2d - 1, a depthwise one of side ⌈K / d⌉ with dilation
    d, and a 1×1 one that mixes channels. Together they reach K positions and more. Their output multiplies the
    features as it is: no sigmoid bounds it.

    Source: Guo et al., Visual Attention Network, section 3.1; initialisation from the authors' code.

    Args:
        channels: Channels of the feature map.
        kernel_size: K, the side of the large convolution that is taken apart.
        dilation: d. ⌈K / d⌉ must be odd, to have a centre.

    Shape:
        ``(b, c, h, w)`` in and out; the map has the axes ``c``, ``h``, ``w``.

    Raises:
        OptionError: If kernel size and dilation do not fit together.

    Example:
        >>> import torch
        >>> from foveate.catalogue import LargeKernel
        >>> LargeKernel(64)(torch.randn(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])
    """

    def __init__(self, channels: int, *, kernel_size: int = 21, dilation: int = 3) -> None:
        super().__init__()
        check_at_least("kernel_size", kernel_size, 1)
        check_at_least("dilation", dilation, 1)
        far = -(-kernel_size // dilation)
        if far % 2 == 0:
            raise OptionError(
                f"a kernel of {kernel_size} with dilation {dilation} has {far} cells a side and no centre; "
                f"with this dilation {(far - 1) * dilation} and {(far + 1) * dilation} have one"
            )
        # the authors' names, so that their checkpoints load
        self.conv0 = nn.Conv2d(channels, channels, 2 * dilation - 1, padding=dilation - 1, groups=channels)
        self.conv_spatial = nn.Conv2d(
            channels, channels, far, padding=far // 2 * dilation, groups=channels, dilation=dilation
        )
        self.conv1 = nn.Conv2d(channels, channels, 1)
        self.map = Map("c", "h", "w")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights normal by the fan out of a group, biases zero, as in the authors' network."""
        for layer in (self.conv0, self.conv_spatial, self.conv1):
            normal_by_fan_out(layer)

    def gather(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Each channel's neighbourhood, near and then far."""
        return self.conv_spatial(self.conv0(x))

    def weigh(self, context: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """A factor for each channel and position."""
        return self.conv1(context)
