"""Looking at what passes through the maps of a mechanism, and putting known values into its layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from foveate.attention import Map, maps_of


def weights_of(module: nn.Module, *inputs: Tensor) -> dict[str, Tensor]:
    """The weights that pass each map in one run, affinities as (b, source, target)."""
    seen: dict[str, Tensor] = {}

    def note(path: str, point: Map) -> RemovableHandle:
        return point.register_forward_hook(
            lambda _, __, out: seen.__setitem__(path, (out.dense() if hasattr(out, "dense") else out).detach())
        )

    handles = [note(path, point) for path, point in maps_of(module).items()]
    try:
        module(*inputs)
    finally:  # a later run must not change what this one saw, nor a copy or a graph of the module have hooks
        for handle in handles:
            handle.remove()
    return seen


def gate(module: nn.Module, x: Tensor) -> Tensor:
    """The weights of a mechanism that has one map."""
    (weights,) = weights_of(module, x).values()
    return weights


def fill(layer: nn.Module, value: float, name: str = "weight") -> None:
    """Set every value of one parameter."""
    nn.init.constant_(layer.get_parameter(name), value)


def logit(probability: Tensor) -> Tensor:
    """What the sigmoid of which is a probability."""
    return torch.log(probability / (1 - probability))


def has_deviation(weights: Tensor, deviation: float) -> bool:
    """The root mean square of n draws is itself uncertain by one part in √(2n); five times that is allowed."""
    return abs(weights.square().mean().sqrt().item() / deviation - 1) < 5 / (2 * weights.numel()) ** 0.5


def filled(module: nn.Module) -> nn.Module:
    """Norms and weights that make every relation another."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in module.named_parameters():
        with torch.no_grad():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
            if name.endswith("bias"):
                parameter.abs_()
    return module.eval()
