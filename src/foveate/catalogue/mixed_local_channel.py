"""Mixed Local Channel Attention: channels judged over the whole map and in each region of it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Gate, Map
from foveate.errors import OptionError, check_at_least, check_odd, check_positive
from foveate.ops.adaptive import adaptive_mean
from foveate.ops.pool import global_mean
from foveate.ops.width import odd_width
from foveate.registry import Card, Paper, mechanism


class Regions(NamedTuple):
    """What is gathered.

    Attributes:
        local: The mean of each channel in each region.
        overall: The mean of each channel over all regions.
    """

    local: Float[Tensor, "b c s s"]
    overall: Float[Tensor, "b c"]


@mechanism(
    Card(
        name="mixed_local_channel",
        aliases=("mlca",),
        title="Mixed Local Channel Attention",
        paper=Paper(
            "Mixed local channel attention for object detection",
            "Wan, Lu, Shen, Jin, Ding, Shi",
            "Engineering Applications of Artificial Intelligence 2023",
        ),
        equation="y = x · up((1 - λ) σ(conv_k(mean_s(l))) + λ σ(conv'_k(l))), l = means of s × s regions",
        reference="wandahangFY/MLCA @ afbeb47, MLCA.py",
        differences=(
            "As in the authors' code, the local convolution runs through the channels of one region after those of "
            "another, so that the first and last channels of a region see those of its neighbours in that order.",
            "Regions and their spreading are matrix products, equal to the authors' adaptive pooling, whose gradient "
            "is not deterministic on CUDA and which ONNX has for one size only.",
            "A start at the identity blends the gates of the regions, before they are spread over the map.",
        ),
        evidence=(
            "Object detection with MobileNet-Attention-YOLO: 1.0 points of mAP more than SE on PASCAL VOC and 1.5 "
            "more than coordinate attention on SIMD. The authors' repository gives neither the results themselves nor "
            "a cost."
        ),
    )
)
class MixedLocalChannel(Gate):
    """Mixed Local Channel Attention: a gate for each channel and region, from local and global neighbours in one.

    The map is divided into regions. A convolution along the channels of the regions' means, and another along the
    channels of their mean, each with a sigmoid, give two gates, which are mixed in fixed proportions and spread back
    over the map.

    Source: Wan et al., MLCA; the authors' code.

    Args:
        channels: Channels of the feature map.
        local_size: Regions along each side, at least two; where they do not divide it, they overlap.
        local_weight: Share of the local gate, between zero and one; the rest is the global one's.
        kernel_size: Width of both convolutions, odd; ``None`` is ``(log₂ C + 1) / 2``, cut to a whole number, and one
            more if that is even.

    Shape:
        ``(b, c, h, w)`` in and out; the map has the axes ``c``, ``h``, ``w``, one weight for each region.

    Raises:
        OptionError: If an option's value cannot work.

    Example:
        >>> import torch
        >>> from foveate.catalogue import MixedLocalChannel
        >>> MixedLocalChannel(64)(torch.randn(2, 64, 7, 9)).shape
        torch.Size([2, 64, 7, 9])
    """

    def __init__(
        self,
        channels: int,
        *,
        local_size: int = 5,
        local_weight: float = 0.5,
        kernel_size: int | None = None,
    ) -> None:
        super().__init__()
        check_at_least("local_size", local_size, 2)
        check_positive("local_weight", local_weight)
        if local_weight >= 1:
            raise OptionError(f"local_weight must be below 1, to leave the global gate a share, not {local_weight!r}")
        width = odd_width(channels) if kernel_size is None else kernel_size
        check_odd("kernel_size", width)
        self.local_size, self.local_weight = local_size, local_weight
        self.conv = nn.Conv1d(1, 1, width, padding=width // 2, bias=False)
        self.conv_local = nn.Conv1d(1, 1, width, padding=width // 2, bias=False)
        self.map = Map("c", "h", "w")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """PyTorch's default for both convolutions, as in the authors' code."""
        self.conv.reset_parameters()
        self.conv_local.reset_parameters()

    def gather(self, x: Float[Tensor, "b c h w"]) -> Regions:
        """The mean of each channel in each region, and the mean of those."""
        local = adaptive_mean(x, (self.local_size, self.local_size))
        return Regions(local, global_mean(local))

    def weigh(self, context: Regions) -> Float[Tensor, "b c s s"]:
        """A gate for each channel and region: a mixture of its own and of the whole map's."""
        side = self.local_size
        regions = context.local.flatten(2).transpose(1, 2)  # channels side by side, one region after another
        local = self.conv_local(regions.flatten(1)[:, None])[:, 0].unflatten(1, (side * side, -1))
        local = torch.sigmoid(local.transpose(1, 2).unflatten(2, (side, side)))
        overall = torch.sigmoid(self.conv(context.overall[:, None]))[:, 0, :, None, None]
        return (1 - self.local_weight) * overall + self.local_weight * local

    def recalibrate(
        self,
        x: Float[Tensor, "b c h w"],
        weights: Float[Tensor, "b c s s"],
        context: Regions,  # noqa: ARG002
    ) -> Float[Tensor, "b c h w"]:
        """Spread the gates over the map and multiply."""
        return x * adaptive_mean(weights, (x.shape[2], x.shape[3]))
