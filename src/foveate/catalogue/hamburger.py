"""Hamburger: the map rebuilt from a few bases that factorise it, between two projections."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Map, Update
from foveate.errors import OptionError, check_at_least, check_bool
from foveate.ops.matmul import full_matmul
from foveate.ops.norm import BatchNorm2d
from foveate.ops.precision import full_precision
from foveate.ops.softmax import full_softmax
from foveate.registry import Card, Paper, mechanism

EPSILON = 1e-6


class Factors(NamedTuple):
    """What is gathered: projected features, their bases (b, c, k), and the coefficients (b, k, n) before the last."""

    features: Tensor
    bases: Tensor
    coefficients: Tensor


@mechanism(
    Card(
        name="hamburger",
        aliases=("ham",),
        title="Hamburger",
        paper=Paper(
            "Is Attention Better Than Matrix Decomposition?",
            "Geng, Guo, Chen, Li, Wei, Lin",
            "ICLR 2021",
            "2109.04553",
        ),
        equation=(
            "f = relu(W₁ x) ≈ D C: C = softmax(Dᵀ f), then K times C ∘= Dᵀf / DᵀDC, D ∘= fCᵀ / DCCᵀ, and C once more\n"
            "y = x + norm(W₂ D C)   (relu: max(0, y); cheese: W₂ relu(norm(W₃ D C)) in place of norm(W₂ D C))"
        ),
        reference="Gsunshine/Enjoy-Hamburger @ d9b51f6, seg/HamNet/hamburger/ham.py, burger.py and bread.py",
        differences=(
            "The bases that a pass starts from are drawn once and kept in the state. The authors' code draws new ones "
            "for each sample in each pass, in evaluation too, where the same image then gives other outputs. Given "
            "these bases, theirs gives the same numbers.",
            "Gradients pass the last update of the coefficients only, with the bases as constants: the authors' "
            "one-step gradient. Their version for mmsegmentation lets gradients through all steps.",
            "Of the three factorisations the non-negative one is here, the paper's best and what all released networks "
            "use; vector quantisation and concept decomposition are not, nor are the authors' experiments with groups "
            "of channels, with channels in the place of positions and with bases that move at evaluation.",
            "`cheese=true` is the authors' later form, V2; V1 is the paper's.",
            "The ReLU behind the addition is left to the network, because with it there is no identity to start from: "
            "`relu=true` has it. Norms have PyTorch's momentum; the authors' network trains with 0.0003.",
            "The factorisation stays in float32 under autocast.",
            "A training batch of one value per channel is normalised with the running statistics.",
        ),
        exemptions={
            "gradients_are_exact": (
                "the one-step gradient of the paper takes the bases, and the coefficients before the last update, for "
                "constants, and finite differences do not"
            ),
        },
        evidence=(
            "Semantic segmentation on ADE20K with ResNet-101, in the authors' repository: 46.0 mIoU at several scales "
            "with 57 M parameters and 918 GFLOPs, against 46.0, 69 M and 1,249 for disentangled non-local and 45.2, "
            "69 M and 1,119 for dual attention. 85.9 on the PASCAL VOC test server."
        ),
    )
)
class Hamburger(Update):
    """Hamburger: global context as what is left of a map when it is factorised with few bases.

    Features are projected, without negative values, and factorised into non-negative bases and each position's
    coefficients by multiplicative updates; what bases and coefficients
    rebuild, which is of low rank and so holds what the positions have in common, is projected, normalised and added.

    Source: Geng et al., Is Attention Better Than Matrix Decomposition?, section 2; the authors' PyTorch code.

    Args:
        channels: Channels of the feature map.
        bases: Number of bases, at least 2.
        train_steps: Steps of the factorisation in training.
        eval_steps: Steps in evaluation.
        reduction: The factorisation works on ``max(1, channels // reduction)`` channels.
        cheese: Whether a convolution with a norm and a ReLU stands between factorisation and projection, as in the
            authors' later form, in place of the last norm.
        relu: Whether a ReLU follows the addition, as in the authors' network.

    Shape:
        ``(b, c, h, w)`` in and out; the map has the axes ``slot``, ``h``, ``w``: each position's coefficients of the
        bases.

    Raises:
        OptionError: If an option's value cannot work.

    Example:
        >>> import torch
        >>> from foveate.catalogue import Hamburger
        >>> Hamburger(64, bases=16)(torch.randn(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])
    """

    initial: Tensor

    def __init__(
        self,
        channels: int,
        *,
        bases: int = 64,
        train_steps: int = 6,
        eval_steps: int = 7,
        reduction: int = 1,
        cheese: bool = False,
        relu: bool = False,
    ) -> None:
        super().__init__()
        check_at_least("bases", bases, 2)
        check_at_least("train_steps", train_steps, 1)
        check_at_least("eval_steps", eval_steps, 1)
        check_at_least("reduction", reduction, 1)
        check_bool("cheese", cheese)
        check_bool("relu", relu)
        self.train_steps, self.eval_steps, self.relu = train_steps, eval_steps, relu
        inner = max(1, channels // reduction)
        self.register_buffer("initial", torch.empty(1, inner, bases))
        # the authors' names, so that their checkpoints load
        self.lower_bread = nn.Sequential(nn.Conv2d(channels, inner, 1), nn.ReLU())
        self.cheese: nn.Sequential | None = None
        if cheese:
            layers: dict[str, nn.Module] = {"conv": nn.Conv2d(inner, inner, 1, bias=False), "bn": BatchNorm2d(inner)}
            self.cheese = nn.Sequential(OrderedDict(layers, act=nn.ReLU()))
        last = nn.Conv2d(inner, channels, 1, bias=False)
        self.upper_bread = last if cheese else nn.Sequential(last, BatchNorm2d(channels))
        self.map = Map("slot", "h", "w")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal distributions of variance 2 / channels that come out, and bases drawn uniformly, as the authors'."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                layer.reset_parameters()
                nn.init.normal_(layer.weight, std=math.sqrt(2 / layer.out_channels))
            elif isinstance(layer, nn.BatchNorm2d):
                layer.reset_parameters()
        nn.init.uniform_(self.initial)

    def start_at_identity(self) -> None:
        """Become the identity function; only without a ReLU, which cuts negative features off.

        Raises:
            OptionError: With ``relu=True``.
        """
        if self.relu:
            raise OptionError("hamburger with relu=true cuts negative features off and has no identity: use relu=false")
        super().start_at_identity()

    def gather(self, x: Float[Tensor, "b c h w"]) -> Factors:
        """Project the features, and factorise them."""
        features = self.lower_bread(x)
        bases, coefficients = _factorise(features, self.initial, self.train_steps if self.training else self.eval_steps)
        return Factors(features, bases, coefficients)

    def weigh(self, context: Factors) -> Float[Tensor, "b slot h w"]:
        """The last update of the coefficients, the one that gradients pass."""
        coefficients = _coefficients(context.features.flatten(2), context.bases, context.coefficients)
        return self.map(coefficients.unflatten(2, context.features.shape[2:]))

    def recalibrate(
        self,
        x: Float[Tensor, "b c h w"],  # noqa: ARG002
        weights: Float[Tensor, "b slot h w"],
        context: Factors,
    ) -> Float[Tensor, "b c h w"]:
        """What bases and coefficients rebuild, projected."""
        rebuilt = full_matmul(context.bases, weights.flatten(2)).to(context.features.dtype)
        rebuilt = rebuilt.reshape(context.features.shape)
        return self.upper_bread(rebuilt if self.cheese is None else self.cheese(rebuilt))

    def fuse(self, x: Float[Tensor, "b c h w"], update: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Add the update to the features."""
        return torch.relu(x + update) if self.relu else x + update


def _coefficients(features: Tensor, bases: Tensor, coefficients: Tensor) -> Tensor:
    """Their multiplicative update."""
    transposed = bases.transpose(1, 2)
    given = full_matmul(full_matmul(transposed, bases), coefficients)
    return coefficients * full_matmul(transposed, features) / (given + EPSILON)


def _factorise(features: Tensor, initial: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Bases of one sample each, and all coefficients but for their last update."""
    with torch.no_grad():
        features = full_precision(features.flatten(2))
        # an update can change no sign, so that none may be negative, whatever state was loaded
        bases = F.normalize(full_precision(initial).abs(), dim=1).expand(features.shape[0], -1, -1)
        coefficients = full_softmax(full_matmul(bases.transpose(1, 2), features), 1)
        for _ in range(steps):
            coefficients = _coefficients(features, bases, coefficients)
            transposed = coefficients.transpose(1, 2)
            given = full_matmul(bases, full_matmul(coefficients, transposed))
            bases = bases * full_matmul(features, transposed) / (given + EPSILON)
    return bases, coefficients


torch.fx.wrap("_factorise")  # FX does not keep where gradients stop
