"""Selective kernel: convolutions of several reaches, and a choice among them for every channel."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Map
from foveate.errors import OptionError, check_at_least
from foveate.ops.norm import BatchNorm1d, BatchNorm2d
from foveate.ops.pool import global_mean
from foveate.ops.softmax import full_softmax
from foveate.registry import Card, Paper, mechanism
from foveate.replacement import ConvShape, Replacement


@mechanism(
    Card(
        name="selective_kernel",
        title="Selective Kernel Convolution",
        paper=Paper("Selective Kernel Networks", "Li, Wang, Hu, Yang", "CVPR 2019", "1903.06586"),
        equation=(
            "y = Σₘ aₘ · Uₘ, Uₘ = ReLU(BN(convₘ(x))), convₘ of dilation m, a = softmax_m(Aₘ ReLU(BN(W mean_hw(Σₘ Uₘ))))"
        ),
        aliases=("sk",),
        reference="the authors' code is Caffe (implus/SKNet, models/sknet50.prototxt); compared with timm 1.0.31, "
        "timm/layers/selective_kernel.py, with split_input=False",
        differences=(
            "The branches have the convolution's groups; the paper's networks, which are built on ResNeXt, have 32.",
            "A convolution's bias is left out: the norm behind each branch takes it away.",
            "A training batch of one sample is normalised with the running statistics instead of raising.",
        ),
        evidence=(
            "ImageNet top-1 error of 20.79% for SKNet-50, against 22.23% for ResNeXt-50 and 21.12% with SE "
            "(SENet-50), at 27.5 M parameters and 4.47 GFLOPs (ResNeXt-50: 25.0 M and 4.24; SENet-50: 27.7 M and "
            "4.25). SKNet-101: 20.19%, against 21.11% and 20.58%."
        ),
    )
)
class SelectiveKernel(Replacement):
    """Selective kernel: branches that look farther and farther, weighed against one another for every channel.

    Every branch is a convolution of the replaced one's kernel with a dilation of its own (the paper's 5×5 is a 3×3 of
    dilation 2), batch normalisation and a ReLU. The mean of their sum goes through a bottleneck, and a softmax over
    the branches gives each channel its mixture.

    It cannot keep what a convolution computes, because every branch ends in a ReLU: it starts with the convolution's
    kernel in all branches, and has to be trained. In the paper it stands for a convolution with the norm and ReLU
    behind it, which here stay where they are.

    Source: Li et al., Selective Kernel Networks, section 3.1.

    Args:
        shape: The convolution whose place it takes.
        branches: How many reaches there are to choose from.
        reduction: Channels for each unit of the bottleneck.
        min_hidden: The fewest units that it has.

    Shape:
        That of the convolution; the map has the axes ``branch`` and ``c``.

    Raises:
        OptionError: If the kernel has one position or even sides, or an option cannot work.

    Example:
        >>> import torch
        >>> from foveate.catalogue import SelectiveKernel
        >>> selective = SelectiveKernel(ConvShape(16, 32, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1)))
        >>> selective(torch.randn(2, 16, 9, 9)).shape
        torch.Size([2, 32, 5, 5])
    """

    def __init__(self, shape: ConvShape, *, branches: int = 2, reduction: int = 16, min_hidden: int = 32) -> None:
        super().__init__(shape)
        check_at_least("branches", branches, 2)
        check_at_least("reduction", reduction, 1)
        check_at_least("min_hidden", min_hidden, 1)
        if shape.taps == 1:
            raise OptionError("a kernel of one position reaches no farther with a dilation: there is nothing to select")
        if any(side % 2 == 0 for side in shape.kernel_size):
            sides = "×".join(map(str, shape.kernel_size))
            raise OptionError(f"a kernel of {sides} has no centre, which the branches must share")
        hidden = max(shape.out_channels // reduction, min_hidden)
        self.branches = nn.ModuleList(_branch(shape, reach) for reach in range(1, branches + 1))
        self.reduce = nn.Linear(shape.out_channels, hidden, bias=False)
        self.norm = BatchNorm1d(hidden)
        self.select = nn.Linear(hidden, branches * shape.out_channels, bias=False)
        self.map = Map("branch", "c")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """He's initialisation of the convolutions, as in the authors' networks; PyTorch's default of the layers."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(layer, nn.Linear | BatchNorm1d | BatchNorm2d):
                layer.reset_parameters()

    @torch.no_grad()
    def take_over(self, conv: nn.Conv2d) -> str:
        """All branches begin with the convolution's kernel, each with its own dilation."""
        for branch in self.branches:
            branch.get_parameter("0.weight").copy_(conv.weight)
        return "each of its branches ends in a norm and a ReLU, which a convolution has not"

    def gather(self, branches: list[Float[Tensor, "b c p q"]]) -> Float[Tensor, "b c"]:
        """The mean of the branches' sum."""
        return global_mean(sum(branches[1:], branches[0]))

    def weigh(self, context: Float[Tensor, "b c"]) -> Float[Tensor, "b m c"]:
        """The share of each branch in each channel."""
        logits = self.select(torch.relu(self.norm(self.reduce(context))))
        return self.map(full_softmax(logits.unflatten(1, (len(self.branches), -1)), 1))

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b c p q"]:
        """Convolve in every branch, weigh, and add up."""
        branches: list[Tensor] = [branch(x) for branch in self.branches]
        weights = self.weigh(self.gather(branches)).to(branches[0].dtype)[..., None, None]
        parts = [one * weights[:, number] for number, one in enumerate(branches)]
        return sum(parts[1:], parts[0])


def _branch(shape: ConvShape, reach: int) -> nn.Sequential:
    sides = zip(shape.padding, shape.dilation, shape.kernel_size, strict=True)
    conv = nn.Conv2d(
        shape.in_channels,
        shape.out_channels,
        shape.kernel_size,
        stride=shape.stride,
        padding=[zeros + (reach - 1) * step * (cells - 1) // 2 for zeros, step, cells in sides],  # type: ignore[arg-type]
        dilation=(reach * shape.dilation[0], reach * shape.dilation[1]),
        groups=shape.groups,
        bias=False,
    )
    return nn.Sequential(conv, BatchNorm2d(shape.out_channels), nn.ReLU())
