"""Bottleneck attention: self-attention of several heads in place of a convolution, with relative positions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Map
from foveate.errors import OptionError, check_at_least, check_bool, check_size
from foveate.ops.groups import fitting_groups
from foveate.ops.layout import laid_like
from foveate.ops.matmul import full_matmul
from foveate.ops.mix import mix_values
from foveate.ops.precision import full_precision
from foveate.ops.size import only_size
from foveate.ops.softmax import full_softmax
from foveate.registry import Card, Paper, mechanism
from foveate.replacement import ConvShape, Replacement, check_centred


@dataclass(frozen=True)
class HeadWeights:
    """What one head sees: how much every position takes from every other.

    Attributes:
        weights: ``(b, source, target)``, sources and targets in rows of the map.
        size: Height and width of the map.
    """

    weights: Float[Tensor, "b source target"]
    size: tuple[int, int]

    def mix(self, value: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
        """Sum the values of all sources at every target, in at least float32."""
        return mix_values(value, self.weights)

    def dense(self) -> Float[Tensor, "b source target"]:
        """The weights."""
        return self.weights


@mechanism(
    Card(
        name="bottleneck_attention",
        aliases=("bot",),
        title="Multi-Head Self-Attention of Bottleneck Transformers",
        paper=Paper(
            "Bottleneck Transformers for Visual Recognition",
            "Srinivas, Lin, Parmar, Shlens, Abbeel, Vaswani",
            "CVPR 2021",
            "2101.11605",
        ),
        equation="y_i = Σ_j softmax_j(q_i·k_j / √d + q_i·(r^h_(row j - row i) + r^w_(column j - column i)) / √d) v_j",
        reference=(
            "the authors' code is a gist for TensorFlow and was not run; compared with timm 1.0.31, "
            "timm/layers/bottleneck_attn.py, which follows it"
        ),
        differences=(
            "Products with relative positions are divided by √d too, as in the authors' gist and with timm's "
            "`scale_pos_embed=True`; `scale_positions=false` leaves them, as timm's default does.",
            "Where the output's channels cannot be split into that many heads, it has the most heads that fit.",
            "A stride is a mean over windows behind the attention, over fewer positions where it does not divide the "
            "size; timm's drops the rest.",
            "A convolution that has a bias keeps it, behind the attention.",
            "Affinities, softmax and sums over positions stay in float32 under autocast.",
        ),
        evidence=(
            "In the place of the 3×3 convolutions of a ResNet's last three blocks: Mask R-CNN on COCO reaches 49.7 "
            "box AP and 44.4 mask AP with the network made so, with fewer parameters than before and little more "
            "latency. A variant for ImageNet has 84.7% top-1 and is up to 1.64 times faster on a TPU than "
            "EfficientNet."
        ),
    )
)
class BottleneckAttention(Replacement):
    """Self-attention of several heads between all positions, which know how far they are from one another.

    Each head compares queries with keys and with an embedding of the distance along height and along width, of which
    there is one for every distance in the map that it was made for. The convolution's kernel plays no part.

    It cannot take over a convolution, and starts as the paper has it.

    Source: Srinivas et al., Bottleneck Transformers, section 3 and figure 4.

    Args:
        shape: The convolution whose place it takes.
        size: Height and width of the map that it is given.
        heads: The most heads.
        scale_positions: Whether products with relative positions are divided by √d, as those with keys are.

    Shape:
        That of the convolution; each of ``maps.0``, ``maps.1``, … relates positions, ``hw->hw``, in one head.

    Raises:
        OptionError: If there is no size, the convolution has groups or does not keep its positions, or an option
            cannot work.

    Example:
        >>> import torch
        >>> from foveate.catalogue import BottleneckAttention
        >>> attention = BottleneckAttention(ConvShape.same(64), size=(7, 8))
        >>> attention(torch.randn(2, 64, 7, 8)).shape
        torch.Size([2, 64, 7, 8])
    """

    def __init__(
        self,
        shape: ConvShape,
        *,
        size: tuple[int, int] | None = None,
        heads: int = 4,
        scale_positions: bool = True,
    ) -> None:
        super().__init__(shape)
        check_at_least("heads", heads, 1)
        check_bool("scale_positions", scale_positions)
        check_centred("bottleneck_attention", shape)
        if shape.groups > 1:
            raise OptionError(f"bottleneck_attention relates all channels of a head: it cannot be a {shape}")
        if size is None:
            raise OptionError(
                "bottleneck_attention has an embedding for each distance in a map: give the map's size, or an "
                "example input to replace with"
            )
        check_size("size", size)
        self.fixed_size = size
        self.heads = fitting_groups(shape.out_channels, heads)
        self.each = shape.out_channels // self.heads
        self.scale_positions = scale_positions
        self.qkv = nn.Conv2d(shape.in_channels, 3 * shape.out_channels, 1, bias=False)
        self.rows = nn.Parameter(torch.empty(2 * size[0] - 1, self.each))
        self.columns = nn.Parameter(torch.empty(2 * size[1] - 1, self.each))
        self.bias = nn.Parameter(torch.empty(shape.out_channels)) if shape.bias else None
        self.maps = nn.ModuleList(Map("hw->hw") for _ in range(self.heads))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal distributions, of deviation 1/√inputs for the projection and 1/√d for the positions."""
        nn.init.trunc_normal_(self.qkv.weight, std=self.shape.in_channels**-0.5)
        for embedding in (self.rows, self.columns):
            nn.init.trunc_normal_(embedding, std=self.each**-0.5)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def take_over(self, conv: nn.Conv2d) -> str:  # noqa: ARG002
        """Leave everything as the paper starts it, and say why."""
        return "it weighs all positions by what they hold, and has no kernel to put the convolution's into"

    def weigh(self, query: Float[Tensor, "b n d p"], key: Float[Tensor, "b n d p"]) -> list[HeadWeights]:
        """Relate all positions, a relation for each head."""
        height, width = self.fixed_size or (1, 1)
        query = full_precision(query) * self.each**-0.5
        content = full_matmul(key.transpose(2, 3), query)
        asked = query if self.scale_positions else query * self.each**0.5
        row = torch.arange(height, device=query.device)
        column = torch.arange(width, device=query.device)
        # axes: distance's table [source, target, d], then logits [b, n, source, target row, target column]
        rows = self.rows[row[:, None] - row[None, :] + height - 1]
        columns = self.columns[column[:, None] - column[None, :] + width - 1]
        grid = asked.unflatten(3, (height, width))
        by_row = full_matmul(rows.permute(1, 0, 2), grid.permute(0, 1, 3, 2, 4)).permute(0, 1, 3, 2, 4)
        by_column = full_matmul(columns.permute(1, 0, 2), grid.permute(0, 1, 4, 2, 3)).permute(0, 1, 3, 4, 2)
        position = by_row[:, :, :, None] + by_column[:, :, None]
        weights = full_softmax(content + position.flatten(4, 5).flatten(2, 3), 2)
        return [point(HeadWeights(weights[:, head], (height, width))) for head, point in enumerate(self.maps)]

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o p q"]:
        """Relate the positions, mix their values, and take means where there is a stride."""
        x = only_size(x, self.fixed_size, "bottleneck_attention has an embedding for each distance in one map")
        query, key, value = self.qkv(x).chunk(3, 1)
        split = (self.heads, self.each)
        weights = self.weigh(query.flatten(2).unflatten(1, split), key.flatten(2).unflatten(1, split))
        values = value.chunk(self.heads, 1)
        y = laid_like(torch.cat([relation.mix(own) for relation, own in zip(weights, values, strict=True)], 1), x)
        if self.shape.stride != (1, 1):
            y = F.avg_pool2d(y, self.shape.stride, self.shape.stride, ceil_mode=True)
        return y if self.bias is None else y + self.bias[:, None, None].to(y.dtype)
