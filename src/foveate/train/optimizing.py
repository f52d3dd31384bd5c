"""What learns, how fast, and what is not decayed."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from foveate.errors import FoveateError
from foveate.surgery import freeze_host, parameter_groups
from foveate.train.recipe import Recipe


def optimizer_of(network: nn.Module, recipe: Recipe, new: tuple[str, ...], batches: int) -> dict[str, Any]:
    """An optimizer with a learning rate for each group of parameters, and a schedule for all of them.

    Args:
        network: What learns.
        recipe: How.
        new: Names of parameters that were not in its weights.
        batches: How many an epoch has.
    """
    groups = parameter_groups(
        network,
        lr=recipe.learning_rate,
        attention_lr=recipe.learning_rate * recipe.attention_rate,
        weight_decay=recipe.weight_decay,
    )
    if recipe.attention_decay is not None:
        for group in groups:
            if group["name"] == "attention":
                group["weight_decay"] = recipe.attention_decay
    groups = _new_apart(network, groups, new, recipe.learning_rate * recipe.new_rate)
    made = (
        torch.optim.AdamW(groups, lr=recipe.learning_rate)
        if recipe.optimizer == "adamw"
        else torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum)
    )
    steps = -(-batches // recipe.accumulate) * recipe.epochs
    schedule = torch.optim.lr_scheduler.LambdaLR(made, lambda step: recipe.rate(step, steps))
    return {"optimizer": made, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def freeze_known(network: nn.Module, new: tuple[str, ...]) -> None:
    """Stop training what was in the host's weights; attention and new layers go on.

    Raises:
        FoveateError: If nothing would learn.
    """
    freeze_host(network)
    for name, parameter in network.named_parameters():
        if name in new:
            parameter.requires_grad_(True)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise FoveateError("nothing would learn while the host is frozen: frozen_epochs needs attention, or a new head")


def _new_apart(
    network: nn.Module, groups: list[dict[str, Any]], new: tuple[str, ...], rate: float
) -> list[dict[str, Any]]:
    """The same groups, with the parameters named new in groups of their own."""
    apart = {id(parameter) for name, parameter in network.named_parameters() if name in set(new)}
    found: list[dict[str, Any]] = []
    for group in groups:
        for name, lr, inside in ((group["name"], group["lr"], False), (f"{group['name']}_new", rate, True)):
            parameters = [one for one in group["params"] if (id(one) in apart) is inside]
            if parameters:
                found.append({**group, "name": name, "lr": lr, "params": parameters})
    return found
