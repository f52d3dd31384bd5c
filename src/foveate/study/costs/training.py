"""How long one training step takes: forward, backward, and a step of SGD with momentum."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from foveate.errors import FoveateError
from foveate.study.costs.attempt import attempt, refusing
from foveate.study.costs.inputs import CONTIGUOUS, Inputs, copied, laid_out, repeated
from foveate.study.costs.side_by_side import Row, side_by_side

Loss = Callable[[nn.Module, Inputs], Tensor]


def mean_square(network: nn.Module, inputs: Inputs) -> Tensor:
    """The mean square of all that a network returns: a loss for any network, and as cheap as one of a task.

    Raises:
        FoveateError: If it returns no floating-point tensor.

    Example:
        >>> float(mean_square(nn.Identity(), (torch.full((1, 2), 3.0),)))
        9.0
    """
    leaves = [leaf for leaf in tree_leaves(network(*inputs)) if isinstance(leaf, Tensor) and leaf.is_floating_point()]
    if not leaves:
        raise FoveateError("the network returns no floating-point tensor to make a loss of")
    return torch.stack([leaf.float().square().mean() for leaf in leaves]).sum()


def detection_loss(network: nn.Module, inputs: Inputs) -> Tensor:
    """The losses of a detector of torchvision, which in training takes boxes too: one in the middle of each image."""
    images: list[Tensor] = inputs[0]
    targets = [
        {
            "boxes": torch.tensor([[w / 4, h / 4, 3 * w / 4, 3 * h / 4]], device=image.device),
            "labels": torch.ones(1, dtype=torch.int64, device=image.device),
        }
        for image in images
        for h, w in [image.shape[-2:]]
    ]
    return torch.stack([loss.float() for loss in network(images, targets).values()]).sum()


def step_of(network: nn.Module, inputs: Inputs, loss: Loss) -> Callable[[], None]:
    """One training step as a call: the arithmetic of SGD with momentum, at a learning rate of 0.

    So weights stay, and every step does the same work.
    """
    network.train()
    trained = [one for one in network.parameters() if one.requires_grad]
    if not trained:
        raise FoveateError("no parameter of this network is trainable, so there is no training step")
    optimizer = torch.optim.SGD(trained, lr=0.0, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(network, inputs).backward()
        optimizer.step()

    return step


def time_steps(
    networks: Mapping[str, nn.Module],
    example: Inputs,
    *,
    batch: int,
    loss: Loss,
    baseline: str,
    rounds: int,
    seconds: float,
    device: torch.device,
) -> tuple[dict[str, Row], dict[str, Any]]:
    """Time training steps of networks in turn, eager, contiguous.

    Args:
        networks: By the arm's name; copies of them are trained.
        example: One sample.
        batch: Samples a step.
        loss: From a network and its inputs.
        baseline: The arm whose duration is 1.
        rounds: See :func:`~foveate.study.costs.side_by_side.side_by_side`, as for the rest and what is returned.
        seconds: How long it may take, about.
        device: Where.
    """
    inputs = laid_out(repeated(example, batch), CONTIGUOUS, device)
    steps: dict[str, Callable[[], object]] = {}
    for name, network in networks.items():
        step, why = attempt(lambda net=network: step_of(copied(net, CONTIGUOUS, device), inputs, loss))
        steps[name] = step or refusing(why)
    rows, run = side_by_side(steps, baseline=baseline, rounds=rounds, seconds=seconds, device=device)
    return {name: {"batch": batch, **row} for name, row in rows.items()}, {"batch": batch, **run}
