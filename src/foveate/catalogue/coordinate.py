"""Coordinate Attention: which rows and which columns of each channel matter, judged from their means."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Gates, Map
from foveate.errors import check_at_least
from foveate.ops.norm import BatchNorm1d
from foveate.ops.signal import at_each
from foveate.ops.strips import column_means, row_means
from foveate.registry import Card, Paper, mechanism

# The authors' code never goes below this; the paper does not say so.
LEAST_HIDDEN = 8


@mechanism(
    Card(
        name="coordinate",
        aliases=("ca",),
        title="Coordinate Attention",
        paper=Paper(
            "Coordinate Attention for Efficient Mobile Network Design", "Hou, Zhou, Feng", "CVPR 2021", "2103.02907"
        ),
        equation=(
            "[f_h; f_w] = hswish(norm(W₁ [mean_w(x); mean_h(x)] + b₁))\ny = x · σ(W_h f_h + b_h) · σ(W_w f_w + b_w)"
        ),
        reference="houqb/CoordAttention @ 7619bea, coordatt.py; initialisation from mbv2_ca.py",
        differences=(
            "The non-linearity is h-swish, as in the authors' code and weights; the paper leaves it open.",
            "At least eight hidden units, as in the authors' code; the paper has C / r.",
        ),
        evidence=(
            "ImageNet top-1 of MobileNetV2 from 72.3% to 74.3% (SE 73.5%, CBAM 73.6%), for 3.95 M parameters instead "
            "of 3.5 M and 310 M multiply-adds instead of 300 M. SSDLite320 on COCO from 22.3 to 24.5 AP, DeepLabV3 on "
            "Pascal VOC 2012 (stride 16) from 70.84 to 73.32 mIoU."
        ),
    )
)
class CoordinateAttention(Gates):
    """Coordinate Attention: a gate for every row and one for every column of each channel.

    The means of the rows and the means of the columns pass, one behind the other, through one bottleneck with batch
    normalisation; then each goes through a layer of its own and a sigmoid. Where something is stays known along both
    axes, while each gate has seen all channels.

    Source: Hou et al., Coordinate Attention, section 3.

    Args:
        channels: Channels of the feature map.
        reduction: The bottleneck has ``max(8, channels // reduction)`` units.

    Shape:
        ``(b, c, h, w)`` in and out; the maps have the axes ``c, h`` (``h_map``) and ``c, w`` (``w_map``).

    Raises:
        OptionError: If an option's value cannot work.

    Example:
        >>> import torch
        >>> from foveate.catalogue import CoordinateAttention
        >>> CoordinateAttention(64)(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])
    """

    def __init__(self, channels: int, *, reduction: int = 32) -> None:
        super().__init__()
        check_at_least("reduction", reduction, 1)
        hidden = max(LEAST_HIDDEN, channels // reduction)
        self.conv1 = nn.Conv1d(channels, hidden, 1)
        self.bn1 = BatchNorm1d(hidden)
        self.conv_h = nn.Conv1d(hidden, channels, 1)
        self.conv_w = nn.Conv1d(hidden, channels, 1)
        self.h_map = Map("c", "h")
        self.w_map = Map("c", "w")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As in the authors' network: weights from He et al. (fan out), biases zero."""
        for layer in (self.conv1, self.conv_h, self.conv_w):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.constant_(layer.get_parameter("bias"), 0.0)
        self.bn1.reset_parameters()

    def gather(self, x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b c h"], Float[Tensor, "b c w"]]:
        """The mean of every row, and of every column."""
        return row_means(x), column_means(x)

    def weigh(
        self, context: tuple[Float[Tensor, "b c h"], Float[Tensor, "b c w"]]
    ) -> dict[str, Float[Tensor, "b c _ _"]]:
        """A gate for every row and column from all channels."""
        rows = context[0].shape[2]
        means = at_each(self.conv1, torch.cat(context, 2).transpose(1, 2))
        hidden = F.hardswish(self.bn1(means.flatten(0, 1)).unflatten(0, means.shape[:2]))
        by_row, by_column = at_each(self.conv_h, hidden[:, :rows]), at_each(self.conv_w, hidden[:, rows:])
        return {
            "h": torch.sigmoid(by_row).transpose(1, 2)[:, :, :, None],
            "w": torch.sigmoid(by_column).transpose(1, 2)[:, :, None, :],
        }
