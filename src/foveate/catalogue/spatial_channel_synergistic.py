"""Spatial and Channel Synergistic Attention: rows and columns at four scales, then channels that look at channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Gate, Gates, Map, Sequence
from foveate.errors import OptionError, check_at_least, check_bool, check_choice, check_odd
from foveate.ops.groups import GroupNorm, check_groups
from foveate.ops.matmul import full_matmul
from foveate.ops.softmax import full_softmax
from foveate.ops.strips import column_means, row_means
from foveate.registry import Card, Paper, mechanism

# Parts that the channels are split into, each with a kernel of its own.
PARTS = 4


@dataclass(frozen=True)
class ChannelWeights:
    """How much every channel takes from every other channel of its head.

    Attributes:
        weights: ``(b, heads, target, source)``.
        size: The number of channels.
    """

    weights: Float[Tensor, "b heads target source"]
    size: tuple[int]

    def mix(self, value: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Sum the values of a head's channels at each of its channels, in at least float32."""
        split = value.flatten(2).unflatten(1, self.weights.shape[1:3])
        return full_matmul(self.weights, split).to(value.dtype).flatten(1, 2).reshape(value.shape)

    def dense(self) -> Float[Tensor, "b source target"]:
        """The weights of all channels; between channels of different heads they are zero."""
        heads = torch.eye(self.weights.shape[1], dtype=self.weights.dtype, device=self.weights.device)
        return torch.einsum("bhts,hg->bhsgt", self.weights, heads).flatten(3, 4).flatten(1, 2)


class LineGates(Gates):
    """Where: a gate for every row and column of each channel, from a neighbourhood that grows with the part.

    Args:
        channels: Channels of the feature map, a multiple of four.
        kernel_sizes: One for each part.
    """

    def __init__(self, channels: int, kernel_sizes: tuple[int, ...]) -> None:
        super().__init__()
        part = channels // PARTS
        self.convs = nn.ModuleList(nn.Conv1d(part, part, k, padding=k // 2, groups=part) for k in kernel_sizes)
        self.norm_h = GroupNorm(PARTS, channels)
        self.norm_w = GroupNorm(PARTS, channels)
        self.h_map = Map("c", "h")
        self.w_map = Map("c", "w")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """PyTorch's defaults, as in the authors' code."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv1d | nn.GroupNorm):
                layer.reset_parameters()

    def gather(self, x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b c h"], Float[Tensor, "b c w"]]:
        """The mean of every row, and of every column."""
        return row_means(x), column_means(x)

    def weigh(
        self, context: tuple[Float[Tensor, "b c h"], Float[Tensor, "b c w"]]
    ) -> dict[str, Float[Tensor, "b c _ _"]]:
        """A gate for every row and column; both pass the same convolutions, and a norm of their own."""
        rows, columns = (self._convolved(means) for means in context)
        return {
            "h": torch.sigmoid(self.norm_h(rows))[:, :, :, None],
            "w": torch.sigmoid(self.norm_w(columns))[:, :, None, :],
        }

    def _convolved(self, means: Tensor) -> Tensor:
        split = means.unflatten(1, (PARTS, -1))
        return torch.cat([conv(split[:, part]) for part, conv in enumerate(self.convs)], 1)


class Embedding(NamedTuple):
    """What the channel step gathers: every channel's query and key over the pooled map, and its mean value."""

    query: Tensor
    key: Tensor
    value: Tensor


class ChannelGate(Gate):
    """What: a gate for each channel from the channels that resemble it on the pooled map.

    Args:
        channels: Channels of the feature map.
        heads: Groups of channels that look at each other.
        window: Side of the windows that the map is pooled by; ``None`` pools all of it.
        pool: ``"avg"`` or ``"max"``.
        bias: Whether queries, keys and values have biases.
    """

    def __init__(self, channels: int, *, heads: int, window: int | None, pool: str, bias: bool) -> None:
        super().__init__()
        self.heads, self.width, self.window, self.pool = heads, channels // heads, window, pool
        self.smallest = 1 if window is None else 2 * window
        self.norm = GroupNorm(1, channels)
        self.q = nn.Conv2d(channels, channels, 1, groups=channels, bias=bias)
        self.k = nn.Conv2d(channels, channels, 1, groups=channels, bias=bias)
        self.v = nn.Conv2d(channels, channels, 1, groups=channels, bias=bias)
        self.channels_map = Map("c->c")
        self.map = Map("c")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """PyTorch's defaults, as in the authors' code."""
        for layer in (self.norm, self.q, self.k, self.v):
            layer.reset_parameters()

    def gather(self, x: Float[Tensor, "b c h w"]) -> Embedding:
        """Pool, normalise all channels together, and embed each channel by a factor of its own."""
        pooled = self.norm(_pooled(x, self.window, self.pool))
        # the mean over positions of what is mixed is what is mixed of the means
        return Embedding(self.q(pooled), self.k(pooled), self.v(pooled.mean((2, 3), keepdim=True)))

    def weigh(self, context: Embedding) -> Float[Tensor, "b c 1 1"]:
        """Relate the channels of each head, mix their values, and make each a gate."""
        query, key = (t.flatten(2).unflatten(1, (self.heads, self.width)) for t in (context.query, context.key))
        logits = full_matmul(query, key.transpose(2, 3)) * self.width**-0.5
        weights = ChannelWeights(full_softmax(logits, 3), (self.heads * self.width,))
        return torch.sigmoid(self.channels_map(weights).mix(context.value))


@mechanism(
    Card(
        name="spatial_channel_synergistic",
        aliases=("scsa",),
        title="Spatial and Channel Synergistic Attention",
        paper=Paper(
            "SCSA: Exploring the Synergistic Effects Between Spatial and Channel Attention",
            "Si, Xu, Zhu, Zhang, Dong, Chen, Li",
            "Neurocomputing 2025",
            "2407.05128",
        ),
        equation=(
            "x' = x · σ(GN₄(convs(mean_w(x)))) · σ(GN₄(convs(mean_h(x)))), a quarter of the channels a kernel\n"
            "p = GN₁(pool₇(x')), y = x' · σ(mean_hw(softmax(q kᵀ / √d) v)), q, k, v = w_q · p, w_k · p, w_v · p"
        ),
        reference="HZAI-ZJNU/SCSA @ 8c46866, mmpretrain/models/attentions/SCSA.py",
        differences=(
            "Channels that are no multiple of four are refused with the nearest that are; the authors' check reads "
            "`dim // 4` and lets them pass, to fail in the first forward pass.",
            "A window larger than the map is as large as the map; the authors' code raises.",
            "The values are averaged over positions before they are mixed, not after: the same number.",
            "One head, as in the authors' networks.",
            "A group of one value, which has no variance, keeps its norm's bias.",
            "Attention dropout, down-sampling by recombination and the softmax as a gate, which the authors' code "
            "offers and their networks do not use, are left out.",
        ),
        evidence=(
            "Classification on ImageNet, detection on COCO, segmentation on ADE20K and detection in four more data "
            "sets of difficult scenes, with ResNet-50 among the networks. The abstract claims better results than "
            "other attention modules and gives no numbers; nor does the authors' repository."
        ),
    )
)
class SpatialChannelSynergistic(Sequence):
    """Spatial and Channel Synergistic Attention: gates for rows and columns, then a gate for channels.

    The means of rows and columns go, in four parts of the channels, through depthwise convolutions of four lengths,
    shared between the two directions, then a group norm and a sigmoid. What they let through is pooled by windows and
    normalised, and each channel looks at those whose pooled maps resemble its own; the mean of what it finds, through
    a sigmoid, is its gate.

    Source: Si et al., SCSA, section 3; the authors' code.

    Args:
        channels: Channels of the feature map, a multiple of four.
        heads: Groups of channels that look at each other.
        window: Side of the windows that the map is pooled by for the channel gate; ``None`` pools all of it.
        kernel_sizes: Four odd lengths, one for each quarter of the channels.
        pool: ``"avg"`` or ``"max"`` in each window.
        bias: Whether queries, keys and values have biases.

    Shape:
        ``(b, c, h, w)`` in and out; the maps have the axes ``c, h`` and ``c, w`` (``spatial.h_map``,
        ``spatial.w_map``), ``c->c`` (``channel.channels_map``) and ``c`` (``channel.map``).

    Raises:
        OptionError: If the channels are no multiple of four or of the heads, or another value cannot work.

    Example:
        >>> import torch
        >>> from foveate.catalogue import SpatialChannelSynergistic
        >>> SpatialChannelSynergistic(64, heads=8)(torch.randn(2, 64, 14, 15)).shape
        torch.Size([2, 64, 14, 15])
    """

    def __init__(
        self,
        channels: int,
        *,
        heads: int = 1,
        window: int | None = 7,
        kernel_sizes: tuple[int, ...] = (3, 5, 7, 9),
        pool: Literal["avg", "max"] = "avg",
        bias: bool = False,
    ) -> None:
        if channels % PARTS:
            below = channels // PARTS * PARTS
            nearest = f"{below} and {below + PARTS}" if below else f"{PARTS}"
            raise OptionError(f"{channels} channels cannot be split into four parts; the nearest that can: {nearest}")
        if not isinstance(kernel_sizes, tuple) or len(kernel_sizes) != PARTS:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise OptionError(f"kernel_sizes must be four odd lengths, as 3+5+7+9, not {kernel_sizes!r}")
        for length in kernel_sizes:
            check_odd("kernel_sizes", length)
        if window is not None:
            check_at_least("window", window, 1)
        check_groups("heads", channels, heads)
        check_choice("pool", pool, ("avg", "max"))
        check_bool("bias", bias)
        gate = ChannelGate(channels, heads=heads, window=window, pool=pool, bias=bias)
        super().__init__(spatial=LineGates(channels, kernel_sizes), channel=gate)
        self.smallest = gate.smallest


def _pooled(x: Tensor, window: int | None, pool: str) -> Tensor:
    height, width = (x.shape[2], x.shape[3]) if window is None else (min(window, x.shape[2]), min(window, x.shape[3]))
    if window is None and pool == "avg":
        return x.mean((2, 3), keepdim=True)
    reduce = F.avg_pool2d if pool == "avg" else F.max_pool2d
    return reduce(x, (height, width), stride=(height, width))


torch.fx.wrap("_pooled")  # FX cannot follow a comparison of sizes
