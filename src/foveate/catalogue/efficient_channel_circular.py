"""Circular efficient channel attention: a gate for each channel from its neighbours on a ring of channels."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Gate, Map
from foveate.errors import check_odd
from foveate.ops.pool import global_mean
from foveate.ops.width import odd_width
from foveate.registry import Card, Paper, mechanism


@mechanism(
    Card(
        name="efficient_channel_circular",
        aliases=("ceca",),
        title="Circular Efficient Channel Attention",
        paper=Paper(
            "ECA-Net: Efficient Channel Attention for Deep Convolutional Neural Networks",
            "Wang, Wu, Zhu, Li, Zuo, Hu",
            "CVPR 2020",
            "1910.03151",
        ),
        equation="y = x · σ(conv_k(mean_hw(x))) on a ring of channels, k = max(3, |(log₂ C + 1) / 2|_odd)",
        reference="huggingface/pytorch-image-models @ v1.0.31, timm/layers/eca.py (CecaModule)",
        differences=(
            "No paper has it: it is timm's variant of the paper's mechanism, which pads with zeros.",
            "Kernels of any odd size run on any number of channels, around the ring more than once if need be; timm's "
            "padding reaches around at most once.",
            "timm's experiment with a nonlinearity and a bias before the gate is not here.",
        ),
        evidence=(
            "None of its own: it is a variant of ECA in timm, without a paper and without published results. What "
            "ECA's paper reports, with zeros beyond the ends, is on that mechanism's card; it does not say how much a "
            "ring changes."
        ),
    )
)
class CircularEfficientChannelAttention(Gate):
    """Circular efficient channel attention: a gate for each channel from the means of its neighbours on a ring.

    One convolution without bias runs along the channel axis, the first channel following the last; a sigmoid follows.
    Channels have no order that ends anywhere, so that none should have fewer neighbours than others.

    Source: timm's CecaModule, after Wang et al., ECA-Net, section 3.

    Args:
        channels: Channels of the feature map.
        kernel_size: Width of the convolution, odd; ``None`` computes it from the channels, at least 3.

    Shape:
        ``(b, c, h, w)`` in and out; the map has the axis ``c``.

    Raises:
        OptionError: If the kernel size is not odd and positive.

    Example:
        >>> import torch
        >>> from foveate.catalogue import CircularEfficientChannelAttention
        >>> CircularEfficientChannelAttention(256).conv.kernel_size
        (5,)
    """

    unordered = True

    def __init__(self, channels: int, *, kernel_size: int | None = None) -> None:
        super().__init__()
        size = max(3, odd_width(channels)) if kernel_size is None else kernel_size
        check_odd("kernel_size", size)
        self.conv = nn.Conv1d(1, 1, size, bias=False)
        self.map = Map("c")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """PyTorch's default for a convolution, as in timm."""
        self.conv.reset_parameters()

    def gather(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c"]:
        """The mean of each channel."""
        return global_mean(x)

    def weigh(self, context: Float[Tensor, "b c"]) -> Float[Tensor, "b c 1 1"]:
        """A gate for each channel from its neighbourhood on the ring."""
        ring = _around(context, self.conv.kernel_size[0] // 2)
        return torch.sigmoid(self.conv(ring[:, None]))[:, 0, :, None, None]


def _around(context: Tensor, reach: int) -> Tensor:
    channels = context.shape[1]
    return context.index_select(1, torch.arange(-reach, channels + reach, device=context.device) % channels)


torch.fx.wrap("_around")  # FX cannot follow the sizes that it computes with
