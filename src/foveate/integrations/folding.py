"""Does attention survive when a package folds norms into convolutions? Tried on a copy, not looked up.

What is folded differs from block to block and from version to version; what comes out at each place does not lie.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from foveate.surgery.attended import attended_places, host_path
from foveate.surgery.places import default_example


def lost_by(network: nn.Module, fold: Callable[[Any], nn.Module], example: Tensor | None = None) -> list[str]:
    """The places whose attention no longer runs, or runs on another map, once a copy of the network was folded.

    Args:
        network: An attended network; it is left as it is.
        fold: What folds a network in evaluation mode, in place or not, and returns it.
        example: An input to run, as in :func:`foveate.attach`.

    Returns:
        Paths of places, as the host has them; empty if all is well. A map that differs by more than a thousandth of
        its largest value counts as another.

    Example:
        >>> import foveate
        >>> from foveate import hosts
        >>> network = foveate.attach(hosts.build("foveate/resnet8", classes=10), "se")
        >>> lost_by(network, lambda copied: copied)
        []
    """
    trial = copy.deepcopy(network).eval()
    _give_norms_something_to_do(trial)
    x = default_example(trial) if example is None else example
    before = _at_places(trial, x)
    after = _at_places(fold(trial), x)
    return [path for path, y in before.items() if path not in after or not _close(after[path], y)]


def _give_norms_something_to_do(network: nn.Module) -> None:
    """A fresh norm does nothing, and folding it wrongly would not show."""
    generator = torch.Generator().manual_seed(0)
    for norm in network.modules():
        if not isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            continue
        if norm.running_mean is not None and norm.running_var is not None:
            shape = norm.running_mean.shape
            shift, scale = torch.randn(shape, generator=generator) / 4, torch.rand(shape, generator=generator) + 0.5
            # in proportion, so that what a trained network computes stays of the size it was
            norm.running_mean += shift.to(norm.running_var) * norm.running_var.sqrt()
            norm.running_var *= scale.to(norm.running_var)


@torch.no_grad()
def _at_places(network: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """What comes out at each attended place of a throw-away copy."""
    seen: dict[str, Tensor] = {}
    handles = [
        place.register_forward_hook(_noting(seen, host_path(network, path)))
        for path, place in attended_places(network).items()
    ]
    network(x)
    for handle in handles:
        handle.remove()
    return seen


def _noting(seen: dict[str, Tensor], path: str) -> Any:
    def hook(_module: nn.Module, _args: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            seen[path] = output.clone()

    return hook


def _close(some: Tensor, others: Tensor) -> bool:
    return some.shape == others.shape and bool((some - others).abs().max() <= 1e-3 * others.abs().max())
