"""Expectation-maximisation attention: the map described by a few bases, found by a few steps of EM."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.attention import Map, Update
from foveate.errors import OptionError, check_at_least, check_bool, check_choice, check_positive
from foveate.ops.matmul import full_matmul
from foveate.ops.norm import BatchNorm2d
from foveate.ops.recompute import recomputing
from foveate.ops.softmax import full_softmax
from foveate.registry import Card, Paper, mechanism

EPSILON = 1e-6


class Embedding(NamedTuple):
    """What is gathered: projected features, and the bases that all steps but the last have found in them."""

    features: Tensor
    bases: Tensor


@mechanism(
    Card(
        name="expectation_maximization",
        aliases=("emau",),
        title="Expectation-Maximization Attention Unit",
        paper=Paper(
            "Expectation-Maximization Attention Networks for Semantic Segmentation",
            "Li, Zhong, Wu, Yang, Lin, Liu",
            "ICCV 2019",
            "1907.13426",
        ),
        equation=(
            "f = W₁ x, and T times: Z = softmax over bases of fᵀ μ, then μ_k = unit(Σ_n f_n z_nk / Σ_n z_nk)\n"
            "y = x + norm(W₂ relu(μ Zᵀ))   (relu: max(0, y))\n"
            "in training the next batch's first μ becomes 0.9 μ + 0.1 (the mean over the samples of the last)"
        ),
        reference="XiaLiPKU/EMANet @ f09ffac, network.py and train.py",
        differences=(
            "The bases move by themselves in training mode, where the authors' training script moves them: forgotten "
            "there, as copies of the module alone do, they stay as they were drawn.",
            "As in the authors' code no gradient passes the EM steps, so that the first projection never learns; its "
            "authors found that slightly better. It is frozen here, which says so. `gradient=assignments` lets "
            "gradients through the last assignment; the output is the same.",
            "A forward pass that gradient checkpointing repeats starts from the bases of the pass that it repeats, and "
            "does not move them again; a module that runs several times a step knows the last of its passes only.",
            "Each process of distributed training moves the bases by its own samples; "
            "DistributedDataParallel then hands on the first process's. The authors' average over all devices.",
            "The ReLU behind the addition is left to the network, because with it there is no identity to start from: "
            "`relu=true` has it. Norms have PyTorch's momentum; the authors' network trains with 0.0003.",
            "The EM steps stay in float32 under autocast.",
            "A training batch of one value per channel is normalised with the running statistics.",
        ),
        exemptions={
            "gradients_are_exact": (
                "gradients do not pass the EM steps, as in the authors' code, and finite differences do; in training "
                "each pass moves the bases that the next one starts from"
            ),
        },
        evidence=(
            "Semantic segmentation on PASCAL VOC with ResNet-101 at a single scale: 80.05 mIoU, against 78.51 for "
            "DeepLabV3 and for PSANet. At 513×513 it adds 43.1 GFLOPs and 10.0 M parameters to the backbone "
            "(DeepLabV3: 63.4 and 15.5 M), most of them in the two 3×3 convolutions around the module."
        ),
    )
)
class ExpectationMaximization(Update):
    """Expectation-maximisation attention: the map is rebuilt from a few bases that describe it.

    Projected positions are assigned to bases by a softmax, the bases become the means of what is assigned to them,
    and so on for a few steps; then every position is replaced by its mix of the bases, projected and normalised, and
    added. The first bases of a batch are a moving average of the last bases of those before: part of the state, not
    learned by gradients.

    Source: Li et al., Expectation-Maximization Attention Networks, section 4; the authors' PyTorch code.

    Args:
        channels: Channels of the feature map.
        bases: Number of bases, at least 2: to a single one everything is assigned.
        steps: Steps of expectation and maximisation.
        momentum: What the moving average keeps of itself at each training batch, below 1.
        gradient: ``"none"`` passes through the EM steps, as released; or it passes through the last of the
            ``"assignments"``, and the first projection learns.
        relu: Whether a ReLU follows the addition, as in the authors' network.

    Shape:
        ``(b, c, h, w)`` in and out; the map has the axes ``slot``, ``h``, ``w``: each position's share in each base.

    Raises:
        OptionError: If an option's value cannot work.

    Example:
        >>> import torch
        >>> from foveate.catalogue import ExpectationMaximization
        >>> ExpectationMaximization(64, bases=16)(torch.randn(2, 64, 7, 7)).shape
        torch.Size([2, 64, 7, 7])
    """

    mu: Tensor

    def __init__(
        self,
        channels: int,
        *,
        bases: int = 64,
        steps: int = 3,
        momentum: float = 0.9,
        gradient: Literal["none", "assignments"] = "none",
        relu: bool = False,
    ) -> None:
        super().__init__()
        check_at_least("bases", bases, 2)
        check_at_least("steps", steps, 1)
        check_positive("momentum", momentum)
        if momentum >= 1:
            raise OptionError(f"momentum must be below 1, or the bases stay as they were drawn; {momentum} is not")
        check_choice("gradient", gradient, ("none", "assignments"))
        check_bool("relu", relu)
        self.steps, self.momentum, self.gradient, self.relu = steps, momentum, gradient, relu
        # the authors' names, so that their checkpoints load
        self.register_buffer("mu", torch.empty(1, channels, bases))
        self.conv1 = nn.Conv2d(channels, channels, 1)
        self.conv2 = nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), BatchNorm2d(channels))
        self.conv1.requires_grad_(gradient == "assignments")
        self.map = Map("slot", "h", "w")
        self._before: Tensor | None = None  # the bases that the last training batch started from
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal distributions of variance 2 / channels, and bases of unit length in random directions."""
        deviation = math.sqrt(2 / self.conv1.out_channels)
        self.conv1.reset_parameters()
        for layer in (self.conv1, self.conv2[0]):
            nn.init.normal_(layer.get_parameter("weight"), std=deviation)
        for layer in self.conv2:
            if isinstance(layer, nn.BatchNorm2d):
                layer.reset_parameters()
        with torch.no_grad():
            self.mu.copy_(_unit(torch.randn_like(self.mu)))

    def start_at_identity(self) -> None:
        """Become the identity function; only without a ReLU, which cuts negative features off.

        Raises:
            OptionError: With ``relu=True``.
        """
        if self.relu:
            raise OptionError(
                "expectation_maximization with relu=true cuts negative features off and has no identity: use relu=false"
            )
        super().start_at_identity()

    def gather(self, x: Float[Tensor, "b c h w"]) -> Embedding:
        """Project the features, and find bases in them, all steps but the last."""
        features = self.conv1(x)
        return Embedding(features, _bases_after(features, self._first(), self.steps - 1))

    def weigh(self, context: Embedding) -> Float[Tensor, "b slot h w"]:
        """The last expectation: each position's share in each base."""
        shares = _assign(context.features, context.bases, self.gradient == "assignments")
        return self.map(shares)

    def recalibrate(
        self,
        x: Float[Tensor, "b c h w"],  # noqa: ARG002
        weights: Float[Tensor, "b slot h w"],
        context: Embedding,
    ) -> Float[Tensor, "b c h w"]:
        """The last maximisation, and every position rebuilt from the bases, projected."""
        bases = _means(context.features, weights)
        if self.training and not recomputing():
            _move(self.mu, bases, self.momentum)
        rebuilt = full_matmul(bases, weights.flatten(2)).to(context.features.dtype)
        return self.conv2(torch.relu(rebuilt.reshape(context.features.shape)))

    def fuse(self, x: Float[Tensor, "b c h w"], update: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Add the update to the features."""
        return torch.relu(x + update) if self.relu else x + update

    def _first(self) -> Tensor:
        """The bases that this pass starts from: in training a copy, since the average moves before the gradients."""
        if not self.training:
            return self.mu
        if recomputing() and self._before is not None:
            return self._before
        first = self.mu.clone()
        if not torch.compiler.is_compiling():
            self._before = first
        return first


def _unit(bases: Tensor) -> Tensor:
    return bases / (EPSILON + bases.norm(dim=1, keepdim=True))


def _assign(features: Tensor, bases: Tensor, learning: bool) -> Tensor:
    with torch.set_grad_enabled(learning and torch.is_grad_enabled()):
        products = full_matmul(bases.transpose(1, 2), features.flatten(2))
        return full_softmax(products, 1).unflatten(2, features.shape[2:])


def _means(features: Tensor, shares: Tensor) -> Tensor:
    with torch.no_grad():
        weights = shares.flatten(2)
        weights = weights / (EPSILON + weights.sum(2, keepdim=True))
        return _unit(full_matmul(features.flatten(2), weights.transpose(1, 2)))


def _bases_after(features: Tensor, bases: Tensor, steps: int) -> Tensor:
    with torch.no_grad():
        for _ in range(steps):
            bases = _means(features, _assign(features, bases, learning=False))
    return bases


def _move(average: Tensor, bases: Tensor, momentum: float) -> None:
    with torch.no_grad():
        average.copy_(average * momentum + bases.mean(0, keepdim=True) * (1 - momentum))


torch.fx.wrap("_assign")  # FX does not keep where gradients stop
torch.fx.wrap("_means")
torch.fx.wrap("_bases_after")
torch.fx.wrap("_move")
