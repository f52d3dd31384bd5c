"""Point-wise Spatial Attention: what every position collects from, and distributes to, every other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Affinity, Map
from foveate.errors import (
    OptionError,
    check_at_least,
    check_bool,
    check_choice,
    check_odd,
    check_positive,
    check_size,
)
from foveate.ops.matmul import full_project
from foveate.ops.mix import mix_values
from foveate.ops.norm import BatchNorm2d
from foveate.ops.pointwise import PointwiseMasks
from foveate.ops.precision import full_precision
from foveate.ops.size import only_size
from foveate.ops.softmax import full_softmax
from foveate.registry import Card, Paper, mechanism


@dataclass(frozen=True)
class PointwiseWeights:
    """The weights of one branch: how much every position takes from every other.

    Attributes:
        masks: The same before normalisation; of a compact branch ``(b, source, target)``, positions in rows.
        size: Height and width of the map.
        normalization: What the mixed values are divided by.
    """

    masks: PointwiseMasks | Float[Tensor, "b source target"]
    size: tuple[int, int]
    normalization: float

    def mix(self, value: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
        """Sum the values of all sources at every target, in at least float32."""
        if isinstance(self.masks, PointwiseMasks):
            mixed = self.masks.mix(full_precision(value)) / self.normalization
            return mixed.to(value.dtype)
        return mix_values(value, self.masks, self.normalization)

    def dense(self) -> Float[Tensor, "b source target"]:
        """The weights, normalised."""
        masks = self.masks.dense() if isinstance(self.masks, PointwiseMasks) else self.masks
        return masks / self.normalization


class Embedding(NamedTuple):
    """What one branch gathers: reduced features, and what its masks are predicted from, by which weights."""

    value: Tensor
    features: Tensor
    bank: Tensor


@mechanism(
    Card(
        name="psanet",
        aliases=("psa",),
        title="Point-wise Spatial Attention",
        paper=Paper(
            "PSANet: Point-wise Spatial Attention Network for Scene Parsing",
            "Zhao, Zhang, Liu, Shi, Loy, Lin, Jia",
            "ECCV 2018",
            page="https://openaccess.thecvf.com/content_ECCV_2018/html/Hengshuang_Zhao_PSANet_Point-wise_Spatial_ECCV_2018_paper.html",
        ),
        equation=(
            "z_i = 1/N Σ_j a^collect_(j→i) x_j  ‖  1/N Σ_j a^distribute_(j→i) x_j\n"
            "y = x + up(proj(z))  (fusion=add)   or   [x ‖ up(proj(z))]  (fusion=concat, the paper's)"
        ),
        reference="hszhao/semseg @ 4f274c3, model/psanet.py and lib/psa/src/cpu/psamask.cpp",
        differences=(
            "Fusion by addition is ours: it keeps the shape, so that the module can be attached anywhere. The paper "
            "concatenates; `fusion=concat` and `hosts.psanet` do too.",
            "The update is resized to the size of the input; the authors' to (h - 1) · shrink + 1, which is the same "
            "wherever their code runs (sizes with (size - 1) divisible by the shrink factor).",
            "Where a map outgrows the mask, positions outside it have logit zero, as in the authors' op, and so a "
            "weight of exp(0) before normalisation; `outside=exclude` gives them none.",
            "Reduced channels are a quarter of the input's, 512 of 2048 as published.",
            "The weights and their products with the features stay in float32 under autocast.",
            "A training batch of one value per channel is normalised with the running statistics.",
        ),
        evidence=(
            "Scene parsing with ResNet-50 on ADE20K: 41.92 mIoU at a single scale, against 37.23 for the plain "
            "dilated network and 41.68 for PSPNet; 80.1 on the Cityscapes test set with ResNet-101. It gives no cost: "
            "by the EMANet paper's count it adds 56.3 GFLOPs and 18.5 M parameters to ResNet-101 at 513×513."
        ),
    )
)
class PSANet(Affinity):
    """Point-wise Spatial Attention: every position looks at all positions, and is looked at by them.

    Features are reduced; for every position a small network predicts a mask of weights over relative positions (or,
    if compact, over absolute ones). *Collect* reads the mask as what the position takes from others, *distribute* as
    what it gives to them. Both updates are projected back and fused with the features.

    Source: Zhao et al., PSANet, sections 3 and 4; the authors' PyTorch code.

    Args:
        channels: Channels of the feature map.
        size: Height and width of the map that the masks are made for.
        branches: ``"both"``, ``"collect"`` or ``"distribute"``.
        compact: Predict weights over the positions of the map itself, h·w of them, instead of the over-complete
            (2h - 1)·(2w - 1) relative ones. It then runs at one size only.
        mask: Height and width of the over-complete mask, odd; ``None`` reaches every position from every other.
        shrink: The attention works on a map smaller by this factor.
        softmax: Whether the weights of each position sum to one.
        normalization: What the sums are divided by; ``None`` is the number of cells of the mask.
        outside: What positions beyond the mask get: a ``"zero"`` logit as published, or ``"exclude"``.
        reduction: The attention works on ``max(1, channels // reduction)`` channels.
        fusion: ``"add"`` the update to the features, or ``"concat"`` it behind them as in the paper.

    Shape:
        ``(b, c, h, w)`` in and out; ``(b, 2c, h, w)`` out with ``fusion="concat"``. The maps ``collect_map`` and
        ``distribute_map`` relate positions of the shrunken map, ``hw->hw``.

    Raises:
        OptionError: If an option's value cannot work, or the size is missing.
        FoveateError: In ``forward``, if it is compact and the map has another size.

    Example:
        >>> import torch
        >>> from foveate.catalogue import PSANet
        >>> PSANet(64, size=(15, 15))(torch.randn(2, 64, 15, 15)).shape
        torch.Size([2, 64, 15, 15])
    """

    def __init__(
        self,
        channels: int,
        *,
        size: tuple[int, int] | None = None,
        branches: Literal["both", "collect", "distribute"] = "both",
        compact: bool = False,
        mask: tuple[int, int] | None = None,
        shrink: int = 2,
        softmax: bool = True,
        normalization: float | None = 1.0,
        outside: Literal["zero", "exclude"] = "zero",
        reduction: int = 4,
        fusion: Literal["add", "concat"] = "add",
    ) -> None:
        super().__init__()
        check_choice("branches", branches, ("both", "collect", "distribute"))
        check_choice("outside", outside, ("zero", "exclude"))
        check_choice("fusion", fusion, ("add", "concat"))
        check_bool("compact", compact)
        check_bool("softmax", softmax)
        check_at_least("shrink", shrink, 1)
        check_at_least("reduction", reduction, 1)
        self.branches: Literal["both", "collect", "distribute"] = branches
        self.compact, self.shrink, self.softmax = compact, shrink, softmax
        self.outside, self.fusion = outside, fusion
        self.mask = _mask_size(size, compact, mask, shrink)
        self.fixed_size = size if compact else None
        self.smallest = 1 if compact or shrink == 1 else shrink + 1
        cells = self.mask[0] * self.mask[1]
        if normalization is not None:
            check_positive("normalization", normalization)
        self.normalization = float(cells if normalization is None else normalization)

        reduced = max(1, channels // reduction)
        # the authors' names, so that their checkpoints load; a single branch of either kind is called `reduce`
        self.reduce = _unit(channels, reduced)
        self.attention = nn.Sequential(*_unit(reduced, reduced), nn.Conv2d(reduced, cells, 1, bias=False))
        if branches == "both":
            self.reduce_p = _unit(channels, reduced)
            self.attention_p = nn.Sequential(*_unit(reduced, reduced), nn.Conv2d(reduced, cells, 1, bias=False))
        self.proj = _unit(reduced * (2 if branches == "both" else 1), channels)
        if branches != "distribute":
            self.collect_map = Map("hw->hw")
        if branches != "collect":
            self.distribute_map = Map("hw->hw")

    def reset_parameters(self) -> None:
        """PyTorch's defaults, as in the authors' code."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.BatchNorm2d):
                layer.reset_parameters()

    def start_at_identity(self) -> None:
        """Become the identity function; only with ``fusion="add"``, which has one.

        Raises:
            OptionError: With ``fusion="concat"``, whose output has twice the channels.
        """
        if self.fusion == "concat":
            raise OptionError("psanet with fusion=concat doubles the channels and has no identity: use fusion=add")
        super().start_at_identity()

    def gather(self, x: Float[Tensor, "b c h w"]) -> tuple[Embedding, ...]:
        """Reduce, shrink, and predict a mask for every position, once for each branch."""
        x = only_size(
            x,
            self.fixed_size,
            "a compact psanet has a weight for each position of one map; compact=false runs at any size",
        )
        paths = [(self.reduce, self.attention)]
        if self.branches == "both":
            paths.append((self.reduce_p, self.attention_p))
        embeddings: list[Embedding] = []
        for reduce, attention in paths:
            value = self._shrunk(reduce(x))
            *layers, last = attention
            features = value
            for layer in layers:
                features = layer(features)
            # a 1×1 convolution without bias: its rows are what masks are predicted by
            bank = cast(nn.Conv2d, last).weight.flatten(1)
            embeddings.append(Embedding(value, features, bank))
        return tuple(embeddings)

    def weigh(self, context: tuple[Embedding, ...]) -> tuple[PointwiseWeights, ...]:
        """Lay the masks over the map: collect, then distribute."""
        if self.branches == "collect":
            return (self.collect_map(self._weights(context[0], collect=True)),)
        if self.branches == "distribute":
            return (self.distribute_map(self._weights(context[0], collect=False)),)
        return self.collect_map(self._weights(context[0], collect=True)), self.distribute_map(
            self._weights(context[1], collect=False)
        )

    def recalibrate(
        self,
        x: Float[Tensor, "b c h w"],
        weights: tuple[PointwiseWeights, ...],
        context: tuple[Embedding, ...],
    ) -> Float[Tensor, "b c h w"]:
        """Mix each branch's values along its weights, project, and return to the map's size."""
        mixed = [relation.mix(embedding.value) for relation, embedding in zip(weights, context, strict=True)]
        update = self.proj(torch.cat(mixed, 1))
        if self.shrink == 1:
            return update
        return F.interpolate(update, size=x.shape[2:], mode="bilinear", align_corners=True)

    def fuse(self, x: Float[Tensor, "b c h w"], update: Float[Tensor, "b c h w"]) -> Float[Tensor, "b _ h w"]:
        """Add the update, or put it behind the features."""
        return x + update if self.fusion == "add" else torch.cat((x, update), 1)

    def _shrunk(self, x: Tensor) -> Tensor:
        if self.shrink == 1:
            return x
        size = ((x.shape[2] - 1) // self.shrink + 1, (x.shape[3] - 1) // self.shrink + 1)
        return F.interpolate(x, size=size, mode="bilinear", align_corners=True)

    def _weights(self, embedding: Embedding, *, collect: bool) -> PointwiseWeights:
        value, features, bank = embedding
        size = (value.shape[2], value.shape[3])
        if not self.compact:
            exclude = self.outside == "exclude"
            masks = PointwiseMasks(features, bank, self.mask, collect, self.softmax, exclude)
            return PointwiseWeights(masks, size, self.normalization)
        logits = full_project(features, bank).flatten(2)
        logits = logits if collect else logits.transpose(1, 2)
        return PointwiseWeights(full_softmax(logits, 1) if self.softmax else logits, size, self.normalization)


def _unit(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), BatchNorm2d(outputs), nn.ReLU())


def _mask_size(
    size: tuple[int, int] | None, compact: bool, mask: tuple[int, int] | None, shrink: int
) -> tuple[int, int]:
    if mask is not None and compact:
        raise OptionError("psanet: a compact mask is as large as the shrunken map; leave `mask` out, or compact=false")
    if mask is not None:
        check_size("mask", mask)
        for name, length in zip(("mask height", "mask width"), mask, strict=True):
            check_odd(name, length)
        return mask[0], mask[1]
    if size is None:
        raise OptionError(
            "psanet's masks are made for a size: give the map's size (or `mask`), or an example input to attach with"
        )
    shrunken = [(length - 1) // shrink + 1 for length in size]
    height, width = shrunken if compact else [2 * length - 1 for length in shrunken]
    return height, width
