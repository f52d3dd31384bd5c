"""Pyramid split attention: convolutions of several kernel sizes, weighed against one another in every channel."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Map
from foveate.errors import OptionError, check_at_least, check_odd
from foveate.ops.groups import fitting_groups
from foveate.ops.pool import global_mean
from foveate.ops.precision import full_precision
from foveate.ops.softmax import full_softmax
from foveate.registry import Card, Paper, mechanism
from foveate.replacement import ConvShape, Replacement, check_centred


@mechanism(
    Card(
        name="pyramid_split",
        aliases=("epsa", "psa"),
        title="Pyramid Split Attention",
        paper=Paper(
            "EPSANet: An Efficient Pyramid Squeeze Attention Block on Convolutional Neural Network",
            "Zhang, Zu, Lu, Zou, Meng",
            "ACCV 2022",
            "2105.14447",
        ),
        equation="y = [s_n · F_n ‖ … ‖ s_1 · F_1], F_i = W_i * x, s = softmax_i(σ(fc(ReLU(fc(mean_hw(F_i))))))",
        reference="murufeng/EPSANet @ 9955041, models/epsanet.py and models/SE_weight_module.py",
        differences=(
            "The branches stand in the output from the last to the first, as in the authors' code; the paper's figure "
            "has them from the first to the last.",
            "One pair of fully connected layers weighs all branches, as in the authors' code and the paper's counts; "
            "the paper's equation can be read as one for each.",
            "A branch has the most groups up to the published number that divide its channels; the authors' code "
            "needs a multiple of 64 channels.",
            "The bottleneck has at least one unit.",
            "A convolution that has a bias keeps it, outside of the attention; the authors' module has none.",
            "The sigmoid and the softmax are taken in at least float32.",
        ),
        evidence=(
            "ImageNet top-1 of 77.49% for the small EPSANet-50, with 22.56 M parameters and 3.62 GFLOPs, and 78.64% "
            "for the large, with 27.90 M and 4.72; Faster R-CNN on COCO has 39.2 and 40.9 box AP with them. The "
            "authors' repository lists no plain networks beside them."
        ),
    )
)
class PyramidSplit(Replacement):
    """Pyramid split attention: branches of growing kernels, and in every channel a softmax over the branches.

    Each branch makes an equal share of the output's channels with a kernel of its own. One small network, the same
    for all branches, turns the mean of a branch into a number between 0 and 1 for each of its channels; these
    compete between the branches.

    A convolution can be taken over exactly where every branch has one group and a kernel that the convolution's fits
    into: with ``groups=(1, 1, 1, 1)``, say. All branches are then weighed alike at first.

    Source: Zhang et al., EPSANet, section 3.1; the authors' code.

    Args:
        shape: The convolution whose place it takes.
        kernels: Side of each branch's kernel.
        groups: The most groups of each branch.
        reduction: A branch of n channels is weighed through ``max(1, n // reduction)`` units.

    Shape:
        That of the convolution; the map has the axes ``branch`` and ``c``, the channels of a branch.

    Raises:
        OptionError: If the output's channels cannot be split among the branches, the convolution has groups or does
            not keep its positions, or an option cannot work.

    Example:
        >>> import torch
        >>> from foveate.catalogue import PyramidSplit
        >>> PyramidSplit(ConvShape.same(64))(torch.randn(2, 64, 9, 8)).shape
        torch.Size([2, 64, 9, 8])
    """

    def __init__(
        self,
        shape: ConvShape,
        *,
        kernels: tuple[int, ...] = (3, 5, 7, 9),
        groups: tuple[int, ...] = (1, 4, 8, 16),
        reduction: int = 16,
    ) -> None:
        super().__init__(shape)
        _check_branches(kernels, groups)
        check_at_least("reduction", reduction, 1)
        check_centred("pyramid_split", shape)
        if shape.groups > 1:
            raise OptionError(f"the branches of pyramid_split have groups of their own: it cannot be a {shape}")
        branches, out = len(kernels), shape.out_channels
        if out % branches:
            near = " and ".join(str(n) for n in (out // branches * branches, -(-out // branches) * branches) if n)
            raise OptionError(
                f"{out} channels cannot be split into {branches} branches; the nearest that can: {near} channels"
            )
        each = out // branches
        self.branches = nn.ModuleList(
            nn.Conv2d(
                shape.in_channels,
                each,
                kernel,
                stride=shape.stride,
                padding=(shape.dilation[0] * (kernel // 2), shape.dilation[1] * (kernel // 2)),
                dilation=shape.dilation,
                groups=fitting_groups(math.gcd(shape.in_channels, each), most),
                bias=False,
            )
            for kernel, most in zip(kernels, groups, strict=True)
        )
        hidden = max(1, each // reduction)
        self.reduce = nn.Linear(each, hidden)
        self.expand = nn.Linear(hidden, each)
        self.bias = nn.Parameter(torch.empty(out)) if shape.bias else None
        self.map = Map("branch", "c")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """He's initialisation by the outputs of each layer, and PyTorch's for their biases, as in the authors' code."""
        for layer in (self.reduce, self.expand):
            layer.reset_parameters()
            nn.init.normal_(layer.weight, std=math.sqrt(2 / layer.out_features))
        for branch in self.branches:
            if isinstance(branch, nn.Conv2d):
                nn.init.normal_(branch.weight, std=math.sqrt(2 / (branch.out_channels * math.prod(branch.kernel_size))))
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @torch.no_grad()
    def take_over(self, conv: nn.Conv2d) -> str | None:
        """Lay the convolution's kernels into the branches', which are weighed alike, or say why they do not fit."""
        branches = [branch for branch in self.branches if isinstance(branch, nn.Conv2d)]
        if any(branch.groups > 1 for branch in branches):
            return "its branches have groups, and leave out most of what the convolution connects"
        if any(
            side < its for branch in branches for side, its in zip(branch.kernel_size, conv.kernel_size, strict=True)
        ):
            return "one of its branches has a smaller kernel than the convolution, whose weights do not fit into it"
        each = len(conv.weight) // len(branches)
        for branch, kernel in zip(reversed(branches), conv.weight.split(each), strict=True):
            around = [(side - its) // 2 for side, its in zip(branch.kernel_size, conv.kernel_size, strict=True)]
            laid = F.pad(kernel, (around[1], around[1], around[0], around[0]))
            branch.weight.copy_(len(branches) * laid)
        nn.init.zeros_(self.expand.weight)
        nn.init.zeros_(self.expand.bias)
        if self.bias is not None and conv.bias is not None:
            self.bias.copy_(conv.bias)
        return None

    def weigh(self, features: list[Float[Tensor, "b c h w"]]) -> Float[Tensor, "b branch c"]:
        """What each branch counts for in each channel."""
        means = torch.stack([global_mean(feature) for feature in features], 1)
        logits = self.expand(torch.relu(self.reduce(means)))
        return self.map(full_softmax(torch.sigmoid(full_precision(logits)), 1))

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o p q"]:
        """Convolve in every branch, weigh the branches, and put them behind one another, the last one first."""
        features = [branch(x) for branch in self.branches]
        weights = self.weigh(features)
        parts = [feature * weights[:, i, :, None, None].to(feature.dtype) for i, feature in enumerate(features)]
        y = torch.cat(parts[::-1], 1)
        return y if self.bias is None else y + self.bias[:, None, None].to(y.dtype)


def _check_branches(kernels: tuple[int, ...], groups: tuple[int, ...]) -> None:
    for what, values in (("kernels", kernels), ("groups", groups)):
        if not isinstance(values, tuple):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise OptionError(f"{what} must be whole numbers, one for each branch, as 3+5+7+9, not {values!r}")
    for kernel in kernels:
        check_odd("each of kernels", kernel)
    for most in groups:
        check_at_least("each of groups", most, 1)
    if not kernels or len(kernels) != len(groups):
        raise OptionError(f"each branch needs a kernel and groups, and there are {len(kernels)} and {len(groups)}")
