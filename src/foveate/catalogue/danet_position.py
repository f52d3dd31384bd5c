"""Position attention of DANet: every position takes from all positions that resemble it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Affinity, Map
from foveate.errors import check_at_least
from foveate.ops.attend import attend, attend_weights
from foveate.registry import Card, Paper, mechanism


@dataclass(frozen=True)
class PositionWeights:
    """How much every position takes from every other: a softmax over products of queries with keys.

    Attributes:
        query: ``(b, k, target)``.
        key: ``(b, k, source)``.
        size: Height and width of the map.
    """

    query: Float[Tensor, "b k target"]
    key: Float[Tensor, "b k source"]
    size: tuple[int, int]

    def mix(self, value: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
        """Sum the values of all positions, weighted, at every position, in at least float32."""
        return attend(self.query, self.key, value.flatten(2)).reshape(value.shape)

    def dense(self) -> Float[Tensor, "b source target"]:
        """The weights as one matrix a sample."""
        return attend_weights(self.query, self.key)


class Embedding(NamedTuple):
    """What positions look for, are found by, and give."""

    query: Tensor
    key: Tensor
    value: Tensor


@mechanism(
    Card(
        name="danet_position",
        aliases=("pam",),
        title="Position attention module",
        paper=Paper(
            "Dual Attention Network for Scene Segmentation",
            "Fu, Liu, Tian, Li, Bao, Fang, Lu",
            "CVPR 2019",
            "1809.02983",
        ),
        equation="y_j = x_j + γ Σ_i softmax_i(B_iᵀ C_j) D_i,  B, C, D = W_b x, W_c x, W_d x",
        reference="junfu1115/DANet @ b0a0fa0, encoding/nn/da_att.py",
        differences=(
            "Queries and keys have an eighth of the channels, as in the authors' code; the paper draws them with all. "
            "They have at least one channel, where C // 8 is zero.",
            "Products, softmax and sums stay in float32 under autocast.",
        ),
        evidence=(
            "Semantic segmentation by DANet, which sums this module and its channel module: 81.5 mIoU on the "
            "Cityscapes test set with ResNet-101 from fine annotations alone, 79.93 on the validation set at a single "
            "scale. The abstract gives no figure for this module by itself, and no cost."
        ),
    )
)
class DANetPosition(Affinity):
    """Position attention of DANet: similar positions strengthen one another, however far apart.

    A softmax over the products of a position's query with the keys of all positions weighs their values; the sum,
    times a learned number that starts at zero, is added.

    Source: Fu et al., Dual Attention Network, section 3.2; the authors' code.

    Args:
        channels: Channels of the feature map.
        reduction: Queries and keys have ``max(1, channels // reduction)`` channels.

    Shape:
        ``(b, c, h, w)`` in and out; the map relates positions, ``hw->hw``.

    Raises:
        OptionError: If an option's value cannot work.

    Example:
        >>> import torch
        >>> from foveate.catalogue import DANetPosition
        >>> DANetPosition(64)(torch.randn(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])
    """

    unordered = True
    zeros = ("gamma",)

    def __init__(self, channels: int, *, reduction: int = 8) -> None:
        super().__init__()
        check_at_least("reduction", reduction, 1)
        hidden = max(1, channels // reduction)
        # the authors' names, so that their checkpoints load
        self.query_conv = nn.Conv2d(channels, hidden, 1)
        self.key_conv = nn.Conv2d(channels, hidden, 1)
        self.value_conv = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))
        self.map = Map("hw->hw")

    def reset_parameters(self) -> None:
        """PyTorch's defaults, and zero in front of the sum."""
        for layer in (self.query_conv, self.key_conv, self.value_conv):
            layer.reset_parameters()
        nn.init.zeros_(self.gamma)

    def gather(self, x: Float[Tensor, "b c h w"]) -> Embedding:
        """Queries, keys and values."""
        return Embedding(self.query_conv(x), self.key_conv(x), self.value_conv(x))

    def weigh(self, context: Embedding) -> PositionWeights:
        """Relate every position to every other."""
        query, key, _ = context
        return self.map(PositionWeights(query.flatten(2), key.flatten(2), (query.shape[2], query.shape[3])))

    def recalibrate(
        self,
        x: Float[Tensor, "b c h w"],  # noqa: ARG002
        weights: PositionWeights,
        context: Embedding,
    ) -> Float[Tensor, "b c h w"]:
        """Mix the values along the weights."""
        return self.gamma * weights.mix(context.value)
