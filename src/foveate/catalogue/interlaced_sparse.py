"""Interlaced sparse attention: positions far apart first, neighbours second, and so all with all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Affinity, Map
from foveate.errors import OptionError, check_at_least, check_choice, check_size
from foveate.ops.interlace import from_blocks, from_lattices, to_blocks, to_lattices
from foveate.ops.matmul import full_matmul
from foveate.ops.norm import BatchNorm2d
from foveate.ops.softmax import full_softmax
from foveate.registry import Card, Paper, mechanism


@dataclass(frozen=True)
class GroupWeights:
    """The weights between positions that are in one group; between groups there are none.

    Attributes:
        weights: ``(b, group, source, target)``.
        size: Height and width of the padded map.
        block: Height and width of a block.
        kind: ``"long"``: a group is a lattice, one position of every block. ``"short"``: a group is a block.
    """

    weights: Float[Tensor, "b group source target"]
    size: tuple[int, int]
    block: tuple[int, int]
    kind: Literal["long", "short"]

    def mix(self, value: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
        """Sum the values of a group's positions at each of its positions, in at least float32."""
        split, join = (to_lattices, from_lattices) if self.kind == "long" else (to_blocks, from_blocks)
        mixed = full_matmul(split(value, self.block), self.weights).to(value.dtype)
        return join(mixed, self.size, self.block)

    def dense(self) -> Float[Tensor, "b source target"]:
        """The weights as one matrix a sample, zero between groups."""
        height, width = self.size
        split = to_lattices if self.kind == "long" else to_blocks
        index = torch.arange(height * width, device=self.weights.device).reshape(1, 1, height, width)
        members = split(index, self.block)[0, :, 0]
        whole = self.weights.new_zeros(self.weights.shape[0], height * width, height * width)
        whole[:, members[:, :, None], members[:, None, :]] = self.weights
        return whole


class SelfAttention(nn.Module):
    """One of the two steps: queries and keys of two layers each, values of one, and a projection.

    Args:
        channels: Channels in and out.
        hidden: Channels of queries and keys.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        # the authors' names, so that their checkpoints load
        self.f_key = nn.Sequential(*_unit(channels, hidden), *_unit(hidden, hidden))
        self.f_query = nn.Sequential(*_unit(channels, hidden), *_unit(hidden, hidden))
        self.f_value = nn.Conv2d(channels, channels, 1, bias=False)
        self.W = nn.Sequential(*_unit(channels, channels))
        self.scale = hidden**-0.5

    def relate(
        self,
        x: Float[Tensor, "b c h w"],
        size: tuple[int, int],
        block: tuple[int, int],
        kind: Literal["long", "short"],
    ) -> GroupWeights:
        """Each position's share in each position of its group."""
        split = to_lattices if kind == "long" else to_blocks
        key, query = split(self.f_key(x), block), split(self.f_query(x), block)
        products = full_matmul(key.transpose(2, 3), query) * self.scale
        return GroupWeights(full_softmax(products, 2), size, block, kind)

    def collect(self, x: Float[Tensor, "b c h w"], weights: GroupWeights) -> Float[Tensor, "b c h w"]:
        """Mix the values along the weights, and project."""
        return self.W(weights.mix(self.f_value(x)))


class Steps(NamedTuple):
    """What the two steps weigh: the first one's weights have acted already, for the second looks at its result."""

    long: GroupWeights
    between: Tensor
    short: GroupWeights


@mechanism(
    Card(
        name="interlaced_sparse",
        aliases=("isa",),
        title="Interlaced Sparse Self-Attention",
        paper=Paper(
            "Interlaced Sparse Self-Attention for Semantic Segmentation",
            "Huang, Yuan, Guo, Zhang, Chen, Wang",
            "arXiv 2019",
            "1907.12273",
        ),
        equation=(
            "z = relu(norm(W_l · attend(x)))   among positions with one place in their block\n"
            "u = relu(norm(W_s · attend(z)))   among positions of one block\n"
            "y = x + u  (fusion=add)   or   relu(norm(W_f [x ‖ u]))  (fusion=concat, the released network's)"
        ),
        reference="openseg-group/openseg.pytorch @ aefc755, lib/models/modules/isa_block.py",
        differences=(
            "Fusion by addition is ours: it can start as the identity. `fusion=concat` is the released network's, "
            "without its dropout (0.05), which is left to the network; its pyramid of several block sizes is not here.",
            "Blocks are 4×4, where the released network has 8×8 for maps of about 97×97; `block=8+8` is theirs. On a "
            "map of one block the first step would have nothing to look at, and its queries and keys nothing to learn. "
            "No parameter depends on the block.",
            "A map that blocks do not divide is padded with zeros on all sides, and the padding takes part as any "
            "position does, in the softmax and in the statistics of the norms, as in the authors' code. The maps show "
            "the padded map.",
            "Query and key channels are half of the input's, 256 of 512 as published.",
            "The weights and their products with the values stay in float32 under autocast.",
            "A training batch of one value per channel is normalised with the running statistics.",
        ),
        evidence=(
            "Semantic segmentation on six data sets. In the authors' repository ResNet-101 with it has 79.55 mIoU on "
            "Cityscapes' validation set at a single scale, and with dense self-attention (Base-OC) 79.49: its gain is "
            "in computation and memory, of which the abstract gives no number."
        ),
    )
)
class InterlacedSparse(Affinity):
    """Interlaced sparse attention: the matrix of all pairs of positions as the product of two sparse ones.

    The map is cut into blocks. First every position attends to the positions that have its place in their blocks, far
    apart and all over the map; then, on the result, to the positions of its own block. Together each position reaches
    every other, for a fraction of the pairs.

    Source: Huang et al., Interlaced Sparse Self-Attention, section 3; the authors' PyTorch code.

    Args:
        channels: Channels of the feature map.
        block: Height and width of a block; smaller than the map, or the first step sees one position at a time.
        reduction: Queries and keys have ``max(1, channels // reduction)`` channels.
        fusion: ``"add"`` the update to the features, or project the two together with ``"concat"``, as in the
            released network.

    Shape:
        ``(b, c, h, w)`` in and out. The maps ``long_map`` and ``short_map`` relate positions of the map padded to
        whole blocks, ``hw->hw``.

    Raises:
        OptionError: If an option's value cannot work.

    Example:
        >>> import torch
        >>> from foveate.catalogue import InterlacedSparse
        >>> InterlacedSparse(64)(torch.randn(2, 64, 15, 14)).shape
        torch.Size([2, 64, 15, 14])
    """

    def __init__(
        self,
        channels: int,
        *,
        block: tuple[int, int] = (4, 4),
        reduction: int = 2,
        fusion: Literal["add", "concat"] = "add",
    ) -> None:
        super().__init__()
        check_size("block", block)
        check_at_least("reduction", reduction, 1)
        check_choice("fusion", fusion, ("add", "concat"))
        self.block, self.fusion = block, fusion
        self.smallest = max(block) + 1
        hidden = max(1, channels // reduction)
        self.long_range_sa = SelfAttention(channels, hidden)
        self.short_range_sa = SelfAttention(channels, hidden)
        if fusion == "concat":
            self.conv_bn = nn.Sequential(*_unit(2 * channels, channels))
        self.long_map = Map("hw->hw")
        self.short_map = Map("hw->hw")

    def reset_parameters(self) -> None:
        """PyTorch's defaults, as in the authors' code."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.BatchNorm2d):
                layer.reset_parameters()

    def start_at_identity(self) -> None:
        """Become the identity function; only with ``fusion="add"``, which has one.

        Raises:
            OptionError: With ``fusion="concat"``, which projects the features.
        """
        if self.fusion == "concat":
            raise OptionError("interlaced_sparse with fusion=concat projects the features: use fusion=add")
        super().start_at_identity()

    def gather(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c s t"]:
        """Pad the map to whole blocks."""
        top, bottom = _padding(x.shape[2], self.block[0])
        left, right = _padding(x.shape[3], self.block[1])
        return F.pad(x, (left, right, top, bottom))

    def weigh(self, context: Float[Tensor, "b c s t"]) -> Steps:
        """Relate positions over the whole map, and on what that gives, positions of a block."""
        size = (context.shape[2], context.shape[3])
        long = self.long_map(self.long_range_sa.relate(context, size, self.block, "long"))
        between = self.long_range_sa.collect(context, long)
        return Steps(long, between, self.short_map(self.short_range_sa.relate(between, size, self.block, "short")))

    def recalibrate(
        self,
        x: Float[Tensor, "b c h w"],
        weights: Steps,
        context: Float[Tensor, "b c s t"],  # noqa: ARG002
    ) -> Float[Tensor, "b c h w"]:
        """Mix along the second weights, project, and take the padding off."""
        update = self.short_range_sa.collect(weights.between, weights.short)
        top, bottom = _padding(x.shape[2], self.block[0])
        left, right = _padding(x.shape[3], self.block[1])
        # padding by less than nothing: of a slice, an exported graph would ask whether it is the whole
        return F.pad(update, (-left, -right, -top, -bottom))

    def fuse(self, x: Float[Tensor, "b c h w"], update: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Add the update, or project it together with the features."""
        return x + update if self.fusion == "add" else self.conv_bn(torch.cat((x, update), 1))


def _unit(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 1, bias=False), nn.Sequential(BatchNorm2d(outputs), nn.ReLU())]


def _padding(length: int, block: int) -> tuple[int, int]:
    """Before and after, so that blocks divide the side."""
    missing = (length + block - 1) // block * block - length
    return missing // 2, missing - missing // 2
