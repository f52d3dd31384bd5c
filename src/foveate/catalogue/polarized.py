"""Polarized Self-Attention: one query for all positions gates channels, one for all channels gates positions."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Gate, Map, Sequence, Transform
from foveate.errors import check_choice
from foveate.ops.matmul import full_matmul
from foveate.ops.softmax import full_softmax
from foveate.registry import Card, Paper, mechanism

Form = Literal["parallel", "sequential", "paper"]

# Of the bottleneck in the sequential form's channel branch.
REDUCTION = 4


class ChannelBranch(nn.Module):
    """A gate for each channel from the features where one query finds them.

    Args:
        channels: Channels of the feature map.
        form: What follows the pooled values: one layer, as in the authors' parallel module; a bottleneck with layer
            normalisation, as in their sequential one; or one layer and layer normalisation, as in the paper.
    """

    def __init__(self, channels: int, form: Form) -> None:
        super().__init__()
        inner = max(1, channels // 2)
        hidden = max(2, inner // REDUCTION)
        self.q = nn.Conv2d(channels, 1, 1, bias=False)
        self.v = nn.Conv2d(channels, inner, 1, bias=False)
        layers: list[nn.Module] = [nn.Linear(inner, channels, bias=False)]
        if form == "paper":
            layers += [nn.LayerNorm(channels)]
        elif form == "sequential":
            layers = [nn.Linear(inner, hidden), nn.LayerNorm(hidden), nn.ReLU(), nn.Linear(hidden, channels)]
        self.up = nn.Sequential(*layers)

    def gather(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """The values' mean, weighted by the softmax of the query over all positions."""
        share = full_softmax(self.q(x).flatten(2), 2)
        values = self.v(x).flatten(2)
        return full_matmul(values, share.transpose(1, 2))[:, :, 0].to(values.dtype)

    def weigh(self, context: Float[Tensor, "b k"]) -> Float[Tensor, "b c 1 1"]:
        """A gate for each channel."""
        return torch.sigmoid(self.up(context))[:, :, None, None]


class Descriptor(NamedTuple):
    """What a spatial branch gathers: the query, and a value at every position."""

    query: Tensor
    value: Tensor


class SpatialBranch(nn.Module):
    """A gate for each position from how its value meets the mean query.

    Args:
        channels: Channels of the feature map.
        form: Where the softmax stands: over the positions of the product, as in the authors' parallel module; over
            the positions of the values, as in their sequential one; or over the channels of the query, as in the paper.
    """

    def __init__(self, channels: int, form: Form) -> None:
        super().__init__()
        inner = max(1, channels // 2)
        self.form: Form = form
        self.q = nn.Conv2d(channels, inner, 1, bias=False)
        self.v = nn.Conv2d(channels, inner, 1, bias=False)

    def gather(self, x: Float[Tensor, "b c h w"]) -> Descriptor:
        """The query of the mean, which is the mean of the queries, and the values."""
        return Descriptor(self.q(x.mean((2, 3), keepdim=True)), self.v(x))

    def weigh(self, context: Descriptor) -> Float[Tensor, "b 1 h w"]:
        """A gate for each position."""
        query, value = context.query.flatten(2).transpose(1, 2), context.value.flatten(2)
        if self.form == "parallel":
            logits = full_softmax(full_matmul(query, value), 2)
        elif self.form == "sequential":
            logits = full_matmul(query, full_softmax(value, 2))
        else:
            logits = full_matmul(full_softmax(query, 2), value)
        return torch.sigmoid(logits).to(value.dtype).reshape(context.value[:, :1].shape)


def _initialise(branch: ChannelBranch | SpatialBranch) -> None:
    """Queries and values as He et al. (fan in); the rest as PyTorch's default, as in the authors' code."""
    for layer in (branch.q, branch.v):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    for layer in branch.up if isinstance(branch, ChannelBranch) else ():
        if isinstance(layer, nn.Linear | nn.LayerNorm):
            layer.reset_parameters()


class BranchGate(Gate):
    """One branch as a step of its own.

    Args:
        branch: Which.
        axes: What its weights vary over.
    """

    unordered = True

    def __init__(self, branch: ChannelBranch | SpatialBranch, axes: tuple[str, ...]) -> None:
        super().__init__()
        self.branch = branch
        self.map = Map(*axes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the branch."""
        _initialise(self.branch)

    def gather(self, x: Float[Tensor, "b c h w"]) -> Tensor | Descriptor:
        """What the branch gathers."""
        return self.branch.gather(x)

    def weigh(self, context: Tensor | Descriptor) -> Float[Tensor, "b _ _ _"]:
        """The branch's gate."""
        return self.branch.weigh(context)  # type: ignore[arg-type]


class BranchSum(Transform):
    """Both branches side by side: the sum of the features gated by one, and by the other.

    Args:
        channels: Channels of the feature map.
        form: What the branches are like.
    """

    unordered = True

    def __init__(self, channels: int, form: Form) -> None:
        super().__init__()
        self.channel = ChannelBranch(channels, form)
        self.spatial = SpatialBranch(channels, form)
        self.channel_map = Map("c")
        self.spatial_map = Map("h", "w")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise both branches."""
        for branch in (self.channel, self.spatial):
            _initialise(branch)

    def gather(self, x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b k"], Descriptor]:
        """What the branches gather."""
        return self.channel.gather(x), self.spatial.gather(x)

    def weigh(
        self, context: tuple[Float[Tensor, "b k"], Descriptor]
    ) -> tuple[Float[Tensor, "b c 1 1"], Float[Tensor, "b 1 h w"]]:
        """A gate for each channel, and one for each position."""
        channel, spatial = context
        return self.channel_map(self.channel.weigh(channel)), self.spatial_map(self.spatial.weigh(spatial))

    def recalibrate(
        self,
        x: Float[Tensor, "b c h w"],
        weights: tuple[Float[Tensor, "b c 1 1"], Float[Tensor, "b 1 h w"]],
        context: object,  # noqa: ARG002
    ) -> Float[Tensor, "b c h w"]:
        """Multiply by the sum of the gates."""
        channel, spatial = weights
        return x * (channel + spatial)


@mechanism(
    Card(
        name="polarized",
        aliases=("polarized_self_attention", "psa"),
        title="Polarized Self-Attention",
        paper=Paper(
            "Polarized Self-Attention: Towards High-quality Pixel-wise Regression",
            "Liu, Liu, Fan, Huang",
            "arXiv 2021",
            "2107.00782",
        ),
        equation=(
            "A_ch = σ(LN(W_z (V x) softmax_hw(Q x)))\n"
            "A_sp = σ(softmax_c(mean_hw(Q' x))ᵀ (V' x))\n"
            "parallel: y = x · A_ch + x · A_sp;  sequential: x' = x · A_ch(x), y = x' · A_sp(x')"
        ),
        reference="DeLightCMU/PSA @ 20e307a, semantic-segmentation/network/PSA.py",
        differences=(
            "The default is what was released with weights, `definition=paper` the equations above. The released "
            "modules are neither: the parallel one takes the softmax of the spatial branch after the product, "
            "over positions, and has no layer norm; the sequential one takes it over the positions of the values, "
            "and has a bottleneck of C / 8 units with biases, layer norm and ReLU in its channel branch.",
            "With the softmax after the product the released parallel module's spatial gate lies between 0.5 and 0.74 "
            "and, on a map of many positions, is 0.5 nearly everywhere.",
            "At least one inner channel, and two units in the bottleneck: layer normalisation leaves nothing of one "
            "unit, and of two, which the released sequential module has with 16 to 23 channels, little but "
            "their order.",
            "The mean over positions is taken before the spatial branch's query, which is linear: the same number.",
        ),
        evidence=(
            "Regression of pixels: 2 to 4 points over plain baselines and 1 to 2 over the best networks of the time, "
            "in pose estimation and segmentation. With HRNet-W48: 78.9 AP on COCO keypoints at 256×192, and 86.95 "
            "(parallel) and 86.72 (sequential) mIoU on Cityscapes' validation set. The abstract gives no cost."
        ),
    )
)
class PolarizedSelfAttention(Sequence):
    """Polarized Self-Attention: a channel branch and a spatial branch, each with full resolution on its own axis.

    The channel branch collapses all positions into one by a softmax and keeps half of the channels; the spatial branch
    collapses all channels into one and keeps every position. A sigmoid makes each a gate. In parallel the gated
    features are added, which doubles them at gates of one; in sequence one follows the other.

    Source: Liu et al., Polarized Self-Attention, section 3; the authors' code.

    Args:
        channels: Channels of the feature map.
        arrangement: ``"parallel"`` or ``"sequential"``: PSA(p) and PSA(s) in the paper.
        definition: ``"released"`` as in the authors' code, which needs it for its weights, or ``"paper"``.

    Shape:
        ``(b, c, h, w)`` in and out; the channel branch's map has the axis ``c``, the spatial branch's ``h`` and ``w``.

    Raises:
        OptionError: If an option's value cannot work.

    Example:
        >>> import torch
        >>> from foveate.catalogue import PolarizedSelfAttention
        >>> PolarizedSelfAttention(64, arrangement="sequential")(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])
    """

    unordered = True

    def __init__(
        self,
        channels: int,
        *,
        arrangement: Literal["parallel", "sequential"] = "parallel",
        definition: Literal["released", "paper"] = "released",
    ) -> None:
        check_choice("arrangement", arrangement, ("parallel", "sequential"))
        check_choice("definition", definition, ("released", "paper"))
        form: Form = "paper" if definition == "paper" else arrangement
        if arrangement == "parallel":
            super().__init__(both=BranchSum(channels, form))
        else:
            super().__init__(
                channel=BranchGate(ChannelBranch(channels, form), ("c",)),
                spatial=BranchGate(SpatialBranch(channels, form), ("h", "w")),
            )
