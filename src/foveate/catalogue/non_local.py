"""Non-local block: every position's response is a weighted sum of the features at all positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Affinity, Map
from foveate.errors import check_at_least, check_bool, check_choice
from foveate.ops.attend import attend, attend_weights
from foveate.ops.cells import cell_maxima, cell_means, spread_cells
from foveate.ops.matmul import full_matmul
from foveate.ops.norm import BatchNorm2d
from foveate.ops.precision import full_precision
from foveate.registry import Card, Paper, mechanism

MODES = ("embedded_gaussian", "gaussian", "dot_product", "concatenation")


@dataclass(frozen=True)
class NonLocalWeights:
    """How much every position takes from every other.

    With subsampling the sources are cells of 2×2 positions. A cell's weight is then shared evenly by its positions, so
    that sources are positions here too; a position that belongs to no cell has no weight.

    Attributes:
        mode: The pairwise function.
        query: What targets are compared by, ``(b, k, target)``; in concatenation their part of the sum, ``k`` being 1.
        key: What sources are compared by, ``(b, k, source)``; in concatenation their part of the sum.
        size: Height and width of the map.
        scale: What products are multiplied by before a softmax.
        subsample: Whether sources are cells.
    """

    mode: str
    query: Float[Tensor, "b k target"]
    key: Float[Tensor, "b k source"]
    size: tuple[int, int]
    scale: float
    subsample: bool

    def mix(self, value: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
        """Sum the values of all positions, weighted, at every position."""
        sources = (cell_means(value) if self.subsample else value).flatten(2)
        if self.mode == "concatenation":
            mixed = full_matmul(sources, self._pairs())
        elif self.mode == "dot_product":  # (values · keys) · queries is small, where keys · queries is HW×HW
            gathered = full_matmul(sources, self.key.transpose(1, 2)) / self.key.shape[2]
            mixed = full_matmul(gathered, self.query)
        else:
            mixed = attend(self.query, self.key, sources, self.scale)
        return mixed.to(value.dtype).reshape(value.shape)

    def dense(self) -> Float[Tensor, "b source target"]:
        """The weights as one matrix a sample."""
        pairs = self._pairs()
        if not self.subsample:
            return pairs
        height, width = self.size
        tall, wide = min(2, height), min(2, width)
        cells = pairs.transpose(1, 2).unflatten(2, (height // tall, width // wide)) / (tall * wide)
        return spread_cells(cells, self.size).flatten(2).transpose(1, 2)

    def _pairs(self) -> Float[Tensor, "b source target"]:
        if self.mode == "concatenation":
            return torch.relu(full_precision(self.key).transpose(1, 2) + full_precision(self.query)) / self.key.shape[2]
        if self.mode == "dot_product":
            return full_matmul(self.key.transpose(1, 2), self.query) / self.key.shape[2]
        return attend_weights(self.query, self.key, self.scale)


class Embedding(NamedTuple):
    """What the positions are compared by, and what they give."""

    query: Tensor
    key: Tensor
    value: Tensor


@mechanism(
    Card(
        name="non_local",
        aliases=("nl",),
        title="Non-local block",
        paper=Paper("Non-local Neural Networks", "Wang, Girshick, Gupta, He", "CVPR 2018", "1711.07971"),
        equation=(
            "y = x + norm(W_z z + b),  z_i = Σ_j f(x_i, x̂_j) g(x̂_j) / C,  x̂ = maxpool_2(x)\n"
            "f/C: softmax_j(θ(x_i)ᵀφ(x̂_j) / √d),  softmax_j(x_iᵀx̂_j),  θ(x_i)ᵀφ(x̂_j) / N  or  "
            "relu(w_fᵀ[θ(x_i), φ(x̂_j)]) / N"
        ),
        reference=(
            "AlexHex7/Non-local_pytorch @ ec15789, lib/non_local_*.py, and open-mmlab/mmcv @ a8073c7, "
            "mmcv/cnn/bricks/non_local.py, neither of them the authors'; facebookresearch/video-nonlocal-net @ c253ed5 "
            "is Caffe2, which does not run any more, and was read for its options and defaults"
        ),
        differences=(
            "`scale` divides the products by √d, which the paper's equation does not, and `subsample` pools the "
            "features that sources are made of, which the paper calls an option: both are on in the authors' code.",
            "The authors pool the features before φ and g, as the paper writes it; the two PyTorch versions pool after "
            "them, and agree without subsampling only.",
            "The authors' code has the embedded Gaussian and the dot product; the other two modes are the paper's.",
            "Along a side of one position there is nothing to pool; the authors' pooling refuses it.",
            "Without its norm the block starts at zero by its last convolution, as the authors' `USE_ZERO_INIT_CONV`.",
            "Started at the identity, that convolution has weights as the others: the blend is the zero.",
            "Weights and mixing stay in float32 under autocast.",
            "A training batch of one value per channel is normalised with the running statistics.",
        ),
        evidence=(
            "Video on Kinetics with ResNet-50: top-1 from 71.8% to 73.8% in a 2D network on 32 frames, from 73.3% to "
            "74.9% inflated to 3D, and from 74.9% to 76.5% on 128 frames; detection, segmentation and keypoints on "
            "COCO gain too. The affinity of all pairs grows with the square of the number of positions."
        ),
    )
)
class NonLocal(Affinity):
    """Non-local block: every position takes from all positions, by how well they go together.

    Positions are embedded twice, to be compared as targets (θ) and as sources (φ), and a third time for what a source
    gives (g). A pairwise function of the first two weighs the third; the weighted sum is projected back, normalised
    and added.

    Source: Wang et al., Non-local Neural Networks, section 3; options and initialisation from the authors' code.

    Args:
        channels: Channels of the feature map.
        mode: The pairwise function: ``"embedded_gaussian"`` (softmax of products of embeddings), ``"gaussian"``
            (softmax of products of the features themselves), ``"dot_product"`` (products, divided by the number of
            sources) or ``"concatenation"`` (ReLU of a learned sum of both embeddings, divided likewise).
        reduction: The block works on ``max(1, channels // reduction)`` channels.
        scale: Whether the embedded Gaussian divides products by the root of their number of channels.
        subsample: Whether sources are cells of 2×2 positions, joined by their maximum. Without it the block treats
            positions as a set, and signals and volumes work.
        norm: Whether batch normalisation follows the last convolution.

    Shape:
        ``(b, c, h, w)`` in and out; the map relates positions, ``hw->hw``.

    Raises:
        OptionError: If an option's value cannot work.

    Example:
        >>> import torch
        >>> from foveate.catalogue import NonLocal
        >>> NonLocal(64, mode="dot_product")(torch.randn(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])
    """

    def __init__(
        self,
        channels: int,
        *,
        mode: Literal["embedded_gaussian", "gaussian", "dot_product", "concatenation"] = "embedded_gaussian",
        reduction: int = 2,
        scale: bool = True,
        subsample: bool = True,
        norm: bool = True,
    ) -> None:
        super().__init__()
        check_choice("mode", mode, MODES)
        check_at_least("reduction", reduction, 1)
        check_bool("scale", scale)
        check_bool("subsample", subsample)
        check_bool("norm", norm)
        inner = max(1, channels // reduction)
        self.mode, self.subsample = mode, subsample
        self.unordered = not subsample
        self.smallest = 4 if subsample else 1
        self.scale = inner**-0.5 if scale and mode == "embedded_gaussian" else 1.0
        if mode != "gaussian":
            self.theta = nn.Conv2d(channels, inner, 1)
            self.phi = nn.Conv2d(channels, inner, 1)
        if mode == "concatenation":
            self.project = nn.Conv2d(2 * inner, 1, 1, bias=False)
        self.g = nn.Conv2d(channels, inner, 1)
        self.out = nn.Conv2d(inner, channels, 1)
        self.norm = BatchNorm2d(channels) if norm else nn.Identity()
        self.zeros = ("norm.weight",) if norm else ()
        self.map = Map("hw->hw")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights of deviation 0.01, biases zero, and zero the norm's weight, or without one the last convolution."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.01)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        if isinstance(self.norm, nn.BatchNorm2d):
            self.norm.reset_parameters()
            nn.init.zeros_(self.norm.weight)
        else:
            nn.init.zeros_(self.out.weight)

    def start_at_identity(self) -> None:
        """Become the identity function by the blend alone: no other zero stands behind it."""
        super().start_at_identity()
        nn.init.normal_(self.out.weight, std=0.01)

    def gather(self, x: Float[Tensor, "b c h w"]) -> Embedding:
        """Embed targets and sources."""
        sources = cell_maxima(x) if self.subsample else x
        value = self.g(sources)
        if self.mode == "gaussian":
            return Embedding(x, sources, value)
        query, key = self.theta(x), self.phi(sources)
        if self.mode == "concatenation":  # the sum over both halves is made of one number for each position
            of_target, of_source = self.project.weight.chunk(2, 1)
            query, key = nn.functional.conv2d(query, of_target), nn.functional.conv2d(key, of_source)
        return Embedding(query, key, value)

    def weigh(self, context: Embedding) -> NonLocalWeights:
        """Relate every source to every target."""
        query, key = context.query, context.key
        size = (query.shape[2], query.shape[3])
        weights = NonLocalWeights(self.mode, query.flatten(2), key.flatten(2), size, self.scale, self.subsample)
        return self.map(weights)

    def recalibrate(
        self, x: Float[Tensor, "b c h w"], weights: NonLocalWeights, context: Embedding
    ) -> Float[Tensor, "b c h w"]:
        """Mix what the sources give, project and normalise."""
        value = context.value
        if self.subsample:
            value = spread_cells(value, (x.shape[2], x.shape[3]))
        return self.norm(self.out(weights.mix(value)))
