"""Disentangled non-local block: how two positions differ from the mean together, and how salient one is alone."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Affinity, Map
from foveate.errors import check_at_least, check_bool, check_positive
from foveate.ops.attend import AttendedPairs
from foveate.ops.matmul import full_matmul
from foveate.ops.precision import full_precision
from foveate.ops.softmax import full_softmax
from foveate.registry import Card, Paper, mechanism


class Embedding(NamedTuple):
    """What positions look for, are found by, and give, and how salient each is."""

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None


class Weights(NamedTuple):
    """The pairwise weights, and those of each position alone."""

    pairwise: AttendedPairs
    unary: Tensor | None


@mechanism(
    Card(
        name="disentangled_non_local",
        aliases=("dnl",),
        title="Disentangled non-local block",
        paper=Paper(
            "Disentangled Non-Local Neural Networks",
            "Yin, Yao, Cao, Li, Zhang, Lin, Hu",
            "ECCV 2020",
            "2006.06668",
        ),
        equation=(
            "y_i = x_i + γ Σ_j softmax_j((q_i - μ_q)ᵀ(k_j - μ_k) / (τ√d)) v_j + Σ_j softmax_j(m_j) v_j\n"
            "q, k, v, m = W_q x, W_k x, W_v x, w_mᵀ x"
        ),
        reference="yinmh17/DNL-Semantic-Segmentation @ 594a359, model/seg/ops/nonlocal_block.py",
        differences=(
            "γ, a learned number that starts at zero, stands before the pairwise term alone, and the products are "
            "divided by √d, as in the authors' code; the paper's equation has neither.",
            "The temperature of 0.05 is the one of the authors' Cityscapes configuration; their class has 1.",
            "Convolutions of queries, keys and mask have no bias: the means and the softmax cancel it, and it would "
            "never learn. The authors' weights give the same without it.",
            "The keys are not shrunk by pooling (`downsample` in the authors' code, off in their configurations).",
            "MMSegmentation's block is another: values at half the channels, both terms projected by one convolution "
            "with a norm, and no γ.",
            "Queries and keys have at least one channel, where C // 2 is zero.",
            "Means, products, softmaxes and sums stay in float32 under autocast.",
        ),
        evidence=(
            "Segmentation (Cityscapes, ADE20K, PASCAL Context), detection and action recognition. In the authors' "
            "detection repository one block in ResNet-50's conv4 takes Mask R-CNN on COCO from 38.8 to 40.3 "
            "box AP and from 35.1 to 36.4 mask AP; a non-local block gives 39.6 and 35.8, a global context block 40.1 "
            "and 36.2. No cost is given there."
        ),
    )
)
class DisentangledNonLocal(Affinity):
    """Disentangled non-local block: a whitened pairwise term and a unary term, each with a softmax of its own.

    A non-local block's products mix two things: whether two positions differ from the mean in the same way, and how
    much every position attracts by itself. Here the first is computed from queries and keys less their means, the
    second from a convolution of its own, the same for whoever looks; both sum the same values.

    Source: Yin et al., Disentangled Non-Local Neural Networks, sections 3 and 4; the authors' code.

    Args:
        channels: Channels of the feature map.
        reduction: Queries and keys have ``max(1, channels // reduction)`` channels.
        temperature: What the pairwise products are divided by, beside the root of their channels.
        unary: Whether there is a unary term.
        project: Whether values have as few channels as queries, and a last convolution brings them back.

    Shape:
        ``(b, c, h, w)`` in and out; ``pairwise_map`` relates positions, ``hw->hw``, ``unary_map`` has the axes ``h``
        and ``w``.

    Raises:
        OptionError: If an option's value cannot work.

    Example:
        >>> import torch
        >>> from foveate.catalogue import DisentangledNonLocal
        >>> DisentangledNonLocal(64)(torch.randn(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])
    """

    unordered = True
    zeros = ("gamma",)

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 2,
        temperature: float = 0.05,
        unary: bool = True,
        project: bool = False,
    ) -> None:
        super().__init__()
        check_at_least("reduction", reduction, 1)
        check_positive("temperature", temperature)
        check_bool("unary", unary)
        check_bool("project", project)
        hidden = max(1, channels // reduction)
        self.scale = hidden**-0.5 / temperature
        # the authors' names, so that their checkpoints load
        self.conv_query = nn.Conv2d(channels, hidden, 1, bias=False)
        self.conv_key = nn.Conv2d(channels, hidden, 1, bias=False)
        self.conv_value = nn.Conv2d(channels, hidden if project else channels, 1, bias=project)
        self.conv_out = nn.Conv2d(hidden, channels, 1, bias=False) if project else nn.Identity()
        self.gamma = nn.Parameter(torch.zeros(1))
        self.pairwise_map = Map("hw->hw")
        self.unary = unary
        if unary:
            self.conv_mask = nn.Conv2d(channels, 1, 1, bias=False)
            self.unary_map = Map("h", "w")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights of deviation 0.01, biases zero, and zero in front of the pairwise term."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.01)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.gamma)

    def gather(self, x: Float[Tensor, "b c h w"]) -> Embedding:
        """Queries, keys, values, and the logits of the unary term."""
        mask = self.conv_mask(x) if self.unary else None
        return Embedding(self.conv_query(x), self.conv_key(x), self.conv_value(x), mask)

    def weigh(self, context: Embedding) -> Weights:
        """Relate every position to every other, less the means; then each position by itself."""
        query, key, _, mask = context
        whitened = AttendedPairs(_centred(query), _centred(key), (query.shape[2], query.shape[3]), self.scale)
        pairwise = self.pairwise_map(whitened)
        if mask is None:
            return Weights(pairwise, None)
        return Weights(pairwise, self.unary_map(full_softmax(mask.flatten(2), 2).reshape(mask.shape)))

    def recalibrate(
        self,
        x: Float[Tensor, "b c h w"],  # noqa: ARG002
        weights: Weights,
        context: Embedding,
    ) -> Float[Tensor, "b c h w"]:
        """Mix the values along both terms."""
        value = context.value
        update = self.gamma * weights.pairwise.mix(value)
        if weights.unary is not None:
            salient = full_matmul(value.flatten(2), weights.unary.flatten(2).transpose(1, 2)).to(value.dtype)
            update = update + salient.unsqueeze(3)
        return self.conv_out(update)


def _centred(embedding: Tensor) -> Tensor:
    embedding = full_precision(embedding).flatten(2)
    return embedding - embedding.mean(2, keepdim=True)
