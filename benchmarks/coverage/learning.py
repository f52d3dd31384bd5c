"""Two steps of learning: does a gradient reach every parameter of attention?"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from foveate.surgery.attach import attention_parameters
from foveate.surgery.attended import ATTENTION, attended_places, host_path

from . import trees
from .attachment import Attachment
from .hosts import Host


def gradients(made: Attachment) -> None:
    """Within two steps of SGD every attention parameter has a gradient that is not zero."""
    untouched = ""
    for mode in made.host.modes:
        model = copy.deepcopy(made.model)
        try:
            without = _learn(made.host, model, mode)
        except (RuntimeError, ValueError) as error:  # a norm that refuses a batch of one value
            untouched += f"; in {mode} {type(error).__name__}: {error}"
            continue
        alone = _of_one_position(model, without)
        without = [name for name in without if name not in alone]
        made.trained = _moved(model)
        made.acted = made.host.run(made.trained)
        if alone:
            made.notes["without gradient on maps of one position"] = f"{len(alone)} parameters, which have none there"
        made.notes["gradients in"] = mode + untouched.replace("; in", ", because in")
        if not without:
            break
        untouched += f"; in {mode} no gradient for {', '.join(without[:3])} ({len(without)} in all)"
    else:
        raise AssertionError(untouched.removeprefix("; "))


def _learn(host: Host, model: nn.Module, mode: str) -> list[str]:
    """Two steps; the names of the attention parameters that had no gradient in either."""
    parameters = dict(attention_parameters(model))
    moved: set[str] = set()
    for _ in range(2):
        loss = _loss(host.learn_from(model, mode))
        found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        for (name, parameter), gradient in zip(parameters.items(), found, strict=True):
            if gradient is not None and bool(gradient.isfinite().all()) and bool((gradient != 0).any()):
                moved.add(name)
                with torch.no_grad():  # a rate that moves the largest element by 0.1, whatever the loss's scale
                    parameter -= 0.1 * gradient / gradient.abs().amax()
    return [name for name in parameters if name not in moved]


def _of_one_position(model: nn.Module, names: list[str]) -> set[str]:
    """Which parameters relate positions of a map that has only one, where every weight is one and learns nothing."""
    single = {
        f"{host_path(model, path)}.{ATTENTION}.{key}."
        for path, place in attended_places(model).items()
        for key, attention in place.foveate.items()
        if getattr(attention, "mask", None) == (1, 1)
    }
    return {name for name in names if name.startswith(tuple(single)) and ".attention" in name} if single else set()


def _loss(output: Any) -> Tensor:
    random = torch.Generator().manual_seed(2)
    losses = [
        (x * torch.randn(x.shape, generator=random)).sum() / x.numel() ** 0.5
        for x in trees.floats(output)
        if x.requires_grad
    ]
    if not losses:
        raise RuntimeError("no output has a gradient")
    return torch.stack(losses).sum()


def _moved(model: nn.Module) -> nn.Module:
    """The network with attention that acts at every place, whether it learned there or not."""
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for _, parameter in attention_parameters(model):
            parameter += 0.05 * torch.randn(parameter.shape, generator=random) + 0.05
    return model.eval()
