"""CondConv: expert kernels, summed for each image by gates."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Map
from foveate.errors import check_at_least, check_bool
from foveate.ops.convolve import convolve_mixed
from foveate.ops.pool import global_mean
from foveate.ops.precision import full_precision
from foveate.registry import Card, Paper, mechanism
from foveate.replacement import ConvShape, Replacement


@mechanism(
    Card(
        name="condconv",
        title="Conditionally Parameterized Convolution",
        paper=Paper(
            "CondConv: Conditionally Parameterized Convolutions for Efficient Inference",
            "Yang, Bender, Le, Ngiam",
            "NeurIPS 2019",
            "1904.04971",
        ),
        equation="y = (Σᵢ rᵢ Wᵢ) * x + Σᵢ rᵢ bᵢ, r = σ(R mean_hw(x))",
        reference="the authors' code is TensorFlow (tensorflow/tpu, models/official/efficientnet/condconv); compared "
        "with timm 1.0.31, timm/layers/cond_conv2d.py, routed by a linear layer as in its EfficientNet",
        differences=(
            "Each convolution routes by itself; in the authors' EfficientNet those of one block share their gates.",
            "`bias` of the routing is on, as in the authors' code; the paper's equation has none.",
        ),
        evidence=(
            "EfficientNet-B0 with it has 78.3% top-1 on ImageNet at 413 M multiply-adds; several other networks for "
            "classification and detection gain too. The abstract does not give the parameters, which grow by a kernel "
            "with every expert."
        ),
    )
)
class CondConv(Replacement):
    """CondConv: one kernel for each image, a sum of experts whose gates do not compete.

    A linear layer and a sigmoid turn the mean of the map into a gate for each expert.

    It takes over a convolution exactly: all gates start at one half, and the experts are unequal shares of the
    convolution's kernel, because equal ones would be told apart by nothing and stay equal.

    Source: Yang et al., CondConv, section 3.

    Args:
        shape: The convolution whose place it takes.
        experts: How many kernels are summed.
        bias: Whether the routing has a bias.

    Shape:
        That of the convolution; the map has the axis ``kernel``.

    Raises:
        OptionError: If an option cannot work.

    Example:
        >>> import torch
        >>> from foveate.catalogue import CondConv
        >>> conv = torch.nn.Conv2d(16, 32, 3, stride=2, padding=1)
        >>> experts = CondConv(ConvShape.of(conv), experts=4)
        >>> experts.take_over(conv)
        >>> x = torch.randn(2, 16, 9, 9)
        >>> torch.allclose(experts(x), conv(x), atol=1e-5)
        True
    """

    def __init__(self, shape: ConvShape, *, experts: int = 8, bias: bool = True) -> None:
        super().__init__(shape)
        check_at_least("experts", experts, 1)
        check_bool("bias", bias)
        cells = shape.in_channels // shape.groups * shape.taps
        self.weight = nn.Parameter(torch.empty(experts, shape.out_channels, cells))
        self.bias = nn.Parameter(torch.empty(experts, shape.out_channels)) if shape.bias else None
        self.routing = nn.Linear(shape.in_channels, experts, bias=bias)
        self.map = Map("kernel")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """He's initialisation by the outputs of one expert, as in the authors' code, not by those of all together."""
        nn.init.normal_(self.weight, std=math.sqrt(2 / (self.shape.out_channels * self.shape.taps)))
        if self.bias is not None:
            nn.init.zeros_(self.bias)
        self.routing.reset_parameters()

    @torch.no_grad()
    def take_over(self, conv: nn.Conv2d) -> None:
        """Experts are 1/n to 3/n of the convolution's kernel, 2/n on average, behind gates of one half."""
        count = len(self.weight)
        numbers = torch.arange(count, dtype=self.weight.dtype, device=self.weight.device)
        shares = (1 + 2 * numbers / (count - 1) if count > 1 else 2 + numbers) / count
        self.weight.copy_(shares[:, None, None] * conv.weight.flatten(1))
        if self.bias is not None and conv.bias is not None:
            self.bias.copy_(shares[:, None] * conv.bias)
        for parameter in self.routing.parameters():
            nn.init.zeros_(parameter)

    def gather(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b i"]:
        """The mean of each channel."""
        return global_mean(x)

    def weigh(self, context: Float[Tensor, "b i"]) -> Float[Tensor, "b n"]:
        """The gate of each expert."""
        return self.map(torch.sigmoid(full_precision(self.routing(context))))

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o p q"]:
        """Weigh, sum the experts, convolve every image with its own kernel."""
        shape, gates = self.shape, self.weigh(self.gather(x))
        kernels = self.weight.unflatten(2, (shape.in_channels // shape.groups, *shape.kernel_size))
        return convolve_mixed(
            x,
            gates,
            kernels,
            self.bias,
            stride=shape.stride,
            padding=shape.padding,
            dilation=shape.dilation,
            groups=shape.groups,
        )
