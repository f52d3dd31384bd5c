"""Involution: a kernel for each position, made from that position and shared by channels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Map
from foveate.errors import OptionError, check_at_least, check_odd
from foveate.ops.groups import fitting_groups
from foveate.ops.local import local_sum
from foveate.ops.norm import BatchNorm2d
from foveate.registry import Card, Paper, mechanism
from foveate.replacement import ConvShape, Replacement, check_centred


@mechanism(
    Card(
        name="involution",
        title="Involution",
        paper=Paper(
            "Involution: Inverting the Inherence of Convolution for Visual Recognition",
            "Li, Hu, Wang, Li, She, Zhu, Zhang, Chen",
            "CVPR 2021",
            "2103.06255",
        ),
        equation="y_(c,p) = Σ_t H_(g(c),t,p) · x_(c,p+t), H = W₁ ReLU(BN(W₀ x̄)), x̄ the map, or its means if strided",
        reference="d-li14/involution @ 21c3158, det/mmdet/models/utils/involution_naive.py",
        differences=(
            "The kernel has the size of the replaced convolution's unless `kernel_size` gives another; the paper's "
            "networks have 7×7.",
            "Groups have the most channels up to `group_channels` that divide the map's; the authors' code needs a "
            "multiple of 16.",
            "The bottleneck has at least one unit.",
            "With a stride, a side that it does not divide ends in a mean of fewer positions; the authors' code "
            "raises there, because its kernels are one fewer than its positions.",
            "Strides, dilations and kernels may differ between height and width, and a convolution that has a bias "
            "keeps it; the authors' module has none.",
            "A training batch of one value per channel is normalised with the running statistics.",
        ),
        evidence=(
            "In networks like ResNet-50, in the convolutions' place: up to 1.6 points more top-1 on ImageNet at 66% "
            "of the computation, up to 2.5 box AP on COCO at 65% and 4.7 mIoU on Cityscapes at 57%. RedNet-50 has "
            "78.35% with 15.54 M parameters (39.5% fewer) and 2.71 GFLOPs (34.1% fewer)."
        ),
    )
)
class Involution(Replacement):
    """Involution: every position makes a kernel from its own features and sums its neighbours with it.

    It turns a convolution inside out: the kernel differs from position to position, and is the same for all channels
    of a group. With a stride, the kernel of each output is made from the mean of the positions that it stands for.

    Only a depthwise convolution in as many groups (``group_channels=1``) can be taken over: its kernels become the
    biases of the layer that makes the kernels, whose weights start at zero.

    Source: Li et al., Involution, sections 2 and 3.

    Args:
        shape: The convolution whose place it takes.
        kernel_size: Side of the kernel; ``None`` takes the convolution's.
        group_channels: The most channels that share their kernels.
        reduction: The bottleneck has ``max(1, channels // reduction)`` units.

    Shape:
        That of the convolution; the map has the axes ``group`` (if there are several), ``tap``, ``h`` and ``w``.

    Raises:
        OptionError: If the convolution changes the number of channels or does not keep its positions, or an option is
            not a positive number.

    Example:
        >>> import torch
        >>> from foveate.catalogue import Involution
        >>> involution = Involution(ConvShape.same(32), kernel_size=7)
        >>> involution(torch.randn(2, 32, 9, 8)).shape
        torch.Size([2, 32, 9, 8])
    """

    def __init__(
        self, shape: ConvShape, *, kernel_size: int | None = None, group_channels: int = 16, reduction: int = 4
    ) -> None:
        super().__init__(shape)
        if kernel_size is not None:
            check_odd("kernel_size", kernel_size)
        check_at_least("group_channels", group_channels, 1)
        check_at_least("reduction", reduction, 1)
        check_centred("involution", shape)
        channels = shape.in_channels
        if shape.out_channels != channels:
            raise OptionError(
                f"an involution sums each channel alone and returns as many as it is given: it cannot be a {shape}"
            )
        self.kernel_size = shape.kernel_size if kernel_size is None else (kernel_size, kernel_size)
        self.taps = self.kernel_size[0] * self.kernel_size[1]
        self.groups = channels // fitting_groups(channels, group_channels)
        hidden = max(1, channels // reduction)
        self.reduce = nn.Conv2d(channels, hidden, 1, bias=False)
        self.norm = BatchNorm2d(hidden)
        self.span = nn.Conv2d(hidden, self.groups * self.taps, 1)
        self.bias = nn.Parameter(torch.empty(channels)) if shape.bias else None
        self.map = Map("group", "tap", "h", "w") if self.groups > 1 else Map("tap", "h", "w")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """He's initialisation by the outputs of each layer, biases at zero, as in the authors' code."""
        for layer in (self.reduce, self.span):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        for bias in (self.span.bias, self.bias):
            if bias is not None:
                nn.init.zeros_(bias)
        self.norm.reset_parameters()

    @torch.no_grad()
    def take_over(self, conv: nn.Conv2d) -> str | None:
        """Make the kernels of a depthwise convolution everywhere, or say why there is nothing to start from."""
        if not self.shape.depthwise or self.groups != self.shape.groups or self.kernel_size != self.shape.kernel_size:
            return (
                "it makes its kernels from the input, one for all channels of a group, and only a depthwise "
                "convolution in as many groups has such kernels to start from; what it sums grows with the square of "
                "the features until its norm and those around it have seen images, so train before evaluating: with "
                "fresh statistics a deep network overflows to NaN"
            )
        nn.init.zeros_(self.span.weight)
        if self.span.bias is not None:
            self.span.bias.copy_(conv.weight.flatten())
        if self.bias is not None and conv.bias is not None:
            self.bias.copy_(conv.bias)
        return None

    def weigh(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b *g taps p q"]:
        """The kernel of each position."""
        stride = self.shape.stride
        if stride != (1, 1):
            x = F.avg_pool2d(x, stride, stride, ceil_mode=True)
        weights = self.span(torch.relu(self.norm(self.reduce(x))))
        return self.map(weights if self.groups == 1 else weights.unflatten(1, (self.groups, self.taps)))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c p q"]:
        """Make the kernels, and sum the neighbours with them."""
        weights = self.weigh(x)
        if self.groups == 1:
            weights = weights.unsqueeze(1)
        y = local_sum(x, weights, self.kernel_size, stride=self.shape.stride, dilation=self.shape.dilation)
        return y if self.bias is None else y + self.bias[:, None, None].to(y.dtype)
