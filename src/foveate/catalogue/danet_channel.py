"""Channel attention of DANet: every channel takes from all channels, most from those that are least like it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Map, Update
from foveate.errors import check_at_least, check_bool
from foveate.ops.matmul import full_matmul
from foveate.ops.softmax import full_softmax
from foveate.registry import Card, Paper, mechanism


@dataclass(frozen=True)
class ChannelWeights:
    """How much every channel takes from every other.

    Attributes:
        weights: ``(b, target, source)``.
        size: The number of channels.
    """

    weights: Float[Tensor, "b target source"]
    size: tuple[int]

    def mix(self, value: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Sum the values of all channels, weighted, at every channel, in at least float32."""
        return full_matmul(self.weights, value.flatten(2)).to(value.dtype).reshape(value.shape)

    def dense(self) -> Float[Tensor, "b source target"]:
        """The weights as one matrix a sample."""
        return self.weights.transpose(1, 2)


@mechanism(
    Card(
        name="danet_channel",
        aliases=("cam",),
        title="Channel attention module",
        paper=Paper(
            "Dual Attention Network for Scene Segmentation",
            "Fu, Liu, Tian, Li, Bao, Fang, Lu",
            "CVPR 2019",
            "1809.02983",
        ),
        equation="y_j = x_j + γ Σ_i softmax_i(max_m e_jm - e_ji) x_i,  e_ji = x_jᵀ x_i over positions",
        reference="junfu1115/DANet @ b0a0fa0, encoding/nn/da_att.py",
        differences=(
            "The softmax is of the largest product less the product, as in the authors' code: a channel takes most "
            "from those least like it. The paper's equation has the product itself; `difference=false` is that.",
            "The maximum itself is left out: a softmax is the same whatever is added to all of its logits.",
            "Products, softmax and sums stay in float32 under autocast.",
        ),
        evidence=(
            "Semantic segmentation by DANet, which sums this module and its position module: 81.5 mIoU on the "
            "Cityscapes test set with ResNet-101 from fine annotations alone, 79.93 on the validation set at a single "
            "scale. The abstract gives no figure for this module by itself, and no cost."
        ),
    )
)
class DANetChannel(Update):
    """Channel attention of DANet: channels that respond to other things are added to each channel.

    A softmax over the (negative) products of a channel with all channels, summed over positions, weighs these
    channels; the sum, times a learned number that starts at zero, is added. That number is the only parameter.

    Source: Fu et al., Dual Attention Network, section 3.3; the authors' code.

    Args:
        channels: Channels of the feature map.
        difference: Whether products count negatively, as in the authors' code, or positively, as in the paper.

    Shape:
        ``(b, c, h, w)`` in and out; the map relates channels, ``c->c``.

    Raises:
        OptionError: If an option's value cannot work.

    Example:
        >>> import torch
        >>> from foveate.catalogue import DANetChannel
        >>> DANetChannel(64)(torch.randn(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])
    """

    unordered = True
    zeros = ("gamma",)

    def __init__(self, channels: int, *, difference: bool = True) -> None:
        super().__init__()
        check_at_least("the number of channels", channels, 1)
        check_bool("difference", difference)
        self.difference = difference
        self.gamma = nn.Parameter(torch.zeros(1))
        self.map = Map("c->c")

    def reset_parameters(self) -> None:
        """Zero in front of the sum."""
        nn.init.zeros_(self.gamma)

    def gather(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c c"]:
        """The product of every channel with every other, over all positions."""
        positions = x.flatten(2)
        return full_matmul(positions, positions.transpose(1, 2))

    def weigh(self, context: Float[Tensor, "b c c"]) -> ChannelWeights:
        """Relate every channel to every other."""
        weights = full_softmax(-context if self.difference else context, 2)
        return self.map(ChannelWeights(weights, (context.shape[1],)))

    def recalibrate(
        self,
        x: Float[Tensor, "b c h w"],
        weights: ChannelWeights,
        context: Float[Tensor, "b c c"],  # noqa: ARG002
    ) -> Float[Tensor, "b c h w"]:
        """Mix the channels along the weights."""
        return self.gamma * weights.mix(x)
