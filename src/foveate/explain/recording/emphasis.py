"""Where attention turned feature energy up or down: what it did to positions, whatever its map varies over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.fusion import Pair
from foveate.replacement import Replacement
from foveate.surgery.attached import Found

# where features have no energy at all, their share of it is this, not zero: log 0 has no picture
_SMALLEST_SHARE = 1e-6


def recalibrates(found: Found) -> bool:
    """Whether an output is the input, turned up and down: not so of what stands in a convolution's place."""
    return (found.entry is None or found.entry.recalibrates) and not isinstance(found.module, Replacement)


def emphasis_hook(tell: Callable[[Float[Tensor, "b ..."]], None]) -> Any:
    """A forward hook, with keywords, that tells the logarithm of how each position's share in the energy changed."""

    def hook(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        x = given(module, inputs, named)
        if isinstance(output, Tensor) and output.ndim > 2 and output.shape == x.shape:
            tell(_energy_share(output).log() - _energy_share(x).log())

    return hook


def given(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> Tensor:
    """The features that attention acts on; of two maps, what the network would have without the attention."""
    return module.identity(*inputs) if isinstance(module, Pair) else next(iter((*inputs, *named.values())))


def _energy_share(x: Tensor) -> Tensor:
    energy = x.detach().float().square().mean(1)
    mean = energy.mean(tuple(range(1, energy.ndim)), keepdim=True)
    return (energy / mean.clamp_min(torch.finfo(torch.float32).tiny)).clamp_min(_SMALLEST_SHARE)
