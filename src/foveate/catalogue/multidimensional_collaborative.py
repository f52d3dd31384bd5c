"""Multidimensional Collaborative Attention: rows, columns and channels each judged from their neighbours."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Gates, Map
from foveate.errors import check_bool
from foveate.ops.spread import standard_deviation
from foveate.registry import Card, Paper, mechanism

# The kernel of the gates along height and width, in paper and code.
SPATIAL_KERNEL = 3


def kernel_size_for(channels: int) -> int:
    """The kernel of the gate along channels: ``(log₂ C - 1) / 1.5`` rounded, one less if that is even.

    Example:
        >>> [kernel_size_for(c) for c in (2, 16, 64, 256, 2048)]
        [1, 1, 3, 5, 7]
    """
    size = round(abs((math.log2(channels) - 1) / 1.5))
    return size if size % 2 else max(1, size - 1)


class Direction(nn.Module):
    """Gates along one axis of the map, from the mean and the deviation of each slice across it.

    Args:
        kernel_size: Width of the convolution along the axis, odd.
    """

    def __init__(self, kernel_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(2))
        self.conv = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights of the two pools between zero and one; PyTorch's default for the convolution."""
        nn.init.uniform_(self.weight)
        self.conv.reset_parameters()

    def forward(self, pools: Float[Tensor, "b 2 slices"]) -> Float[Tensor, "b slices"]:
        """A gate for each slice from the pools of its neighbours."""
        shares = 0.5 + torch.sigmoid(self.weight)
        return torch.sigmoid(self.conv((pools * shares[:, None]).sum(1, keepdim=True)))[:, 0]


@mechanism(
    Card(
        name="multidimensional_collaborative",
        aliases=("mca",),
        title="Multidimensional Collaborative Attention",
        paper=Paper(
            "MCA: Multidimensional collaborative attention in deep convolutional neural networks for image recognition",
            "Yu, Zhang, Cheng, Song, Tang",
            "Engineering Applications of Artificial Intelligence 2023",
        ),
        equation=(
            "y = x · (g_height + g_width + g_channel) / 3, g = σ(conv_k(p))\n"
            "p = (mean + std) / 2 + σ(w₁) mean + σ(w₂) std over the other two axes"
        ),
        reference="ndsclark/MCANet @ 9766391, ImageNet/mca_module.py",
        differences=(
            "`no_spatial` is the authors' name: in spite of it, what is left out is the gate along channels.",
            "A kernel of one where the authors' rule gives minus one (2 and 3 channels), which no convolution has.",
            "The deviation of a single value is zero, where the authors' code has none that is a number, as on a map "
            "of 1×1; its gradient where it is zero is zero.",
            "Means and deviations stay in float32 in half precision.",
        ),
        evidence=(
            "ImageNet top-1 of ResNet-18 from 69.76% to 71.57%, of ResNet-34 from 73.31% to 74.85%, of ResNet-50 from "
            "76.13% to 78.07% (SE 76.71%, ECA 77.40%). ResNet-50 keeps its 25.557 M parameters to three places and "
            "goes from 4.122 to 4.130 GFLOPs."
        ),
    )
)
class MultidimensionalCollaborative(Gates):
    """Multidimensional Collaborative Attention: the mean of three gates, along height, width and channels.

    For every row, every column and every channel, the mean and the standard deviation of all features in it are
    joined with learned weights. A convolution without bias along the axis and a sigmoid make it a gate.

    Source: Yu et al., MCA, section 3; the authors' code.

    Args:
        channels: Channels of the feature map.
        no_spatial: Leave out the gate along channels, and take the mean of the other two.

    Shape:
        ``(b, c, h, w)`` in and out; ``height_map`` has the axis ``h``, ``width_map`` the axis ``w``, ``channel_map``
        the axis ``c``.

    Raises:
        OptionError: If the option is neither true nor false.

    Example:
        >>> import torch
        >>> from foveate.catalogue import MultidimensionalCollaborative
        >>> MultidimensionalCollaborative(64)(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])
    """

    def __init__(self, channels: int, *, no_spatial: bool = False) -> None:
        super().__init__()
        check_bool("no_spatial", no_spatial)
        self.height = Direction(SPATIAL_KERNEL)
        self.height_map = Map("h")
        self.width = Direction(SPATIAL_KERNEL)
        self.width_map = Map("w")
        self.channel: Direction | None = None
        if not no_spatial:
            self.channel = Direction(kernel_size_for(channels))
            self.channel_map = Map("c")

    def reset_parameters(self) -> None:
        """As the authors' code has it."""
        for direction in self.children():
            if isinstance(direction, Direction):
                direction.reset_parameters()

    def gather(self, x: Float[Tensor, "b c h w"]) -> dict[str, Float[Tensor, "b 2 slices"]]:
        """Mean and deviation of each row and column, and of each channel."""
        across = {"height": (1, 3), "width": (1, 2)}
        if self.channel is not None:
            across["channel"] = (2, 3)
        return {name: _pools(x, dims) for name, dims in across.items()}

    def weigh(self, context: dict[str, Float[Tensor, "b 2 slices"]]) -> dict[str, Float[Tensor, "b _ _ _"]]:
        """A gate for each row and column, and for each channel."""
        weights = {
            "height": self.height(context["height"])[:, None, :, None],
            "width": self.width(context["width"])[:, None, None, :],
        }
        if self.channel is not None:
            weights["channel"] = self.channel(context["channel"])[:, :, None, None]
        return weights

    def recalibrate(
        self,
        x: Float[Tensor, "b c h w"],
        weights: dict[str, Float[Tensor, "b _ _ _"]],
        context: dict[str, Float[Tensor, "b 2 slices"]],  # noqa: ARG002
    ) -> Float[Tensor, "b c h w"]:
        """Multiply by the mean of the gates."""
        total = weights["height"] + weights["width"]
        if "channel" in weights:
            total = total + weights["channel"]
        return x * (total / len(weights))


def _pools(x: Tensor, dims: tuple[int, int]) -> Float[Tensor, "b 2 slices"]:
    """Mean and standard deviation over two axes."""
    return torch.stack([x.mean(dims), standard_deviation(x, dims).to(x.dtype)], 1)
