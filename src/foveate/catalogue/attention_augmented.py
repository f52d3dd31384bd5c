"""Attention-augmented convolution: some output channels by a convolution, the others by self-attention of all."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Map
from foveate.errors import OptionError, check_at_least, check_bool, check_positive, check_size
from foveate.ops.attend import AttendedPairs
from foveate.ops.layout import laid_like
from foveate.ops.matmul import full_matmul
from foveate.ops.size import only_size
from foveate.registry import Card, Paper, mechanism
from foveate.replacement import ConvShape, Replacement, check_centred


@mechanism(
    Card(
        name="attention_augmented",
        aliases=("aa",),
        title="Attention-Augmented Convolution",
        paper=Paper(
            "Attention Augmented Convolutional Networks",
            "Bello, Zoph, Vaswani, Shlens, Le",
            "ICCV 2019",
            "1904.09925",
        ),
        equation=(
            "y = [conv(x) ‖ W_o [O_1 ‖ … ‖ O_N]],  "
            "O_i = Σ_j softmax_j(q_i·(k_j + r^w_(column j - column i) + r^h_(row j - row i)) / √d) v_j"
        ),
        reference=(
            "no code was released but the listing in the paper's appendix; compared with "
            "leaderj1001/Attention-Augmented-Conv2d @ 1ce94a3, attention_augmented_conv.py, which is not the authors'"
        ),
        differences=(
            "Queries, keys and values are of single positions, as in the paper; the PyTorch version takes them from "
            "neighbourhoods as large as the convolution's kernel.",
            "What the heads bring is put back channel by channel; the PyTorch version reads (position, channel) as "
            "(channel, position), so that its positions and channels are mixed up.",
            "Relative positions are parameters and start from deviation 1/√d. In the paper's listing 1/√d stands where "
            "TensorFlow takes the mean; a first PyTorch version drew new ones in every forward pass.",
            "Channels of attention are the nearest multiple of the heads to their share, of at least one each. Where "
            "the share has fewer channels than there are heads, there are as many heads as channels. An output of one "
            "channel is attention alone, as is any whose channels all are: there is no convolution.",
            "With a stride, positions are those of the output, as in the PyTorch version.",
            "The convolution and the heads' projection have a bias where the replaced convolution has one; queries, "
            "keys and values have none, as in the paper's equations, for a key's would change no weight.",
            "The matrix of all pairs is not made where PyTorch has a kernel without it: relative positions are made "
            "part of queries and keys.",
            "Affinities, softmax and sums over positions stay in float32 under autocast.",
        ),
        evidence=(
            "ImageNet top-1 of ResNet-50 rises by 1.3 points, and RetinaNet on COCO by 1.4 mAP, with a similar number "
            "of parameters. As the ECA paper quotes it, 77.70% with ResNet-50, with 25.80 M parameters and 4.15 "
            "GFLOPs instead of about 25.6 M and 3.9."
        ),
    )
)
class AttentionAugmentedConvolution(Replacement):
    """Attention-augmented convolution: the last of the output's channels come from all positions, not neighbours.

    Each head compares every position with all others, by what they hold and, with ``relative``, by how far apart they
    are along height and along width. There is one embedding for every distance in the map, so that the map's size is
    fixed; without them positions are not told apart, and any size will do.

    It cannot take over a convolution, for attention makes the last channels: the other channels' kernels it takes.

    Source: Bello et al., Attention Augmented Convolutional Networks, sections 3 and 4, and appendix.

    Args:
        shape: The convolution whose place it takes.
        size: Height and width of the map that it is given; only with ``relative``.
        heads: The most heads.
        value_share: The share of the output's channels that come from attention.
        key_share: The channels of all heads' keys, as a share of the output's.
        min_key: The fewest channels of a head's keys.
        relative: Whether positions know how far they are from one another.

    Shape:
        That of the convolution; each of ``maps.0``, ``maps.1``, … relates positions of the output, ``hw->hw``, in one
        head.

    Raises:
        OptionError: If relative positions have no size, the convolution has groups or does not keep its positions, or
            an option cannot work.

    Example:
        >>> import torch
        >>> from foveate.catalogue import AttentionAugmentedConvolution
        >>> augmented = AttentionAugmentedConvolution(ConvShape.same(64), size=(7, 8))
        >>> augmented(torch.randn(2, 64, 7, 8)).shape
        torch.Size([2, 64, 7, 8])
    """

    def __init__(
        self,
        shape: ConvShape,
        *,
        size: tuple[int, int] | None = None,
        heads: int = 8,
        value_share: float = 0.1,
        key_share: float = 0.2,
        min_key: int = 20,
        relative: bool = True,
    ) -> None:
        super().__init__(shape)
        check_at_least("heads", heads, 1)
        check_positive("value_share", value_share)
        check_positive("key_share", key_share)
        check_at_least("min_key", min_key, 1)
        check_bool("relative", relative)
        if value_share > 1:
            raise OptionError(f"value_share is a part of the output's channels: at most 1, not {value_share}")
        check_centred("attention_augmented", shape)
        if shape.groups > 1:
            raise OptionError(
                f"attention_augmented gives some channels to heads that look at all: it cannot be a {shape}"
            )
        share = shape.out_channels * value_share
        self.heads = min(heads, max(1, round(share)))
        each = min(max(1, round(share / self.heads)), shape.out_channels // self.heads)
        self.values = each * self.heads
        self.keys = max(min_key, round(shape.out_channels * key_share / self.heads))
        rest = shape.out_channels - self.values
        sides: dict[str, Any] = {"stride": shape.stride, "padding": shape.padding, "dilation": shape.dilation}
        self.conv = nn.Conv2d(shape.in_channels, rest, shape.kernel_size, bias=shape.bias, **sides) if rest else None
        channels = 2 * self.keys * self.heads + self.values
        self.qkv = nn.Conv2d(shape.in_channels, channels, 1, stride=shape.stride, bias=False)
        self.project = nn.Conv2d(self.values, self.values, 1, bias=shape.bias)
        self.relative = relative
        if relative:
            if size is None:
                raise OptionError(
                    "attention_augmented has an embedding for each distance in a map: give the map's size, or an "
                    "example input to replace with; relative=false runs at any size"
                )
            check_size("size", size)
            self.fixed_size = size
            self.rows, self.columns = (
                nn.Parameter(torch.empty(2 * side - 1, self.keys)) for side in shape.out_size(size)
            )
        self.maps = nn.ModuleList(Map("hw->hw") for _ in range(self.heads))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """PyTorch's defaults for convolutions; a normal distribution of deviation 1/√d for relative positions."""
        for layer in (self.conv, self.qkv, self.project):
            if layer is not None:
                layer.reset_parameters()
        if self.relative:
            for embedding in (self.rows, self.columns):
                nn.init.normal_(embedding, std=self.keys**-0.5)

    @torch.no_grad()
    def take_over(self, conv: nn.Conv2d) -> str:
        """Take the kernels of the channels that are still convolved, and say why the others' have no place."""
        if self.conv is not None:
            self.conv.weight.copy_(conv.weight[: self.conv.out_channels])
            if self.conv.bias is not None and conv.bias is not None:
                self.conv.bias.copy_(conv.bias[: self.conv.out_channels])
        return "its last channels come from attention over all positions, which has no kernel to put theirs into"

    def weigh(self, query: Float[Tensor, "b k h w"], key: Float[Tensor, "b k h w"]) -> list[AttendedPairs]:
        """Relate all positions, a relation for each head."""
        size = (query.shape[2], query.shape[3])
        split = (self.heads, self.keys)
        queries, sources = query.unflatten(1, split), key.flatten(2).unflatten(1, split)
        longer = self.placed(queries, sources) if self.relative else (queries.flatten(3), sources)
        pairs = zip(self.maps, longer[0].unbind(1), longer[1].unbind(1), strict=True)
        return [point(AttendedPairs(asked, found, size, self.keys**-0.5)) for point, asked, found in pairs]

    def placed(
        self, query: Float[Tensor, "b n d h w"], key: Float[Tensor, "b n d source"]
    ) -> tuple[Float[Tensor, "b n k target"], Float[Tensor, "b n k source"]]:
        """Queries and keys made longer by rows and columns: their products are those with relative positions too."""
        height, width = self.shape.out_size(self.fixed_size or (1, 1))
        row = torch.arange(height, device=query.device)
        column = torch.arange(width, device=query.device)
        # axes: target, d, source
        rows = self.rows[row[None, :] - row[:, None] + height - 1].transpose(1, 2)
        columns = self.columns[column[None, :] - column[:, None] + width - 1].transpose(1, 2)
        by_row = full_matmul(query.permute(0, 1, 3, 4, 2), rows).permute(0, 1, 4, 2, 3)
        by_column = full_matmul(query.permute(0, 1, 4, 3, 2), columns).permute(0, 1, 4, 3, 2)
        at_row = torch.eye(height, device=query.device).repeat_interleave(width, 1)
        at_column = torch.eye(width, device=query.device).repeat(1, height)
        at = torch.cat((at_row, at_column)).to(by_row.dtype).expand(key.shape[0], key.shape[1], -1, -1)
        asked = torch.cat((query.to(by_row.dtype), by_row, by_column), 2).flatten(3)
        return asked, torch.cat((key.to(by_row.dtype), at), 2)

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o p q"]:
        """Convolve, attend, and put the channels of both beside one another."""
        x = only_size(
            x,
            self.fixed_size,
            "attention_augmented has an embedding for each distance in one map; relative=false runs at any size",
        )
        keys = self.heads * self.keys
        query, key, value = self.qkv(x).split((keys, keys, self.values), 1)
        relations = self.weigh(query, key)
        values = value.chunk(self.heads, 1)
        mixed = torch.cat([relation.mix(own) for relation, own in zip(relations, values, strict=True)], 1)
        attended = self.project(laid_like(mixed, x))
        return attended if self.conv is None else torch.cat((self.conv(x), attended), 1)
