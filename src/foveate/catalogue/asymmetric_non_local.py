"""Asymmetric non-local: every position looks at a pyramid of means instead of at all positions."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Map, Update
from foveate.errors import OptionError, check_at_least, check_choice
from foveate.ops.adaptive import adaptive_mean
from foveate.ops.matmul import full_matmul
from foveate.ops.norm import BatchNorm2d
from foveate.ops.softmax import full_softmax
from foveate.registry import Card, Paper, mechanism

# Theirs passes through the shared norm twice a batch, at 0.1 each time: 1 - (1 - 0.1)² is where that ends.
MOMENTUM = 0.19


class Embedding(NamedTuple):
    """What is gathered: a query for every position, keys and values for the bins."""

    query: Tensor
    key: Tensor
    value: Tensor


@mechanism(
    Card(
        name="asymmetric_non_local",
        aliases=("apnb",),
        title="Asymmetric Pyramid Non-local Block",
        paper=Paper(
            "Asymmetric Non-local Neural Networks for Semantic Segmentation",
            "Zhu, Xu, Bai, Huang, Bai",
            "ICCV 2019",
            "1908.07678",
        ),
        equation=(
            "q = φ(x), k = pool(φ(x)), v = pool(W_v x) over 1² + 3² + 6² + 8² bins\n"
            "u = W · softmax over bins (qᵀk / √d) v\n"
            "y = x + u  (fusion=add)   or   relu(norm(W_f [u ‖ x]))  (fusion=concat, the released network's)"
        ),
        reference="MendelXu/ANN @ f4eabeb, models/seg/utils/apnb.py",
        differences=(
            "Fusion by addition is the paper's other form and the default, because it can start as the identity; "
            "`fusion=concat` is the released network's, without its dropout (0.05), which is left to the network.",
            "Values are pooled before their projection and not after it: the same, as both are linear, for 110 bins "
            "instead of all positions.",
            "The authors' code computes the shared embedding twice a batch and so moves the statistics of its norm "
            "twice; here it is computed once, with a momentum of 0.19, which leaves the same statistics.",
            "Started at the identity, the last projection is drawn as PyTorch draws convolutions: the paper's is zero, "
            "and would be a second zero behind the blend.",
            "Key and value channels are half of the input's, 256 of 512 as published.",
            "The weights and their products with the values stay in float32 under autocast.",
            "A training batch of one value per channel is normalised with the running statistics.",
        ),
        evidence=(
            "Semantic segmentation with ResNet-101: 81.3 mIoU on the Cityscapes test set (several scales) and 45.24 "
            "on ADE20K, by the whole network, which has an asymmetric fusion block besides. For an input of 256×128 "
            "the pyramid block runs about 6 times faster on a GPU than a non-local block, in a 28th of its memory."
        ),
    )
)
class AsymmetricNonLocal(Update):
    """Asymmetric non-local attention: every position looks at the means of the bins of a pyramid.

    Positions are embedded; the embeddings, and the values, are averaged over the bins of several grids, from one bin
    for the whole map to 8×8. Each position takes a mix of the bins' values, weighted by a softmax over its products
    with their keys, projected back. The cost grows with the number of positions, not with its square.

    Source: Zhu et al., Asymmetric Non-local Neural Networks, sections 3.1 and 3.2; the authors' PyTorch code.

    Args:
        channels: Channels of the feature map.
        sizes: The grids of the pyramid, by the bins a side has.
        reduction: Keys and values have ``max(1, channels // reduction)`` channels.
        fusion: ``"add"`` the update to the features, or project the two together with ``"concat"``, as in the
            released network.

    Shape:
        ``(b, c, h, w)`` in and out; the map has the axes ``slot``, ``h``, ``w``: each position's share in each bin,
        grids in order and bins in rows.

    Raises:
        OptionError: If an option's value cannot work.

    Example:
        >>> import torch
        >>> from foveate.catalogue import AsymmetricNonLocal
        >>> AsymmetricNonLocal(64)(torch.randn(2, 64, 14, 14)).shape
        torch.Size([2, 64, 14, 14])
    """

    def __init__(
        self,
        channels: int,
        *,
        sizes: tuple[int, ...] = (1, 3, 6, 8),
        reduction: int = 2,
        fusion: Literal["add", "concat"] = "add",
    ) -> None:
        super().__init__()
        self.sizes = _grids(sizes)
        check_at_least("reduction", reduction, 1)
        check_choice("fusion", fusion, ("add", "concat"))
        self.fusion = fusion
        hidden = max(1, channels // reduction)
        self.scale = hidden**-0.5
        # the authors' names, so that their checkpoints load
        self.f_key = nn.Sequential(
            nn.Conv2d(channels, hidden, 1), nn.Sequential(BatchNorm2d(hidden, momentum=MOMENTUM), nn.ReLU())
        )
        self.f_value = nn.Conv2d(channels, hidden, 1)
        self.W = nn.Conv2d(hidden, channels, 1)
        if fusion == "concat":
            self.conv_bn_dropout = nn.Sequential(
                nn.Conv2d(2 * channels, channels, 1), nn.Sequential(BatchNorm2d(channels), nn.ReLU())
            )
        self.map = Map("slot", "h", "w")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """PyTorch's defaults, and zero for the last projection, as in the authors' code."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.BatchNorm2d):
                layer.reset_parameters()
        nn.init.zeros_(self.W.weight)
        for bias in self.W.parameters():
            nn.init.zeros_(bias)

    def start_at_identity(self) -> None:
        """Become the identity function; only with ``fusion="add"``, which has one.

        Raises:
            OptionError: With ``fusion="concat"``, which projects the features.
        """
        if self.fusion == "concat":
            raise OptionError("asymmetric_non_local with fusion=concat projects the features: use fusion=add")
        super().start_at_identity()
        self.W.reset_parameters()

    def gather(self, x: Float[Tensor, "b c h w"]) -> Embedding:
        """Embed the positions, and average the embeddings and the features over the bins."""
        query = self.f_key(x)
        return Embedding(query, self._pyramid(query)[..., 0], self.f_value(self._pyramid(x))[..., 0])

    def weigh(self, context: Embedding) -> Float[Tensor, "b slot h w"]:
        """Each position's share in each bin."""
        products = full_matmul(context.key.transpose(1, 2), context.query.flatten(2)) * self.scale
        return self.map(full_softmax(products, 1).unflatten(2, context.query.shape[2:]))

    def recalibrate(
        self,
        x: Float[Tensor, "b c h w"],  # noqa: ARG002
        weights: Float[Tensor, "b slot h w"],
        context: Embedding,
    ) -> Float[Tensor, "b c h w"]:
        """Each position's mix of the bins' values, projected."""
        mixed = full_matmul(context.value, weights.flatten(2))
        return self.W(mixed.to(context.value.dtype).reshape(context.query.shape))

    def fuse(self, x: Float[Tensor, "b c h w"], update: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Add the update, or project it together with the features."""
        return x + update if self.fusion == "add" else self.conv_bn_dropout(torch.cat((update, x), 1))

    def _pyramid(self, x: Tensor) -> Float[Tensor, "b c slot 1"]:
        return torch.cat([adaptive_mean(x, (size, size)).flatten(2) for size in self.sizes], 2)[..., None]


def _grids(sizes: tuple[int, ...] | int) -> tuple[int, ...]:
    grids = sizes if isinstance(sizes, tuple) else (sizes,)
    if not grids:
        raise OptionError("sizes must name at least one grid")
    for size in grids:
        check_at_least("each of sizes", size, 1)
    if grids == (1,):
        raise OptionError("sizes=1 is one bin, in which every position has the same share: name a finer grid too")
    return grids
