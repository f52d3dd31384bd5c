"""Double attention block: a few descriptors are gathered from the whole map, and every position picks among them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Affinity, Map
from foveate.errors import check_at_least, check_bool
from foveate.ops.matmul import full_matmul
from foveate.ops.norm import BatchNorm2d
from foveate.ops.softmax import full_softmax
from foveate.registry import Card, Paper, mechanism


@dataclass(frozen=True)
class DoubleWeights:
    """How much every position takes from every other, by way of the descriptors: a matrix of their number's rank.

    Attributes:
        gathering: The share of every source in each descriptor, ``(b, n, source)``.
        distribution: The share of each descriptor in every target, ``(b, n, target)``.
        size: Height and width of the map.
    """

    gathering: Float[Tensor, "b n source"]
    distribution: Float[Tensor, "b n target"]
    size: tuple[int, int]

    def mix(self, value: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
        """Gather the values of all positions into descriptors, and distribute these, in at least float32."""
        descriptors = full_matmul(value.flatten(2), self.gathering.transpose(1, 2))
        return full_matmul(descriptors, self.distribution).to(value.dtype).reshape(value.shape)

    def dense(self) -> Float[Tensor, "b source target"]:
        """The weights as one matrix a sample."""
        return full_matmul(self.gathering.transpose(1, 2), self.distribution)


class Embedding(NamedTuple):
    """What positions give, and the logits of how it is gathered and distributed."""

    value: Tensor
    gathering: Tensor
    distribution: Tensor


@mechanism(
    Card(
        name="double_attention",
        aliases=("a2",),
        title="Double attention block",
        paper=Paper(
            "A²-Nets: Double Attention Networks",
            "Chen, Kalantidis, Li, Yan, Feng",
            "NeurIPS 2018",
            "1810.11579",
        ),
        equation="y = x + norm(W z),  z = [φ(x) softmax_hw(θ(x))ᵀ] softmax_n(ρ(x))",
        reference="no code was released",
        differences=(
            "The equation ends with z. That a last convolution brings it to as many channels as came in, and that it "
            "is added to the features, is how the paper puts the block into a network.",
            "The norm after that convolution, its weight zero at first so that the block starts as the identity, is "
            "that of the non-local block; there is no released code to tell. `norm=false` leaves it out.",
            "Values and descriptors number half the channels each: two such blocks at 512 channels and three at 1024 "
            "make ResNet-50 one of 32.9 million parameters, where ECA-Net's table quotes 33.00 for the authors'.",
            "The convolution behind the softmax over positions has no bias: the softmax cancels it.",
            "Without its norm the block starts with the last convolution zero; started at the identity, that "
            "convolution has weights as the others, and the blend is the zero.",
            "Softmaxes and sums stay in float32 under autocast.",
            "A training batch of one value per channel is normalised with the running statistics.",
        ),
        evidence=(
            "With the blocks, ResNet-50 is better on ImageNet than ResNet-152, with over 40% fewer parameters and "
            "fewer FLOPs; action recognition on Kinetics and UCF-101 gains too. As the ECA paper quotes it: 77.00% "
            "top-1 against 75.20% for ResNet-50, with 33.0 M parameters and 6.50 GFLOPs instead of about 25.6 M and "
            "3.9."
        ),
    )
)
class DoubleAttention(Affinity):
    """Double attention block: gather descriptors from the whole map, then distribute them to every position.

    Each descriptor is a sum of all positions' values, weighted by a softmax over positions; each position receives a
    sum of all descriptors, weighted by a softmax over descriptors. The result is projected back and added.

    Source: Chen et al., A²-Nets, section 3.

    Args:
        channels: Channels of the feature map.
        reduction: Values have ``max(1, channels // reduction)`` channels.
        descriptors: How many descriptors are gathered; ``None`` for as many as values have channels.
        norm: Whether batch normalisation follows the last convolution.

    Shape:
        ``(b, c, h, w)`` in and out; the map relates positions, ``hw->hw``.

    Raises:
        OptionError: If an option's value cannot work.

    Example:
        >>> import torch
        >>> from foveate.catalogue import DoubleAttention
        >>> DoubleAttention(64)(torch.randn(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])
    """

    unordered = True

    def __init__(self, channels: int, *, reduction: int = 2, descriptors: int | None = None, norm: bool = True) -> None:
        super().__init__()
        check_at_least("reduction", reduction, 1)
        check_bool("norm", norm)
        if descriptors is not None:
            check_at_least("descriptors", descriptors, 1)
        inner = max(1, channels // reduction)
        count = inner if descriptors is None else descriptors
        self.value = nn.Conv2d(channels, inner, 1)
        self.gathering = nn.Conv2d(channels, count, 1, bias=False)  # a softmax over positions cancels a bias
        self.distribution = nn.Conv2d(channels, count, 1)
        self.out = nn.Conv2d(inner, channels, 1)
        self.norm = BatchNorm2d(channels) if norm else nn.Identity()
        self.zeros = ("norm.weight",) if norm else ()
        self.map = Map("hw->hw")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """PyTorch's defaults, and zero the norm's weight, or without one the last convolution's."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.BatchNorm2d):
                layer.reset_parameters()
        if isinstance(self.norm, nn.BatchNorm2d):
            nn.init.zeros_(self.norm.weight)
        else:
            nn.init.zeros_(self.out.weight)
            if self.out.bias is not None:
                nn.init.zeros_(self.out.bias)

    def start_at_identity(self) -> None:
        """Become the identity function by the blend alone: no other zero stands behind it."""
        super().start_at_identity()
        self.out.reset_parameters()

    def gather(self, x: Float[Tensor, "b c h w"]) -> Embedding:
        """Values, and logits of both attentions."""
        return Embedding(self.value(x), self.gathering(x), self.distribution(x))

    def weigh(self, context: Embedding) -> DoubleWeights:
        """Weights of gathering over positions, of distribution over descriptors."""
        _, gathering, distribution = context
        size = (gathering.shape[2], gathering.shape[3])
        one, other = full_softmax(gathering.flatten(2), 2), full_softmax(distribution.flatten(2), 1)
        return self.map(DoubleWeights(one, other, size))

    def recalibrate(
        self,
        x: Float[Tensor, "b c h w"],  # noqa: ARG002
        weights: DoubleWeights,
        context: Embedding,
    ) -> Float[Tensor, "b c h w"]:
        """Mix the values, project and normalise."""
        return self.norm(self.out(weights.mix(context.value)))
