"""Efficient Local Attention: which rows and which columns of each channel matter, judged from their neighbours."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Gates, Map
from foveate.errors import check_choice
from foveate.ops.groups import GroupNorm, fitting_groups
from foveate.ops.strips import column_means, row_means
from foveate.registry import Card, Paper, mechanism

# Of each of the paper's versions: kernel size, channels that are convolved together, groups that are normalised.
VARIANTS = {"tiny": (5, 1, 32), "base": (7, 1, 16), "small": (5, 8, 16), "large": (7, 8, 16)}


@mechanism(
    Card(
        name="efficient_local",
        aliases=("ela",),
        title="Efficient Local Attention",
        paper=Paper(
            "ELA: Efficient Local Attention for Deep Convolutional Neural Networks",
            "Xu, Wan",
            "arXiv 2024",
            "2403.01123",
        ),
        equation="y = x · σ(GN(conv_k(mean_w(x)))) · σ(GN(conv_k(mean_h(x))))",
        reference=(
            "none by its authors, who released no code; compared with the version of the base variant in "
            "HZAI-ZJNU/SCSA @ 8c46866, mmpretrain/models/attentions/ELA.py"
        ),
        differences=(
            "Rows and columns share the convolution and the norm, as in the versions in circulation; timm's has one of "
            "each for either.",
            "Where eight channels or the norm's groups do not divide the channels, the largest number below that does; "
            "the paper's versions need multiples of 8, and of 16 or 32.",
            "A group of one value, which has no variance, keeps its norm's bias.",
        ),
        evidence=(
            "Classification, detection and segmentation on ImageNet, COCO and Pascal VOC. Second-hand, from a summary "
            "of the paper: ImageNet top-1 rises by 0.93 points with ResNet-18, by 0.8 with ResNet-50 for 0.03% more "
            "parameters, and by 2.39 with MobileNetV2. The abstract has no numbers, and no code or weights were "
            "released."
        ),
    )
)
class EfficientLocalAttention(Gates):
    """Efficient Local Attention: a gate for every row and one for every column of each channel, without a bottleneck.

    The means of the rows, as a signal, pass a one-dimensional convolution along the height and group normalisation,
    then a sigmoid; the means of the columns pass the same ones along the width.

    Source: Xu and Wan, ELA, section 3.

    Args:
        channels: Channels of the feature map.
        variant: ``"tiny"`` (kernel of 5, 32 norm groups) and ``"base"`` (7, 16) convolve every channel by itself;
            ``"small"`` (5, 16) and ``"large"`` (7, 16) eight channels together: ELA-T, -B, -S and -L in the paper.

    Shape:
        ``(b, c, h, w)`` in and out; the maps have the axes ``c, h`` (``h_map``) and ``c, w`` (``w_map``).

    Raises:
        OptionError: If an option's value cannot work.

    Example:
        >>> import torch
        >>> from foveate.catalogue import EfficientLocalAttention
        >>> EfficientLocalAttention(64, variant="large")(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])
    """

    def __init__(self, channels: int, *, variant: Literal["tiny", "base", "small", "large"] = "base") -> None:
        super().__init__()
        check_choice("variant", variant, VARIANTS)
        kernel_size, together, groups = VARIANTS[variant]
        self.conv = nn.Conv1d(
            channels,
            channels,
            kernel_size,
            padding=kernel_size // 2,
            groups=channels // fitting_groups(channels, together),
            bias=False,
        )
        self.gn = GroupNorm(fitting_groups(channels, groups), channels)
        self.h_map = Map("c", "h")
        self.w_map = Map("c", "w")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """PyTorch's defaults: the paper says nothing else."""
        self.conv.reset_parameters()
        self.gn.reset_parameters()

    def gather(self, x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b c h"], Float[Tensor, "b c w"]]:
        """The mean of every row, and of every column."""
        return row_means(x), column_means(x)

    def weigh(
        self, context: tuple[Float[Tensor, "b c h"], Float[Tensor, "b c w"]]
    ) -> dict[str, Float[Tensor, "b c _ _"]]:
        """A gate for every row and column from those beside it."""
        rows, columns = (torch.sigmoid(self.gn(self.conv(means))) for means in context)
        return {"h": rows[:, :, :, None], "w": columns[:, :, None, :]}
