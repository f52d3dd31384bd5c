"""Concurrent spatial and channel squeeze-and-excitation: what matters and where it matters, judged side by side."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Map, Transform
from foveate.errors import check_at_least, check_choice
from foveate.ops.pool import global_mean
from foveate.registry import Card, Paper, mechanism


class Squeezed(NamedTuple):
    """What each part gathers; ``None`` for a part that is left out.

    Attributes:
        means: The mean of each channel.
        projection: A weighted sum of the channels at each position.
    """

    means: Tensor | None
    projection: Tensor | None


@mechanism(
    Card(
        name="scse",
        aliases=("concurrent_squeeze_excite",),
        title="Concurrent Spatial and Channel Squeeze & Excitation",
        paper=Paper(
            "Concurrent Spatial and Channel 'Squeeze & Excitation' in Fully Convolutional Networks",
            "Roy, Navab, Wachinger",
            "MICCAI 2018",
            "1803.02579",
        ),
        equation="y = max(x · σ(W₂ relu(W₁ mean_hw(x))), x · σ(w · x))   (merge=max)   or   their sum   (merge=add)",
        reference="ai-med/squeeze_and_excitation @ acdd26e, squeeze_and_excitation/squeeze_and_excitation.py",
        differences=(
            "The two results are merged by their maximum, as in the authors' code; the paper's equation and "
            "segmentation-models-pytorch add them (`merge=add`), the latter with a reduction of 16.",
            "The maximum is of the weighted features: where a feature is negative, the smaller gate wins.",
            "At least one hidden unit, where C // r is zero.",
            "The blend of a start at the identity acts on the whole, because the sum of two gates of one is two.",
        ),
        evidence=(
            "Segmentation of whole-brain MRI and of organs in CT: DenseNet, SD-Net and U-Net all gain, for little "
            "more complexity; the abstract gives no numbers. That of the journal version, with three data sets, has 4 "
            "to 9% more Dice with U-Net for about 1.5% more complexity."
        ),
    )
)
class ConcurrentSqueezeExcite(Transform):
    """Concurrent squeeze-and-excitation: a gate for each channel beside a gate for each position.

    The channel part (cSE) is Squeeze-and-Excitation. The spatial part (sSE) projects the channels of every position
    to one number, whose sigmoid gates the position. Each weighs the features on its own; the results are merged.

    Source: Roy et al., section 2; merge, reduction and initialisation from the authors' code.

    Args:
        channels: Channels of the feature map.
        reduction: The channel part has ``max(1, channels // reduction)`` hidden units.
        parts: ``"both"``, or ``"channel"`` (cSE) or ``"spatial"`` (sSE) for one on its own.
        merge: ``"max"`` takes the larger of the two results at each element, ``"add"`` their sum. It is without
            effect on one part alone.

    Shape:
        ``(b, c, h, w)`` in and out; ``channel_map`` has the axis ``c``, ``spatial_map`` the axes ``h`` and ``w``.

    Raises:
        OptionError: If an option's value cannot work.

    Example:
        >>> import torch
        >>> from foveate.catalogue import ConcurrentSqueezeExcite
        >>> ConcurrentSqueezeExcite(64, merge="add")(torch.randn(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])
    """

    unordered = True

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 2,
        parts: Literal["both", "channel", "spatial"] = "both",
        merge: Literal["max", "add"] = "max",
    ) -> None:
        super().__init__()
        check_at_least("reduction", reduction, 1)
        check_choice("parts", parts, ("both", "channel", "spatial"))
        check_choice("merge", merge, ("max", "add"))
        self.merge: Literal["max", "add"] = merge
        self.fc1: nn.Linear | None = None
        self.fc2: nn.Linear | None = None
        self.projection: nn.Conv2d | None = None
        if parts != "spatial":
            hidden = max(1, channels // reduction)
            self.fc1 = nn.Linear(channels, hidden)
            self.fc2 = nn.Linear(hidden, channels)
            self.zeros = ("fc1.bias",) if hidden == 1 else ()
            self.channel_map = Map("c")
        if parts != "channel":
            self.projection = nn.Conv2d(channels, 1, 1)
            self.spatial_map = Map("h", "w")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """PyTorch's default for every layer, as in the authors' code."""
        for layer in self.children():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                layer.reset_parameters()

    def gather(self, x: Float[Tensor, "b c h w"]) -> Squeezed:
        """Squeeze positions to a mean for each channel, and channels to a number for each position."""
        means = None if self.fc1 is None else global_mean(x)
        projection = None if self.projection is None else self.projection(x)
        return Squeezed(means, projection)

    def weigh(self, context: Squeezed) -> dict[str, Float[Tensor, "b _ _ _"]]:
        """Excite: a gate for each channel, and one for each position."""
        weights: dict[str, Tensor] = {}
        if self.fc1 is not None and self.fc2 is not None and context.means is not None:
            logits = self.fc2(torch.relu(self.fc1(context.means)))
            weights["channel"] = self.channel_map(torch.sigmoid(logits)[:, :, None, None])
        if context.projection is not None:
            weights["spatial"] = self.spatial_map(torch.sigmoid(context.projection))
        return weights

    def recalibrate(
        self,
        x: Float[Tensor, "b c h w"],
        weights: dict[str, Float[Tensor, "b _ _ _"]],
        context: Squeezed,  # noqa: ARG002
    ) -> Float[Tensor, "b c h w"]:
        """Weigh the features by each gate, and merge."""
        results = [x * gate for gate in weights.values()]
        if len(results) == 1:
            return results[0]
        return torch.maximum(*results) if self.merge == "max" else results[0] + results[1]
