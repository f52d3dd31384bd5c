"""Contextual transformer: a convolution gives each position its context, and the two make a kernel for it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Map
from foveate.errors import OptionError, check_at_least
from foveate.ops.groups import GroupNorm, fitting_groups
from foveate.ops.local import local_sum
from foveate.ops.norm import BatchNorm2d
from foveate.ops.pool import global_mean
from foveate.ops.softmax import full_softmax
from foveate.registry import Card, Paper, mechanism
from foveate.replacement import ConvShape, Replacement, check_centred


@mechanism(
    Card(
        name="contextual_transformer",
        aliases=("cot",),
        title="Contextual Transformer",
        paper=Paper(
            "Contextual Transformer Networks for Visual Recognition", "Li, Yao, Pan, Mei", "TPAMI 2022", "2107.12292"
        ),
        equation=(
            "K¹ = ReLU(BN(W_k * x)), A = GN(W_δ ReLU(BN(W_θ [x ‖ K¹]))), K²_p = SiLU(BN(Σ_t A_(t,p) · (W_v x)_(p+t)))\n"
            "y = s_0 · K² + s_1 · K¹, s = softmax(fc(ReLU(BN(fc(mean_hw(K¹ + K²))))))"
        ),
        reference="JDAI-CV/CoTNet @ 895e024, models/cotnet.py",
        differences=(
            "Neighbours are summed with the weights A as they are, without a softmax, as in the authors' code.",
            "A convolution with a stride is preceded by a mean over 3×3 positions, as the authors' bottleneck is.",
            "Kernels are shared by the most channels, up to `share_channels`, that divide the map's, and the key has "
            "the most groups up to `key_groups`; the authors' code needs a multiple of 8 channels.",
            "A convolution that has a bias keeps it, behind the rest; the authors' module has none.",
            "The softmax over the two contexts and the sum over neighbours are taken in at least float32.",
            "A training batch of one value per channel is normalised with the running statistics.",
        ),
        evidence=(
            "ImageNet top-1 of 81.3% for CoTNet-50 with 22.2 M parameters and 3.3 GFLOPs, and 82.8% for CoTNet-101 "
            "with 38.3 M and 6.1, where it stands in place of the 3×3 convolutions. The authors' repository, which "
            "trains the former for 350 epochs, lists no plain networks beside them."
        ),
    )
)
class ContextualTransformer(Replacement):
    """Contextual transformer: the sum of a static context, from a convolution, and a dynamic one, from local attention.

    A convolution of few groups gives the static context. Together with the features it makes, at each position, a
    kernel for each group of channels; summing the neighbours with it gives the dynamic context. A softmax in each
    channel weighs the two. Channel i is of group i modulo the number of groups.

    It cannot take over a convolution, and starts as the paper has it.

    Source: Li et al., Contextual Transformer Networks, section 3.2; the authors' code.

    Args:
        shape: The convolution whose place it takes.
        share_channels: The most channels that share their kernels.
        key_groups: The most groups of the convolution that gives the static context.

    Shape:
        That of the convolution; ``local_map`` has the axes ``group`` (if there are several), ``tap``, ``h`` and
        ``w``, ``branch_map`` has ``c`` and ``branch``.

    Raises:
        OptionError: If the convolution changes the number of channels, has groups or does not keep its positions, or
            an option is not a positive number.

    Example:
        >>> import torch
        >>> from foveate.catalogue import ContextualTransformer
        >>> ContextualTransformer(ConvShape.same(64))(torch.randn(2, 64, 9, 8)).shape
        torch.Size([2, 64, 9, 8])
    """

    def __init__(self, shape: ConvShape, *, share_channels: int = 8, key_groups: int = 4) -> None:
        super().__init__(shape)
        check_at_least("share_channels", share_channels, 1)
        check_at_least("key_groups", key_groups, 1)
        check_centred("contextual_transformer", shape)
        channels = shape.in_channels
        if shape.out_channels != channels:
            raise OptionError(f"contextual_transformer returns as many channels as it is given: it cannot be a {shape}")
        if shape.groups > 1:
            raise OptionError(f"contextual_transformer has groups of its own: it cannot be a {shape}")
        self.groups = channels // fitting_groups(channels, share_channels)
        cells, hidden = self.groups * shape.taps, max(1, channels // 2)
        around = {"padding": shape.padding, "dilation": shape.dilation}
        # the authors' names, so that their checkpoints load
        self.key_embed = nn.Sequential(
            nn.Conv2d(
                channels,
                channels,
                shape.kernel_size,
                groups=fitting_groups(channels, key_groups),
                bias=False,
                **around,  # pyright: ignore[reportArgumentType]
            ),
            BatchNorm2d(channels),
            nn.ReLU(),
        )
        self.embed = nn.Sequential(
            nn.Conv2d(2 * channels, hidden, 1, bias=False),
            BatchNorm2d(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, cells, 1),
            GroupNorm(self.groups, cells),
        )
        self.conv1x1 = nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), BatchNorm2d(channels))
        self.bn = BatchNorm2d(channels)
        units = max(channels // 2, 32)
        self.se = nn.Sequential(
            nn.Conv2d(channels, units, 1), BatchNorm2d(units), nn.ReLU(), nn.Conv2d(units, 2 * channels, 1)
        )
        self.bias = nn.Parameter(torch.empty(channels)) if shape.bias else None
        self.local_map = Map("group", "tap", "h", "w") if self.groups > 1 else Map("tap", "h", "w")
        self.branch_map = Map("c", "branch")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """He's initialisation by the outputs of each convolution, PyTorch's for the rest, as in the authors' code."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.BatchNorm2d | nn.GroupNorm):
                layer.reset_parameters()
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def take_over(self, conv: nn.Conv2d) -> str:  # noqa: ARG002
        """Leave everything as the paper starts it, and say why."""
        return "its two contexts end in a ReLU and a SiLU, and no sum of theirs is what a convolution does"

    def weigh_neighbours(
        self, x: Float[Tensor, "b c h w"], static: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b *g taps h w"]:
        """The kernel of each position, from its features and their context."""
        weights = self.embed(torch.cat((x, static), 1))
        return self.local_map(weights if self.groups == 1 else weights.unflatten(1, (self.groups, self.shape.taps)))

    def weigh_contexts(
        self, dynamic: Float[Tensor, "b c h w"], static: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b c branch"]:
        """What the dynamic and the static context count for in each channel."""
        logits = self.se(global_mean(dynamic + static)[:, :, None, None])
        return self.branch_map(full_softmax(logits.flatten(1).unflatten(1, (self.shape.in_channels, 2)), 2))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c p q"]:
        """Both contexts, weighed."""
        shape = self.shape
        if shape.stride != (1, 1):
            sides = [3 if stride > 1 else 1 for stride in shape.stride]
            x = F.avg_pool2d(x, sides, shape.stride, [side // 2 for side in sides])
        static = self.key_embed(x)
        weights = self.weigh_neighbours(x, static)
        if self.groups == 1:
            weights = weights.unsqueeze(1)
        value = self.conv1x1(x)
        summed = local_sum(value, weights, shape.kernel_size, dilation=shape.dilation, interleaved=True)
        dynamic = F.silu(self.bn(summed))
        shares = self.weigh_contexts(dynamic, static).to(dynamic.dtype)[:, :, :, None, None]
        y = dynamic * shares[:, :, 0] + static * shares[:, :, 1]
        return y if self.bias is None else y + self.bias[:, None, None].to(y.dtype)
