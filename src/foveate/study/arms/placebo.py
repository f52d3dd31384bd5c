"""The placebo of a mechanism: the same module, whose weights learn but cannot depend on what they weigh.

Attention is said to help because its weights depend on the input. A placebo has the parameters, the operations and the
reach of the mechanism, and its weights are computed from the running mean of the maps that it was given in training,
position by position, instead of from the map before it. What is left of its gain is owed to something else: to more
parameters, to a learned constant gate, to a longer path for the gradient.

Norms on the way from the running mean to the weights neither look at the batch, which would all be alike, nor keep
statistics: they scale and shift alone. An affinity keeps its reach and relates positions by what is usual there;
uniform weights, the simplest case of that, would also take away what it learns about places.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase  # pyright: ignore[reportPrivateUsage]

from foveate.attention import Attention, Map, Sequence
from foveate.errors import OptionError
from foveate.fusion import Pair
from foveate.measure import inference
from foveate.replacement import Replacement

MOMENTUM = 0.1  # of the running mean, as in PyTorch's batch norm
_MODES = {3: "linear", 4: "bilinear", 5: "trilinear"}


class NoPlaceboError(OptionError):
    """A mechanism whose weights cannot be made blind to its input."""


class Usual(nn.Module):
    """The running mean of the maps that were seen in training, position by position.

    Args:
        like: A map, batch first, for the shape: maps of other sizes are resized to it.
    """

    mean: Tensor
    begun: Tensor

    def __init__(self, like: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros_like(like[:1]))
        self.register_buffer("begun", torch.zeros(()))

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """The mean, at the map's size, once for each sample; in training the map is taken into it first."""
        if self.training:
            _follow(self.mean, self.begun, x.detach().mean(0, keepdim=True))
        return _resized(self.mean, x).to(x.dtype).expand(len(x), *self.mean.shape[1:2], *x.shape[2:]).contiguous()


class _Blind:
    """Weights of the running mean, for a class whose ``weigh`` makes them of what ``gather`` returns."""

    foveate_usual: nn.ModuleList
    foveate_seen: tuple[Tensor, ...]

    def __reduce_ex__(self, _protocol: Any) -> tuple[Any, ...]:
        """Classes that are made here are found by what they are made of: copies and other processes need that."""
        state = {name: value for name, value in vars(self).items() if name != "foveate_seen"}
        return _blank, (blind, type(self).__bases__[1]), state

    def forward(self, *maps: Tensor) -> Any:
        """As the mechanism does, with the weights of the running mean."""
        usual = [mean(x) for mean, x in zip(self.foveate_usual, maps, strict=True)]
        object.__setattr__(self, "foveate_seen", tuple(usual))
        return super().forward(*maps)  # type: ignore[misc]

    def gather(self, *maps: Tensor) -> Any:
        """What is recalibrated with; weights that are shown on the way are of the map, and used by nobody."""
        with _unseen(self):  # type: ignore[arg-type]
            return super().gather(*maps)  # type: ignore[misc]

    def weigh(self, _context: Any, *which: Any) -> Any:
        """The weights of the running mean, whatever the context of the map is."""
        with _norms_at_rest(self):  # type: ignore[arg-type]
            return super().weigh(super().gather(*self.foveate_seen), *which)  # type: ignore[misc]

    def at_once(self, *_maps: Tensor) -> None:
        """Never: the steps have to be taken one by one."""
        return


@cache
def blind(mechanism: type) -> type:
    """A mechanism's class, with weights of the running mean.

    Example:
        >>> from foveate.catalogue import SqueezeExcite
        >>> blind(SqueezeExcite).__name__
        'PlaceboOfSqueezeExcite'
    """
    return type(f"PlaceboOf{mechanism.__name__}", (_Blind, mechanism), {})


@cache
def step_by_step(sequence: type) -> type:
    """A sequence's class, with its steps taken one by one where it would take them at once."""

    def reduced(self: nn.Module, _protocol: Any) -> tuple[Any, ...]:
        return _blank, (step_by_step, sequence), dict(vars(self))

    members = {"forward": Sequence.forward, "__reduce_ex__": reduced}
    return type(f"StepsOf{sequence.__name__}", (sequence,), members)


def _blank(make: Callable[[type], type], of: type) -> Any:
    return object.__new__(make(of))


class _Constant(Map):
    """A map whose weights are their own running mean: the mean of the batch in training."""

    mean: Tensor
    begun: Tensor

    def __init__(self, axes: tuple[str, ...], like: Tensor) -> None:
        super().__init__(*axes)
        self.register_buffer("mean", torch.zeros_like(like[:1]))
        self.register_buffer("begun", torch.zeros(()))

    def forward(self, weights: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The same weights for every sample."""
        if self.training:
            now = weights.mean(0, keepdim=True)
            _follow(self.mean, self.begun, now.detach())
        else:
            now = _resized(self.mean, weights)
        return now.to(weights.dtype).expand(len(weights), *now.shape[1:])


def make_placebo(network: nn.Module, *example: Any) -> nn.Module:
    """Make the attention of a network blind to its input, in place.

    Mechanisms of foveate are changed wherever they stand, also those that are part of the network. What stands in a
    convolution's place has its weights replaced by their mean over the batch, and in evaluation by the running mean.

    Args:
        network: With attention.
        *example: What it is given for one sample or more, to see the shapes of the maps.

    Raises:
        OptionError: If there is no attention of foveate; :class:`NoPlaceboError`, one of them, if a mechanism has
            weights that cannot be made blind.

    Example:
        >>> from foveate import attach, hosts
        >>> network = attach(hosts.build("foveate/resnet8", classes=10), "se", start="paper")
        >>> type(make_placebo(network, torch.zeros(1, 3, 32, 32)).layer1[0].bn2.foveate["squeeze_excite"]).__name__
        'PlaceboOfSqueezeExcite'
    """
    steps = list(_steps(network))
    points = [(owner, name, point) for owner in _replaced(network) for name, point in _points(owner)]
    if not steps and not points:
        raise OptionError("there is no attention of foveate in this network to make a placebo of")
    for module in list(network.modules()):
        if isinstance(module, Sequence) and type(module).forward is not Sequence.forward:  # its steps are fused
            module.__class__ = step_by_step(type(module))
    seen = _seen([*(step for _, step in steps), *(point for _, _, point in points)], network, example)
    for path, step in steps:
        if step not in seen:
            raise NoPlaceboError(f"the attention at '{path}' does not run, and so has no placebo")
        step.foveate_usual = nn.ModuleList(Usual(x) for x in seen[step])
        step.foveate_usual.train(step.training)
        step.__class__ = blind(type(step))
    for owner, name, point in points:
        weights = seen.get(point, (None,))[0]
        if not isinstance(weights, Tensor):
            raise NoPlaceboError(
                f"{type(owner).__name__} relates positions inside a convolution's place: it has no placebo"
            )
        constant = _Constant(point.axes, weights).train(point.training)
        setattr(owner.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2], constant)
    return network


def _steps(network: nn.Module) -> Iterator[tuple[str, Any]]:
    """What gathers and weighs, by path; a sequence's steps and not itself, nothing inside a convolution's place."""
    within = {id(inner) for owner in _replaced(network) for inner in owner.modules()}
    for path, module in network.named_modules():
        if isinstance(module, Attention | Pair) and not isinstance(module, Sequence) and id(module) not in within:
            if not hasattr(module, "weigh"):
                raise NoPlaceboError(f"'{path}' does not tell how it weighs: {type(module).__name__} has no placebo")
            yield path, module


def _replaced(network: nn.Module) -> list[Replacement]:
    return [module for module in network.modules() if isinstance(module, Replacement)]


def _points(owner: nn.Module) -> list[tuple[str, Map]]:
    return [(name, module) for name, module in owner.named_modules() if isinstance(module, Map)]


def _seen(modules: list[nn.Module], network: nn.Module, example: tuple[Any, ...]) -> dict[nn.Module, tuple[Any, ...]]:
    """What modules are given in one forward pass."""
    seen: dict[nn.Module, tuple[Any, ...]] = {}
    hooks = [module.register_forward_pre_hook(lambda one, given: seen.setdefault(one, given)) for module in modules]
    try:
        with inference(network):
            network(*example)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


@contextmanager
def _unseen(step: nn.Module) -> Generator[None]:
    """Nobody sees what passes through the maps."""
    points = [
        (owner, name, child)
        for owner in step.modules()
        for name, child in owner.named_children()
        if isinstance(child, Map)
    ]
    for owner, name, child in points:
        setattr(owner, name, Map(*child.axes))
    try:
        yield
    finally:
        for owner, name, child in points:
            setattr(owner, name, child)


@contextmanager
def _norms_at_rest(step: nn.Module) -> Generator[None]:
    """Norms use the statistics they have, and do not move them."""
    moving = [one for one in step.modules() if isinstance(one, _NormBase) and one.training and one.track_running_stats]
    for norm in moving:
        norm.training = False
    try:
        yield
    finally:
        for norm in moving:
            norm.training = True


@torch.no_grad()
def _follow(mean: Tensor, begun: Tensor, now: Tensor) -> None:
    """Take another value into a running mean, which begins with the first."""
    now = _resized(now, mean)
    mean.copy_(torch.where(begun > 0, torch.lerp(mean, now, MOMENTUM), now))
    begun.fill_(1.0)


def _resized(x: Tensor, like: Tensor) -> Tensor:
    """A map at another's size; what is not a map of positions only where the size is the same."""
    if x.shape[2:] == like.shape[2:] or x.ndim not in _MODES:
        return x
    return F.interpolate(x, like.shape[2:], mode=_MODES[x.ndim], align_corners=False)
