"""The contract can fail: for every check a mechanism that is broken in one way, and exactly that check goes red.

A broken mechanism is a well-behaved one with one thing changed. Where one flaw is two broken promises, both are named.
"""
# ruff: noqa: ARG004 (the steps have the arguments that the base class gives them)

from dataclasses import dataclass, replace
from typing import Literal

import jaxtyping
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from foveate.attention import Affinity, Gate, Map
from foveate.errors import OptionError
from foveate.ops.norm import BatchNorm2d
from foveate.replacement import ConvShape, Replacement
from foveate.testing import Subject, check_mechanism, checks

GRAPHS = ("compiles", "exports", "exports_to_onnx")
DIRECT = tuple(name for name in checks() if name not in GRAPHS)


class Honest(Gate):
    """A gate for each channel from its mean."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.empty(channels))
        self.shift = nn.Parameter(torch.empty(channels))
        self.map = Map("c")
        self.reset_parameters()

    def reset_parameters(self):
        for name, parameter in self.named_parameters():
            nn.init.constant_(parameter, 0.0 if name in ("shift", "last") else 1.0)

    def gather(self, x):
        return x.mean((2, 3))

    def weigh(self, context):
        return torch.sigmoid(context * self.scale + self.shift)[:, :, None, None]


class HonestOptions(Honest):
    def __init__(self, channels: int, *, pool: Literal["avg", "max"] = "avg", gain: float = 2.0) -> None:
        super().__init__(channels)
        self.pooling, self.gain = pool, gain

    def gather(self, x):
        return self.gain * (x.mean((2, 3)) if self.pooling == "avg" else x.flatten(2).max(2).values)


class Halves(Honest):
    """Only even channel counts, and an error that says so."""

    def __init__(self, channels: int) -> None:
        if channels % 2:
            raise OptionError(f"{channels} channels cannot be halved; the nearest that can: {channels + 1}")
        super().__init__(channels)


@dataclass(frozen=True)
class Pairs:
    """The weights of every position in every other."""

    weights: torch.Tensor
    size: tuple[int, int]

    def mix(self, value):
        with torch.autocast("cpu", enabled=False):
            mixed = value.flatten(2).to(self.weights.dtype) @ self.weights
        return mixed.to(value.dtype).reshape(value.shape)

    def dense(self):
        return self.weights


class HonestAffinity(Affinity):
    """Every position takes from those that resemble it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(channels, channels, 1)
        self.map = Map("hw->hw")

    def reset_parameters(self):
        self.embed.reset_parameters()

    def gather(self, x):
        return self.embed(x)

    def weigh(self, context):
        return self.map(self.relate(context))

    def relate(self, context):
        with torch.autocast("cpu", enabled=False):
            flat = context.flatten(2)
            flat = flat.float() if flat.dtype in (torch.float16, torch.bfloat16) else flat
            weights = torch.softmax(flat.transpose(1, 2) @ flat / flat.shape[1], 1)
        return Pairs(weights, (context.shape[2], context.shape[3]))

    def recalibrate(self, x, weights, context):
        return weights.mix(context)


class Stranger(nn.Module):
    """Plain PyTorch, no base class of ours but the map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 1, 1)
        self.strength = nn.Parameter(torch.ones(()))
        self.map = Map("h", "w")

    def start_at_identity(self):
        nn.init.zeros_(self.strength)

    def forward(self, x):
        return x * self.map(1 + self.strength * (torch.sigmoid(self.conv(x)) - 1))


class HonestReplacement(Replacement):
    """Two kernels in a convolution's place, and a share between them from the mean of the map."""

    def __init__(self, shape: ConvShape) -> None:
        super().__init__(shape)
        self.one, self.two = shape.convolution(), shape.convolution()
        self.head = nn.Linear(shape.in_channels, 1)
        self.map = Map("kernel")

    def reset_parameters(self):
        for layer in (self.one, self.two, self.head):
            layer.reset_parameters()

    @torch.no_grad()
    def take_over(self, conv):
        for own in (self.one, self.two):
            own.load_state_dict(conv.state_dict())

    def forward(self, x):
        share = self.head(x.mean((2, 3)))
        weights = self.map(torch.cat([share, 1 - share], 1))[:, :, None, None].to(x.dtype)
        return weights[:, :1] * self.one(x) + weights[:, 1:] * self.two(x)


class ForgetsTheBias(HonestReplacement):
    def take_over(self, conv):
        super().take_over(conv)
        if conv.bias is not None:
            nn.init.zeros_(self.one.bias)


class StaysInStep(HonestReplacement):
    """Two kernels that start alike and are weighed alike stay alike: the head never learns."""

    def take_over(self, conv):
        super().take_over(conv)
        nn.init.zeros_(self.head.weight)
        nn.init.constant_(self.head.bias, 0.5)


class SaysThatItCannot(HonestReplacement):
    def take_over(self, conv):
        super().take_over(conv)
        return "this convolution is not to its liking"


class ForgetsTheStride(HonestReplacement):
    def __init__(self, shape: ConvShape) -> None:
        super().__init__(replace(shape, stride=(1, 1)))


class IgnoresOption(Honest):
    def __init__(self, channels: int, *, reduction: int = 16) -> None:
        super().__init__(channels)


class IgnoresChoice(HonestOptions):
    def __init__(self, channels: int, *, pool: Literal["avg", "max", "lse"] = "avg") -> None:
        super().__init__(channels, pool="max" if pool == "max" else "avg")


class SwallowsOptions(Honest):
    def __init__(self, channels: int, **options) -> None:
        super().__init__(channels)


class EvenChannels(Honest):
    def __init__(self, channels: int) -> None:
        if channels % 2:
            raise ValueError("wrong number of channels")
        super().__init__(channels)


class FarChannels(Honest):
    def __init__(self, channels: int) -> None:
        if channels % 2:
            raise OptionError(f"{channels} channels cannot be halved; 64 can")
        super().__init__(channels)


class CallsACornerUnordered(Honest):
    """It looks at one position, and says that positions have no order."""

    unordered = True

    def gather(self, x):
        return x.mean((2, 3)) + x[:, :, 0, 0]


class HardCodedSize(Honest):
    """Made for one size, which it does not say."""

    def __init__(self, channels: int, *, size: tuple[int, int]) -> None:
        super().__init__(channels)
        self.mask = nn.Parameter(torch.ones(size))

    def gather(self, x):
        return (x * self.mask).mean((2, 3))


class ClaimsOneSize(Honest):
    """Tied to one size, it says, and is not."""

    def __init__(self, channels: int, *, size: tuple[int, int]) -> None:
        super().__init__(channels)
        self.fixed_size = size


class NotANumberAtOnePosition(Honest):
    def gather(self, x):
        return x.std((2, 3))


class PlainBatchNorm(Honest):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.norm = nn.BatchNorm1d(channels)

    def gather(self, x):
        return self.norm(x.mean((2, 3)))

    def reset_parameters(self):
        super().reset_parameters()
        if hasattr(self, "norm"):
            self.norm.reset_parameters()


class WritesIntoInput(Honest):
    def recalibrate(self, x, weights, context):
        return x.mul_(weights)


class MixesSamples(Honest):
    def gather(self, x):
        return x.mean((2, 3)) + 0.1 * x.mean((0, 2, 3))


class LosesChannelsLast(Honest):
    def recalibrate(self, x, weights, context):
        return (x * weights).contiguous()


class DrawsInEvaluation(Honest):
    def gather(self, x):
        torch.rand(1)
        return x.mean((2, 3))


class AppliesAnother(Honest):
    def recalibrate(self, x, weights, context):
        return x * weights.square()


class PassesByTheMap(Honest):
    def forward(self, x):
        weights = self.weigh(self.gather(x))
        if self.blend is not None:
            weights = 1 + self.blend * (weights - 1)
        self.map(weights)
        return x * weights


class ConstantGate(Honest):
    def gather(self, x):
        return torch.ones_like(x[:, :, 0, 0])


class NamesAnotherAxis(Honest):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.map = Map("c", "h")


class OmitsAnAxis(Stranger):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.map = Map("h")


class Twice(torch.autograd.Function):
    """The identity, with the gradient of something else."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


class WrongGradient(Honest):
    def gather(self, x):
        return Twice.apply(x.mean((2, 3)))


class UnusedParameter(Honest):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.forgotten = nn.Parameter(torch.ones(1))


class StuckParameter(Honest):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.rounded = nn.Parameter(torch.ones(1))

    def gather(self, x):
        return x.mean((2, 3)) + torch.floor(self.rounded)


class LearnsByRounding(Honest):
    """What all channels have in common is subtracted again: its gradient is rounding, and seldom exactly zero."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.common = nn.Parameter(torch.ones(1))

    def gather(self, x):
        mean = x.mean((2, 3))
        return mean + ((mean + self.common) - (mean + self.common).mean(1, keepdim=True))


class LearnsInEvaluationOnly(Honest):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.late = nn.Parameter(torch.ones(channels))

    def gather(self, x):
        return x.mean((2, 3)) + (0.0 if self.training else 1.0) * self.late


class BiasBeforeNorm(Honest):
    """Batch normalisation takes the bias away, in training: as in many authors' networks."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.layers = nn.Sequential(nn.Conv2d(channels, channels, 1), BatchNorm2d(channels))

    def gather(self, x):
        return self.layers(x).mean((2, 3)) + x.mean((2, 3))

    def reset_parameters(self):
        super().reset_parameters()
        for layer in getattr(self, "layers", ()):
            layer.reset_parameters()


class DeadBeforeNorm(BiasBeforeNorm):
    """The bias stands before a ReLU that nothing comes through, which batch normalisation does not excuse."""

    def gather(self, x):
        conv, norm = self.layers
        return norm(torch.relu(conv(x) - 1e3)).mean((2, 3)) + x.mean((2, 3))


class NeverIdentity(Honest):
    def start_at_identity(self):
        pass


class TwoZeros(Honest):
    """Its last scale starts at zero, as some papers have it, and `zeros` does not say so."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.last = nn.Parameter(torch.zeros(channels))

    def gather(self, x):
        return self.last * torch.tanh(x.mean((2, 3)) + self.shift)


class TwoZerosDeclared(TwoZeros):
    zeros = ("last",)


class SplitsTies(Honest):
    def gather(self, x):
        return x.amax((2, 3))


class SplitsTiesOfChannels(Stranger):
    def forward(self, x):
        return x * self.map(1 + self.strength * (torch.sigmoid(self.conv(x) + x.amax(1, keepdim=True)) - 1))


class Overflows(Honest):
    def weigh(self, context):
        powers = (context.float() if context.dtype != torch.float64 else context).square()
        odds = torch.pow(1.5, powers).to(context.dtype) * self.scale + self.shift
        return (odds / (1 + odds))[:, :, None, None]


class SoftmaxInHalf(Honest):
    def weigh(self, context):
        return super().weigh(torch.softmax(context, 1))


class AffinityInHalf(HonestAffinity):
    def relate(self, context):
        relation = super().relate(context)
        return replace(relation, weights=relation.weights.to(context.dtype))


class ReturnsFloat(Honest):
    def recalibrate(self, x, weights, context):
        return x * weights if x.dtype == torch.float64 else x.float() * weights


class CannotBePickled(Honest):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.activation = lambda x: torch.sigmoid(x)

    def weigh(self, context):
        return self.activation(self.scale * context + self.shift)[:, :, None, None]


class StateOutsideTheState(Honest):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.register_buffer("centre", torch.rand(channels), persistent=False)

    def gather(self, x):
        return x.mean((2, 3)) - self.centre


class ReadsValuesWhileBuilding(Honest):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.gain = float(torch.ones(channels).sum().sqrt())

    def gather(self, x):
        return self.gain * x.mean((2, 3))


class ForgetsToReset(Honest):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.tail = nn.Parameter(torch.ones(channels))

    def gather(self, x):
        return self.tail * x.mean((2, 3))

    def reset_parameters(self):
        nn.init.ones_(self.scale)
        nn.init.zeros_(self.shift)


class RefusedWhenDeterministic(Honest):
    def gather(self, x):
        return F.adaptive_max_pool2d(x, 1).flatten(1)


class ReadsUninitialisedMemory(Honest):
    def gather(self, x):
        memory = torch.empty_like(x[:, :, 0, 0])
        return x.mean((2, 3)) + (memory.isnan() if torch.are_deterministic_algorithms_enabled() else 0) * memory


class TransposedPairs(Pairs):
    def dense(self):
        return self.weights.transpose(1, 2)


class ShowsTheTranspose(HonestAffinity):
    def relate(self, context):
        relation = super().relate(context)
        return TransposedPairs(relation.weights, relation.size)


class MixesPastTheMap(HonestAffinity):
    def recalibrate(self, x, weights, context):
        return self.relate(context).mix(context)


class BranchesOnValues(Honest):
    def gather(self, x):
        mean = x.mean((2, 3))
        return mean if mean.sum().item() > 1e6 else 2 * mean


class HidesFromTheCompiler(Honest):
    @torch.compiler.disable
    def gather(self, x):
        return x.mean((2, 3))


class LoopsOverRows(Honest):
    def gather(self, x):
        return sum(x[:, :, row].mean(2) for row in range(x.shape[2])) / x.shape[2]


class UnknownToOnnx(Honest):
    def gather(self, x):
        return torch.special.i0(x.mean((2, 3)))


BROKEN = {
    IgnoresOption: {"every_option_acts"},
    IgnoresChoice: {"every_option_acts"},
    SwallowsOptions: {"misspelt_option_raises"},
    EvenChannels: {"any_channels"},
    FarChannels: {"any_channels"},
    CallsACornerUnordered: {"takes_positions_as_it_says"},
    HardCodedSize: {"any_size"},
    ClaimsOneSize: {"any_size"},
    NotANumberAtOnePosition: {"any_size", "trains_on_one_sample"},
    PlainBatchNorm: {"trains_on_one_sample"},
    WritesIntoInput: {"keeps_its_input"},
    MixesSamples: {"keeps_samples_apart"},
    LosesChannelsLast: {"keeps_channels_last"},
    DrawsInEvaluation: {"draws_nothing"},
    AppliesAnother: {"map_is_applied"},
    PassesByTheMap: {"map_is_applied"},
    ShowsTheTranspose: {"map_is_applied"},
    MixesPastTheMap: {"map_is_applied"},
    ConstantGate: {"map_varies_along_its_axes"},
    NamesAnotherAxis: {"map_varies_along_its_axes"},
    OmitsAnAxis: {"map_varies_along_its_axes"},
    WrongGradient: {"gradients_are_exact"},
    UnusedParameter: {"every_parameter_learns", "starts_as_identity"},
    StuckParameter: {"every_parameter_learns", "starts_as_identity"},
    LearnsByRounding: {"every_parameter_learns", "starts_as_identity"},
    LearnsInEvaluationOnly: {"every_parameter_learns", "starts_as_identity"},
    DeadBeforeNorm: {"every_parameter_learns", "starts_as_identity"},
    NeverIdentity: {"starts_as_identity"},
    TwoZeros: {"starts_as_identity"},
    SplitsTies: {"ties_go_to_the_first"},
    SplitsTiesOfChannels: {"ties_go_to_the_first"},
    Overflows: {"survives_autocast"},
    SoftmaxInHalf: {"keeps_softmax_precise"},
    AffinityInHalf: {"keeps_softmax_precise"},
    ReturnsFloat: {"keeps_dtype"},
    CannotBePickled: {"copies_agree"},
    StateOutsideTheState: {"copies_agree", "builds_on_meta"},
    ReadsValuesWhileBuilding: {"builds_on_meta"},
    ForgetsToReset: {"builds_on_meta"},
    RefusedWhenDeterministic: {"runs_deterministically"},
    ForgetsTheBias: {"starts_as_its_convolution"},
    StaysInStep: {"starts_as_its_convolution"},
    SaysThatItCannot: {"starts_as_its_convolution"},
    ForgetsTheStride: {"starts_as_its_convolution", "any_convolution"},
}
BROKEN_GRAPHS = {
    HidesFromTheCompiler: {"compiles"},
    BranchesOnValues: {"builds_on_meta", *GRAPHS},
    LoopsOverRows: {"exports", "exports_to_onnx"},
    UnknownToOnnx: {"exports_to_onnx"},
}


@pytest.fixture
def unchecked_shapes():
    """The compiler cannot see through the checks of shapes that the tests add to signatures."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def failing(what, only):
    return {result.check for result in check_mechanism(what, only=only) if result.outcome != "passed"}


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize("toy", [HonestOptions, HonestAffinity, Stranger, HonestReplacement])
def test_well_behaved_passes_everything(toy):
    results = check_mechanism(toy)
    assert [result.check for result in results] == list(checks(Subject.of(toy)))
    assert [str(result) for result in results if result.outcome != "passed"] == []


@pytest.mark.parametrize("toy", [Honest, Halves, TwoZerosDeclared, BiasBeforeNorm])
def test_what_some_break_can_be_done_well(toy):
    assert failing(toy, DIRECT) == set()


@pytest.mark.filterwarnings("ignore:std")
@pytest.mark.parametrize(("toy", "red"), BROKEN.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_broken_fails_exactly(toy, red):
    assert failing(toy, DIRECT) == red


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize(("toy", "red"), BROKEN_GRAPHS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_broken_graph_fails_exactly(toy, red):
    assert failing(toy, None) == red


def test_every_check_was_seen_to_fail():
    assert set().union(*BROKEN.values(), *BROKEN_GRAPHS.values()) == set(checks())
