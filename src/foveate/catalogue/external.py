"""External attention: every position looks at a memory that all samples share."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Map, Update
from foveate.errors import OptionError, check_at_least, check_bool
from foveate.ops.matmul import full_matmul
from foveate.ops.norm import BatchNorm2d
from foveate.ops.softmax import full_softmax
from foveate.registry import Card, Paper, mechanism

EPSILON = 1e-9


@mechanism(
    Card(
        name="external",
        aliases=("external_attention", "ea"),
        title="External Attention",
        paper=Paper(
            "Beyond Self-attention: External Attention using Two Linear Layers for Visual Tasks",
            "Guo, Liu, Mu, Hu",
            "TPAMI 2022",
            "2105.02358",
        ),
        equation=(
            "A = softmax over positions of (M_k W₁ x), then A / (10⁻⁹ + Σ_slots A)\n"
            "y = x + norm(W₂ M_v A)   (relu: max(0, y))"
        ),
        reference="MenghaoGuo/EANet @ 59c03cb, model_torch.py",
        differences=(
            "The two projections around the memory and the addition are the authors' block and stand here; the ReLU "
            "behind the addition is left to the network, because with it there is no identity to start from: "
            "`relu=true` has it.",
            "The first projection has no bias. The authors' has one that cannot do anything: it adds the same to all "
            "positions of a slot, and the softmax over positions takes that out again. Leave `conv1.bias` out of "
            "their checkpoints.",
            "Keys and values of the memory start equal, as in the authors' code, and are parameters of their own. On "
            "the CPU the authors' two share one memory until a copy to a GPU parts them.",
            "The paper draws its update without projections; its heads are those of the authors' networks of tokens.",
            "The weights and their products with the memory stay in float32 under autocast.",
            "A training batch of one value per channel is normalised with the running statistics.",
        ),
        evidence=(
            "Classification, segmentation, image generation and point clouds, where the abstract claims results "
            "comparable to self-attention or better at a cost linear in the number of positions. It gives no numbers, "
            "nor does the authors' repository for the convolutional network."
        ),
    )
)
class ExternalAttention(Update):
    """External attention: every position reads from a small memory, learned once for all samples.

    A projected position is compared with the key of every slot of the memory. The weights are normalised twice: over
    the positions by a softmax, then over the slots by their sum. Each position receives its mix of the slots' values,
    projected and normalised. The cost grows with the number of positions, not with its square.

    Source: Guo et al., External Attention, sections 3.2 and 3.3; the authors' PyTorch code.

    Args:
        channels: Channels of the feature map.
        slots: Slots of the memory, at least 2: of one slot every position has the same share.
        relu: Whether a ReLU follows the addition, as in the authors' network.

    Shape:
        ``(b, c, h, w)`` in and out; the map has the axes ``slot``, ``h``, ``w``: each position's share in each slot.

    Raises:
        OptionError: If an option's value cannot work.

    Example:
        >>> import torch
        >>> from foveate.catalogue import ExternalAttention
        >>> ExternalAttention(64, slots=16)(torch.randn(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])
    """

    def __init__(self, channels: int, *, slots: int = 64, relu: bool = False) -> None:
        super().__init__()
        check_at_least("slots", slots, 2)
        check_bool("relu", relu)
        self.relu = relu
        # the authors' names, so that their checkpoints load
        self.conv1 = nn.Conv2d(channels, channels, 1, bias=False)
        self.linear_0 = nn.Conv1d(channels, slots, 1, bias=False)
        self.linear_1 = nn.Conv1d(slots, channels, 1, bias=False)
        self.conv2 = nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), BatchNorm2d(channels))
        self.map = Map("slot", "h", "w")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal distributions of variance 2 / channels, the memory's values equal to its keys, as the authors'."""
        for layer in (self.conv1, self.linear_0, self.conv2[0]):
            nn.init.normal_(layer.get_parameter("weight"), std=math.sqrt(2 / self.conv1.out_channels))
        with torch.no_grad():
            self.linear_1.weight.copy_(self.linear_0.weight.transpose(0, 1))
        for layer in self.conv2:
            if isinstance(layer, nn.BatchNorm2d):
                layer.reset_parameters()

    def start_at_identity(self) -> None:
        """Become the identity function; only without a ReLU, which cuts negative features off.

        Raises:
            OptionError: With ``relu=True``.
        """
        if self.relu:
            raise OptionError("external with relu=true cuts negative features off and has no identity: use relu=false")
        super().start_at_identity()

    def gather(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Project every position."""
        return self.conv1(x)

    def weigh(self, context: Float[Tensor, "b c h w"]) -> Float[Tensor, "b slot h w"]:
        """Compare every position with every key, and normalise over positions, then over slots."""
        shares = full_softmax(self.linear_0(context.flatten(2)), 2)
        shares = shares / (EPSILON + shares.sum(1, keepdim=True))
        return self.map(shares.unflatten(2, context.shape[2:]))

    def recalibrate(
        self,
        x: Float[Tensor, "b c h w"],  # noqa: ARG002
        weights: Float[Tensor, "b slot h w"],
        context: Float[Tensor, "b c h w"],
    ) -> Float[Tensor, "b c h w"]:
        """Every position's mix of the values, projected."""
        read = full_matmul(self.linear_1.weight[:, :, 0], weights.flatten(2))
        return self.conv2(read.to(context.dtype).reshape(context.shape))

    def fuse(self, x: Float[Tensor, "b c h w"], update: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Add the update to the features."""
        return torch.relu(x + update) if self.relu else x + update
