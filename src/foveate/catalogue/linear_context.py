"""Linear Context Transform: which channels matter, judged from how each mean lies among those of its group."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Gate, Map
from foveate.ops.groups import check_groups, fitting_groups
from foveate.ops.pool import global_mean
from foveate.ops.precision import full_precision
from foveate.registry import Card, Paper, mechanism

# Under the root of the deviation in a group.
EPS = 1e-5
# The most groups that are made unless a number is given.
GROUPS = 64


@mechanism(
    Card(
        name="linear_context",
        aliases=("lct",),
        title="Linear Context Transform",
        paper=Paper("Linear Context Transform Block", "Ruan, Wen, Zheng, Zheng", "AAAI 2020", "1909.03834"),
        equation="z = (mean_hw(x) - μ_g) / √(v_g + ε), μ_g and v_g over the channels of a group\ny = x · σ(w z + b)",
        reference="no code was released",
        differences=(
            "Only the paper's abstract and accounts of the paper could be read for this: where w and b start (zero and "
            "one: every gate starts at σ(1); copies have it the other way round), up to 64 groups, and ε = 1e-5 "
            "under the root are not checked against its text.",
            "Without a number of groups there are two channels in each, at least, where the number of channels allows "
            "it: alone in its group, a channel is normalised to zero and its gate is a constant.",
        ),
        evidence=(
            "Detection on COCO: 1.5 to 1.7 points of box AP and 1.0 to 1.2 of mask AP over detectors of different "
            "sizes. On ImageNet and COCO it is better than SE, according to the abstract, which gives no number for "
            "that, and calls its parameters and computation negligible."
        ),
    )
)
class LinearContext(Gate):
    """Linear Context Transform: a gate for each channel from its mean, normalised among those of its group.

    The means of neighbouring channels are normalised together, group by group; a weight and a bias of each channel
    and a sigmoid make the gate.

    Source: Ruan et al., Linear Context Transform Block, section 3.

    Args:
        channels: Channels of the feature map.
        groups: Into how many groups they go, a divisor; ``None`` takes the largest up to 64 that leaves two channels
            in each.

    Shape:
        ``(b, c, h, w)`` in and out; the map has the axis ``c``.

    Raises:
        OptionError: If the channels cannot be split into so many groups.

    Example:
        >>> from foveate.catalogue import LinearContext
        >>> LinearContext(256).groups, LinearContext(64).groups, LinearContext(7).groups
        (64, 32, 1)
    """

    unordered = True

    def __init__(self, channels: int, *, groups: int | None = None) -> None:
        super().__init__()
        if groups is None:
            groups = fitting_groups(channels, max(1, min(GROUPS, channels // 2)))
        check_groups("groups", channels, groups)
        self.groups = groups
        self.weight = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))
        self.map = Map("c")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights zero, biases one: every gate starts at σ(1)."""
        nn.init.zeros_(self.weight)
        nn.init.ones_(self.bias)

    def gather(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c"]:
        """The mean of each channel, normalised in its group, in at least float32."""
        means = full_precision(global_mean(x)).unflatten(1, (self.groups, -1))
        distances = means - means.mean(2, keepdim=True)
        return (distances / (distances.square().mean(2, keepdim=True) + EPS).sqrt()).flatten(1)

    def weigh(self, context: Float[Tensor, "b c"]) -> Float[Tensor, "b c 1 1"]:
        """A gate for each channel from its place in its group."""
        return torch.sigmoid(self.weight * context + self.bias)[:, :, None, None]

    def recalibrate(
        self,
        x: Float[Tensor, "b c h w"],
        weights: Float[Tensor, "b c 1 1"],
        context: Tensor,  # noqa: ARG002
    ) -> Float[Tensor, "b c h w"]:
        """Multiply, in the features' type."""
        return x * weights.to(x.dtype)
