"""Dynamic convolution: several kernels, mixed for each image by a softmax."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Map
from foveate.errors import check_at_least, check_positive
from foveate.ops.anneal import Temperature
from foveate.ops.convolve import convolve_mixed
from foveate.ops.pool import global_mean
from foveate.ops.precision import full_precision
from foveate.ops.softmax import full_softmax
from foveate.registry import Card, Paper, mechanism
from foveate.replacement import ConvShape, Replacement


@mechanism(
    Card(
        name="dynamic_convolution",
        title="Dynamic Convolution",
        paper=Paper(
            "Dynamic Convolution: Attention over Convolution Kernels",
            "Chen, Dai, Liu, Chen, Yuan, Liu",
            "CVPR 2020",
            "1912.03458",
        ),
        equation="y = (Σₖ πₖ Wₖ) * x + Σₖ πₖ bₖ, π = softmax(fc(ReLU(fc(mean_hw(x)))) / τ)",
        aliases=("dyconv",),
        reference="the authors released no code; compared with kaijieshi7/Dynamic-convolution-Pytorch @ 4befa50, "
        "dynamic_conv.py",
        differences=(
            "The temperature falls from the paper's 30 by itself, with every forward pass in training mode, and is "
            "saved with the state. In copies it is a plain attribute, which a call each epoch must lower (from 34 by "
            "3) and which a checkpoint loses.",
            "At least as many hidden units as kernels: with fewer, all may be off for every image, and kernels that "
            "start alike would stay alike.",
            "The paper does not say how kernels are initialised: He's initialisation, each kernel by itself.",
        ),
        evidence=(
            "ImageNet top-1 of MobileNetV3-Small rises by 2.9 points for 4% more FLOPs (another version of the "
            "abstract has 2.3), and keypoint detection on COCO gains 2.9 AP. The abstract does not give the "
            "parameters, which grow with every kernel."
        ),
    )
)
class DynamicConvolution(Replacement):
    """Dynamic convolution: one kernel for each image, a mixture of several.

    The mean of the map goes through two layers to a softmax over the kernels; biases are mixed with the same weights.
    At a high temperature all kernels have nearly equal shares, so that all learn; it falls to 1 in training.

    It takes over a convolution exactly: all kernels start as that convolution's, and shares add up to one.

    Source: Chen et al., Dynamic Convolution, section 3.

    Args:
        shape: The convolution whose place it takes.
        kernels: How many kernels are mixed.
        reduction: Input channels for each hidden unit.
        temperature: What logits are divided by before training; it falls to 1 in equal steps.
        steps: After how many forward passes in training mode it is 1. The paper takes the first ten epochs, 50,040
            passes of 256 images of ImageNet.

    Shape:
        That of the convolution; the map has the axis ``kernel``.

    Raises:
        OptionError: If an option is not a positive number.

    Example:
        >>> import torch
        >>> from foveate.catalogue import DynamicConvolution
        >>> conv = torch.nn.Conv2d(16, 32, 3, stride=2, padding=1)
        >>> dynamic = DynamicConvolution(ConvShape.of(conv))
        >>> dynamic.take_over(conv)
        >>> x = torch.randn(2, 16, 9, 9)
        >>> torch.allclose(dynamic(x), conv(x), atol=1e-5)
        True
    """

    def __init__(
        self,
        shape: ConvShape,
        *,
        kernels: int = 4,
        reduction: int = 4,
        temperature: float = 30.0,
        steps: int = 50_040,
    ) -> None:
        super().__init__(shape)
        check_at_least("kernels", kernels, 2)
        check_at_least("reduction", reduction, 1)
        check_positive("temperature", temperature)
        check_at_least("steps", steps, 1)
        hidden = max(shape.in_channels // reduction, kernels)
        cells = shape.in_channels // shape.groups * shape.taps
        self.weight = nn.Parameter(torch.empty(kernels, shape.out_channels, cells))
        self.bias = nn.Parameter(torch.empty(kernels, shape.out_channels)) if shape.bias else None
        self.fc1 = nn.Linear(shape.in_channels, hidden, bias=False)
        self.fc2 = nn.Linear(hidden, kernels)
        self.temperature = Temperature(temperature, steps)
        self.map = Map("kernel")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """He's initialisation by the outputs of each kernel and each layer; biases at zero."""
        nn.init.normal_(self.weight, std=math.sqrt(2 / (self.shape.out_channels * self.shape.taps)))
        if self.bias is not None:
            nn.init.zeros_(self.bias)
        for layer in (self.fc1, self.fc2):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.fc2.bias)
        self.temperature.reset()

    @torch.no_grad()
    def take_over(self, conv: nn.Conv2d) -> None:
        """Every kernel is the convolution's; what weighs them is left as it is."""
        self.weight.copy_(conv.weight.flatten(1).expand_as(self.weight))
        if self.bias is not None and conv.bias is not None:
            self.bias.copy_(conv.bias.expand_as(self.bias))

    def gather(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b i"]:
        """The mean of each channel."""
        return global_mean(x)

    def weigh(self, context: Float[Tensor, "b i"]) -> Float[Tensor, "b n"]:
        """The share of each kernel."""
        logits = full_precision(self.fc2(torch.relu(self.fc1(context))))
        return self.map(full_softmax(logits / self.temperature(logits), 1))

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o p q"]:
        """Weigh, mix the kernels, convolve every image with its own."""
        shape, shares = self.shape, self.weigh(self.gather(x))
        kernels = self.weight.unflatten(2, (shape.in_channels // shape.groups, *shape.kernel_size))
        return convolve_mixed(
            x,
            shares,
            kernels,
            self.bias,
            stride=shape.stride,
            padding=shape.padding,
            dilation=shape.dilation,
            groups=shape.groups,
        )
