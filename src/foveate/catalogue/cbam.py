"""Convolutional Block Attention Module: what matters, then where."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Gate, Map, Sequence
from foveate.errors import OptionError, check_at_least, check_bool, check_choice, check_odd
from foveate.ops import passes
from foveate.ops.extremes import max_and_mean
from foveate.ops.graph import watched
from foveate.ops.norm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from foveate.ops.pool import GLOBAL_POOLS
from foveate.registry import Card, Paper, mechanism

_DIMENSIONS = {
    1: (nn.Conv1d, BatchNorm1d, ("w",)),
    2: (nn.Conv2d, BatchNorm2d, ("h", "w")),
    3: (nn.Conv3d, BatchNorm3d, ("d", "h", "w")),
}


class ChannelGate(Gate):
    """What matters: a gate for each channel from several global pools, all through one shared network.

    Args:
        channels: Channels of the feature map.
        reduction: The shared network has ``max(1, channels // reduction)`` hidden units.
        pools: Any of ``"avg"``, ``"max"``, ``"lp"`` (root of the sum of squares) and ``"lse"`` (log-sum-exp).
        dimensions: Axes of positions.
    """

    def __init__(self, channels: int, *, reduction: int, pools: tuple[str, ...], dimensions: int) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.pools = pools
        self.shape = (1,) * dimensions
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)
        self.zeros = ("fc1.bias",)
        self.map = Map("c")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights as PyTorch's default for a linear layer, biases zero, as in the authors' network."""
        for layer in (self.fc1, self.fc2):
            layer.reset_parameters()
            nn.init.zeros_(layer.bias)

    def gather(self, x: Float[Tensor, "b c *positions"]) -> Float[Tensor, "b pools c"]:
        """The global pools, one beside the other."""
        return torch.stack([GLOBAL_POOLS[pool](x) for pool in self.pools], 1)

    def weigh(self, context: Float[Tensor, "b pools c"]) -> Float[Tensor, "b c *ones"]:
        """The shared network on every pool; the logits are summed before the sigmoid."""
        logits = self.fc2(torch.relu(self.fc1(context))).sum(1)
        return torch.sigmoid(logits).unflatten(1, (-1, *self.shape))


class SpatialGate(Gate):
    """Where it matters: a gate for each position from the maximum and mean over channels.

    Args:
        kernel_size: Side of the convolution, odd.
        norm: Whether batch normalisation follows it.
        dimensions: Axes of positions: 2 for images, 1 for signals, 3 for volumes.
    """

    def __init__(self, *, kernel_size: int, norm: bool, dimensions: int) -> None:
        super().__init__()
        convolution, normalisation, axes = _DIMENSIONS[dimensions]
        self.conv = convolution(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.norm = normalisation(1, momentum=0.01) if norm else nn.Identity()
        self.zeros = ("norm.weight",) if norm else ()
        self.map = Map(*axes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As in the authors' network: the norm's weight is zero, so that the gate starts at 0.5 everywhere."""
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
        if isinstance(self.norm, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            self.norm.reset_parameters()
            nn.init.zeros_(self.norm.weight)

    def gather(self, x: Float[Tensor, "b c *positions"]) -> Float[Tensor, "b 2 *positions"]:
        """Maximum and mean over channels, in the authors' order."""
        return torch.stack(max_and_mean(x, 1), 1)

    def weigh(self, context: Float[Tensor, "b 2 *positions"]) -> Float[Tensor, "b 1 *positions"]:
        """A gate for each position from its neighbourhood."""
        return torch.sigmoid(self.norm(self.conv(context)))


@mechanism(
    Card(
        name="cbam",
        title="Convolutional Block Attention Module",
        paper=Paper("CBAM: Convolutional Block Attention Module", "Woo, Park, Lee, Kweon", "ECCV 2018", "1807.06521"),
        equation=("x' = x · σ(Σ_p MLP(pool_p(x))), p in {avg, max}\ny = x' · σ(norm(conv_k([max_c(x'); mean_c(x')])))"),
        reference="Jongchan/attention-module @ 459efad, MODELS/cbam.py and model_resnet.py",
        differences=(
            "Biases in the shared network and a norm after the spatial convolution are the authors' code; the paper "
            "mentions neither.",
            "At least one hidden unit, where C // r is zero.",
            "A training batch of one value is normalised with the running statistics.",
            "The lp pool's gradient at an all-zero channel is zero, where the authors' is not a number.",
            "Signals and volumes, which the paper does not treat, by convolutions and norms of their dimensions.",
        ),
        evidence=(
            "ImageNet top-1 error falls from 24.56% to 22.66% with ResNet-50 (SE: 23.14%) and from 23.38% to 21.51% "
            "with ResNet-101; with ResNeXt-50 it is level with SE (21.92% and 21.91%, plain 22.85%). ResNet-50 goes "
            "from 25.56 M to 28.09 M parameters and from 3.858 to 3.864 GFLOPs."
        ),
    )
)
class CBAM(Sequence):
    """Convolutional Block Attention Module: a channel gate, then a spatial gate on what it lets through.

    Source: Woo et al., CBAM, section 3; biases, norm and initialisation from the authors' code.

    Args:
        channels: Channels of the feature map.
        reduction: The channel gate's shared network has ``max(1, channels // reduction)`` hidden units.
        pools: Global pools of the channel gate, one or several of ``"avg"``, ``"max"``, ``"lp"``, ``"lse"``.
        kernel_size: Side of the spatial gate's convolution, odd.
        norm: Whether batch normalisation follows that convolution.
        parts: ``"both"``, or ``"channel"`` or ``"spatial"`` for one half on its own.
        dimensions: Axes of positions: 2 for images, 1 for signals, 3 for volumes. ``attach`` chooses it by the map.

    Shape:
        ``(b, c, h, w)`` in and out, ``(b, c, w)`` or ``(b, c, d, h, w)`` for other dimensions; the channel map has the
        axis ``c``, the spatial map ``h`` and ``w``.

    Raises:
        OptionError: If an option's value cannot work.

    Example:
        >>> import torch
        >>> from foveate.catalogue import CBAM
        >>> CBAM(64, pools=("avg", "max"))(torch.randn(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        pools: tuple[str, ...] | str = ("avg", "max"),
        kernel_size: int = 7,
        norm: bool = True,
        parts: Literal["both", "channel", "spatial"] = "both",
        dimensions: int = 2,
    ) -> None:
        pools = pools if isinstance(pools, tuple) else (pools,)  # one pool is written without a plus
        check_at_least("reduction", reduction, 1)
        check_odd("kernel_size", kernel_size)
        check_bool("norm", norm)
        check_choice("parts", parts, ("both", "channel", "spatial"))
        check_choice("dimensions", dimensions, tuple(_DIMENSIONS))
        for pool in pools:
            check_choice("pools", pool, GLOBAL_POOLS)
        if not pools or len(set(pools)) < len(pools):
            raise OptionError(f"pools must name each pool once, and at least one; got {pools!r}")
        steps: dict[str, Gate] = {}
        if parts != "spatial":
            steps["channel"] = ChannelGate(channels, reduction=reduction, pools=pools, dimensions=dimensions)
        if parts != "channel":
            steps["spatial"] = SpatialGate(kernel_size=kernel_size, norm=norm, dimensions=dimensions)
        super().__init__(**steps)

    def forward(self, x: Float[Tensor, "b c *positions"]) -> Float[Tensor, "b c *positions"]:
        """Both gates, one after the other; where it can be, without making the map that is between them."""
        channel, spatial = self._modules.get("channel"), self._modules.get("spatial")
        if not isinstance(channel, ChannelGate) or not isinstance(spatial, SpatialGate):
            return super().forward(x)
        if set(channel.pools) != {"avg", "max"} or not passes.suited(x) or watched(channel, spatial):
            return super().forward(x)
        maximum, mean, x = passes.pool(x)
        pooled = {"max": maximum, "avg": mean}
        what = channel.shown(torch.stack([pooled[name] for name in channel.pools], 1))
        maximum, mean, x, product = passes.extremes(x, what)
        where = spatial.shown(torch.stack((maximum, mean), 1))
        waits = vars(spatial).get("recalibrate")  # in an optimised network: the product with what comes after it
        if waits is not None and not torch.is_grad_enabled():
            return waits(x, where, None, what) if product is None else waits(product, where, None)
        return passes.gate(x, what, where, product)
