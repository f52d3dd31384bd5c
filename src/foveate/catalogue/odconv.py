"""Omni-dimensional dynamic convolution: a kernel for each image, weighed along all four of its dimensions."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Map
from foveate.errors import check_at_least, check_positive
from foveate.ops.anneal import Temperature
from foveate.ops.convolve import convolve_each, mix_kernels
from foveate.ops.norm import BatchNorm1d
from foveate.ops.pool import global_mean
from foveate.ops.precision import full_precision
from foveate.ops.softmax import full_softmax
from foveate.registry import Card, Paper, mechanism
from foveate.replacement import ConvShape, Replacement

_AXES = {"input": "in", "output": "out"}  # `in` is no name for a module: code that FX writes would not parse


@mechanism(
    Card(
        name="odconv",
        title="Omni-Dimensional Dynamic Convolution",
        paper=Paper("Omni-Dimensional Dynamic Convolution", "Li, Zhou, Yao", "ICLR 2022", "2209.07947"),
        equation=(
            "y = (Σᵢ α_wᵢ · α_f · α_c · α_s · Wᵢ) * x, α_w = softmax(z_w / τ), α = σ(z / τ) for the filters f, the "
            "input channels c and the taps s, z = fc(ReLU(BN(fc(mean_hw(x)))))"
        ),
        reference="OSVAI/ODConv @ 0901cc1, modules/odconv.py",
        differences=(
            "The temperature falls by itself, with every forward pass in training mode, and is saved with the state; "
            "the authors' training script sets it from outside, and it is lost with a checkpoint.",
            "A convolution that has a bias keeps it, outside of the attention; the authors' module has none.",
            "A training batch of one sample is normalised with the running statistics instead of raising.",
            "Kernels need not be square; the authors' module takes one side.",
            "A buffer `gain`, 1 unless a convolution is taken over, makes up for scales of one half. The authors "
            "take over no convolutions; kernels as many times larger would compute the same, but hardly learn.",
        ),
        evidence=(
            "ImageNet top-1 of ResNet-18 from 70.25% to 73.05% with one kernel and 74.19% with four, for 11.94 M and "
            "44.90 M parameters instead of 11.69 M and 1.838 and 1.916 GFLOPs instead of 1.814; of ResNet-50 from "
            "76.23% to 77.87% and 78.50% (28.64 M and 90.67 M instead of 25.56 M)."
        ),
    )
)
class OmniDimensionalDynamicConvolution(Replacement):
    """Omni-dimensional dynamic convolution: several kernels, mixed and scaled for each image.

    The mean of the map goes through a bottleneck; from there four heads weigh the kernels against one another, and
    scale the input channels, the output channels and the cells of the kernel. A head with nothing to choose from is
    left out: taps of a 1×1 kernel, output channels of a depthwise convolution, kernels if there is one.

    It takes over a convolution exactly: all kernels start as that convolution's and the three scales at one half, for
    which the buffer ``gain`` makes up. Kernels as many times larger would do so too, but a step of training would move
    them as many times less, and by a share of their size that is smaller once more. The heads of the scales are then
    zero; the one of the kernels is random, so that the kernels become different.

    Source: Li et al., Omni-Dimensional Dynamic Convolution, section 3.

    Args:
        shape: The convolution whose place it takes.
        kernels: How many kernels are mixed.
        reduction: Input channels for each unit of the bottleneck.
        min_hidden: The fewest units that it has.
        temperature: What logits are divided by before training; it falls to 1 in equal steps.
        steps: After how many forward passes in training mode it is 1. The authors take the first ten epochs, 50,040
            passes of 256 images of ImageNet.

    Shape:
        That of the convolution; the maps have the axes ``in``, ``out``, ``tap`` and ``kernel``.

    Raises:
        OptionError: If an option is not a positive number.

    Example:
        >>> import torch
        >>> from foveate.catalogue import OmniDimensionalDynamicConvolution
        >>> conv = torch.nn.Conv2d(16, 32, 3, stride=2, padding=1)
        >>> odconv = OmniDimensionalDynamicConvolution(ConvShape.of(conv)).eval()
        >>> odconv.take_over(conv)
        >>> x = torch.randn(2, 16, 9, 9)
        >>> torch.allclose(odconv(x), conv(x), atol=1e-5)
        True
    """

    gain: Tensor

    def __init__(
        self,
        shape: ConvShape,
        *,
        kernels: int = 4,
        reduction: int = 16,
        min_hidden: int = 16,
        temperature: float = 30.0,
        steps: int = 50_040,
    ) -> None:
        super().__init__(shape)
        check_at_least("kernels", kernels, 1)
        check_at_least("reduction", reduction, 1)
        check_at_least("min_hidden", min_hidden, 1)
        check_positive("temperature", temperature)
        check_at_least("steps", steps, 1)
        hidden = max(shape.in_channels // reduction, min_hidden)
        cells = shape.in_channels // shape.groups * shape.taps
        self.weight = nn.Parameter(torch.empty(kernels, shape.out_channels, cells))
        self.bias = nn.Parameter(torch.empty(shape.out_channels)) if shape.bias else None
        self.register_buffer("gain", torch.tensor(1.0))
        self.reduce = nn.Linear(shape.in_channels, hidden, bias=False)
        self.norm = BatchNorm1d(hidden)
        self.temperature = Temperature(temperature, steps)
        lengths = {
            "input": shape.in_channels,
            "output": 0 if shape.depthwise else shape.out_channels,
            "tap": shape.taps if shape.taps > 1 else 0,
            "kernel": kernels if kernels > 1 else 0,
        }
        self.heads = nn.ModuleDict({name: nn.Linear(hidden, length) for name, length in lengths.items() if length})
        for name in self.heads:
            self.add_module(f"{name}_map", Map(_AXES.get(name, name)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """He's initialisation by the outputs of each kernel and each layer, as in the authors' code; biases at zero."""
        nn.init.normal_(self.weight, std=math.sqrt(2 / (self.shape.out_channels * self.shape.taps)))
        if self.bias is not None:
            nn.init.zeros_(self.bias)
        for layer in (self.reduce, *self.heads.values()):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")  # pyright: ignore[reportArgumentType]
            if isinstance(layer.bias, nn.Parameter):
                nn.init.zeros_(layer.bias)  # pyright: ignore[reportArgumentType]
        self.norm.reset_parameters()
        self.temperature.reset()
        self.gain.fill_(1)

    @torch.no_grad()
    def take_over(self, conv: nn.Conv2d) -> None:
        """Every kernel is the convolution's, and the gain is two for each scale of one half that it meets."""
        scales = [name for name in self.heads if name != "kernel"]
        self.weight.copy_(conv.weight.flatten(1).expand_as(self.weight))
        self.gain.fill_(2 ** len(scales))
        if self.bias is not None and conv.bias is not None:
            self.bias.copy_(conv.bias)
        for name in scales:
            for parameter in self.heads[name].parameters():
                nn.init.zeros_(parameter)

    def gather(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b hidden"]:
        """The mean of the map through the bottleneck."""
        return torch.relu(self.norm(self.reduce(global_mean(x))))

    def weigh(self, context: Float[Tensor, "b hidden"]) -> dict[str, Float[Tensor, "b _"]]:
        """The weights along each dimension of the kernel."""
        weights: dict[str, Tensor] = {}
        like = full_precision(context)
        temperature = self.temperature(like)
        for name, head in self.heads.items():
            logits = full_precision(head(context)) / temperature
            shown = self.get_submodule(f"{name}_map")
            weights[name] = shown(full_softmax(logits, 1) if name == "kernel" else torch.sigmoid(logits))
        return weights

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o p q"]:
        """Weigh, mix the kernels, convolve every image with its own.

        Scales of input and output channels meet the maps, which are smaller than the kernels of all images.
        """
        shape, weights = self.shape, self.weigh(self.gather(x))
        x = x * (self.gain * weights["input"])[:, :, None, None].to(x.dtype)
        sides: dict[str, Any] = {"stride": shape.stride, "padding": shape.padding, "dilation": shape.dilation}
        if "kernel" in weights or "tap" in weights:
            y = convolve_each(x, self._mixed(weights), groups=shape.groups, **sides)
        else:
            y = F.conv2d(x, self._kernels()[0], groups=shape.groups, **sides)
        if "output" in weights:
            y = y * weights["output"][:, :, None, None].to(y.dtype)
        return y if self.bias is None else y + self.bias[:, None, None].to(y.dtype)

    def _kernels(self) -> Float[Tensor, "n o j kh kw"]:
        """A parameter of five axes would not survive a network's conversion to channels_last, so it has three."""
        shape = self.shape
        return self.weight.unflatten(2, (shape.in_channels // shape.groups, *shape.kernel_size))

    def _mixed(self, weights: dict[str, Tensor]) -> Float[Tensor, "b o j kh kw"]:
        """The kernel of each image."""
        mixed = kernels = self._kernels()
        if "kernel" in weights:
            mixed = mix_kernels(weights["kernel"], kernels)
        if "tap" in weights:
            mixed = mixed * weights["tap"].unflatten(1, self.shape.kernel_size)[:, None, None].to(mixed.dtype)
        return mixed
