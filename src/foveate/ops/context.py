"""Local and global context: what a position says of itself beside what the whole map says."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from foveate.ops.norm import BatchNorm2d
from foveate.ops.pool import global_mean


class LocalGlobalContext(nn.Module):
    """Logits for every channel and position: from the position itself, plus the same for all from the map's mean.

    Two bottlenecks of 1×1 convolutions with batch normalisation, of the same shape and with weights of their own: one
    at every position, one on the mean over positions. Their sum goes to a sigmoid; the module stops before it.

    Args:
        channels: Channels of the feature map.
        reduction: The bottlenecks have ``max(1, channels // reduction)`` units.

    Shape:
        ``(b, c, h, w)`` in and out.

    Example:
        >>> import torch
        >>> LocalGlobalContext(8, 4)(torch.randn(2, 8, 5, 6)).shape
        torch.Size([2, 8, 5, 6])
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.here = _bottleneck(channels, hidden)
        self.everywhere = _bottleneck(channels, hidden)

    def reset_parameters(self) -> None:
        """PyTorch's defaults."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.BatchNorm2d):
                layer.reset_parameters()

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The logits."""
        return self.here(x) + self.everywhere(global_mean(x)[:, :, None, None])


def _bottleneck(channels: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, hidden, 1),
        BatchNorm2d(hidden),
        nn.ReLU(),
        nn.Conv2d(hidden, channels, 1),
        BatchNorm2d(channels),
    )
