"""Checks of what learns, and how."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from foveate.attention import Attention, Sequence
from foveate.testing.expect import ContractError, expect, expect_close
from foveate.testing.paired import Paired
from foveate.testing.shifts import taken_away
from foveate.testing.subject import Subject
from foveate.testing.watch import Operations

# What PyTorch computes a maximum over an axis or a window with.
MAXIMA = frozenset(
    {
        *("max", "amax", "aminmax", "topk", "sort", "cummax"),
        *("max_pool2d_with_indices", "adaptive_max_pool2d", "_adaptive_max_pool2d", "max_pool3d_with_indices"),
    }
)


# How many roundings are drawn, and by how much a gradient must exceed the largest: digits that rounding leaves alone.
DRAWS = 4
CLEAR = 100.0


def gradients_are_exact(subject: Subject) -> None:
    """Gradients with respect to the input and every parameter equal finite differences, in float64."""
    for training in (False, True):
        module = subject.awake().train(training)
        names = [name for name, _ in module.named_parameters()]

        def run(x: Tensor, *values: Tensor, module: nn.Module = module, names: list[str] = names) -> Tensor:
            # every run begins at the same state: a temperature that has fallen is another function
            state = {name: buffer.clone() for name, buffer in module.named_buffers()}
            return functional_call(module, {**state, **dict(zip(names, values, strict=True))}, (x.clone(),))

        leaves = [subject.input(2, dtype=torch.float64), *(p.detach().clone() for p in module.parameters())]
        leaves = [leaf.requires_grad_() for leaf in leaves]
        # a step of 1e-8 seldom crosses the kink of a ReLU, and 1e-16 / 1e-8 is far below gradcheck's tolerance of 1e-5
        torch.autograd.gradcheck(run, leaves, eps=1e-8, fast_mode=True)


def every_parameter_learns(subject: Subject) -> None:
    """Every parameter gets a gradient in every training step: none is unused, and none is stuck.

    A bias that what follows takes away has no gradient but rounding; it is let off where that is seen to be so.
    """
    x = subject.input(16, dtype=torch.float64)
    learning: set[str] = set()
    for training in (True, False):
        module = subject.awake().train(training)
        if training:
            learning = moving(module, x)
        else:
            _loss(module, x.clone().requires_grad_()).backward()
        for name, parameter in _trainable(module).items():
            expect(
                parameter.grad is not None,
                f"{name} has no part in the output: distributed training would wait for its gradient forever",
            )
    module = subject.awake()
    stuck = _trainable(module).keys() - learning
    stuck = sorted(stuck - taken_away(module, x, stuck).keys())
    expect(
        not stuck,
        f"the gradient of {', '.join(stuck)} is zero or no more than rounding, with no parameter at its initial value",
    )


def starts_as_identity(subject: Subject) -> None:
    """After ``start_at_identity`` the output is bit-equal to the input, and all parameters move within two steps.

    Of two maps it is bit-equal to what the network has without the mechanism: their sum, or the first.
    """
    for seed in range(5):  # a ReLU that is dead from the start may need an unlucky one
        module = subject.build(seed=seed)
        start: Callable[[], None] | None = getattr(module, "start_at_identity", None)
        if start is None:
            raise ContractError("it has no start_at_identity(): attached to a network, it changes what that does")
        start()
        for training in (True, False):
            x = subject.input(seed=seed)
            y = module.train(training)(x.clone())
            before, what = (module.identity(x), "identity") if isinstance(module, Paired) else (x, "input")
            expect(
                torch.equal(before, y),
                f"after start_at_identity() the output is not bit-equal to the {what} "
                f"in {'training' if training else 'evaluation'} mode",
            )
        stuck = stuck_at_start(module.double().train(), subject.input(8, dtype=torch.float64, seed=seed))
        expect(
            not stuck, f"started at the identity, {', '.join(stuck)} gets no gradient in the first two training steps"
        )


def ties_go_to_the_first(subject: Subject) -> None:
    """Where several elements are the maximum, the first one gets the gradient, as in the authors' code.

    At a tie the gradient must be the limit of gradients without one: of features that fall by ever less from the
    first element to the last. A step whose operations include no maximum has nothing to show.
    """
    module = subject.awake()
    steps = {
        path: step
        for path, step in module.named_modules()
        if isinstance(step, Attention) and not isinstance(step, Sequence)
    }
    for path, step in (steps or {"": module}).items():
        with Operations() as operations, torch.no_grad():
            step(subject.input(2, dtype=torch.float64))
        if not operations.names & MAXIMA:
            continue
        x = subject.input(2, dtype=torch.float64)
        channels, (height, width) = x.shape[1], subject.size
        over = {
            "positions": (x[:, :, :1, :1], _falling(height * width).reshape(1, 1, height, width)),
            "channels": (x[:, :1], _falling(channels).reshape(1, channels, 1, 1)),
        }
        for what, (level, falling) in over.items():
            tied = level.expand_as(x)
            # 1e-8 moves a smooth gradient by about as much, and 1/42 or 1/16 of a gradient is far above 1e-5
            at_tie, nearby = (_gradient(step, start) for start in (tied, tied + 1e-8 * falling))
            expect_close(
                at_tie / nearby.abs().max(),
                nearby / nearby.abs().max(),
                f"the gradient{f' of {path}' if path else ''} where all {what} are equal, compared with the one "
                "where the first is larger by a trace,",
                1e-5,
            )


def stuck_at_start(module: nn.Module, x: Tensor) -> list[str]:
    """The parameters that two optimiser steps leave without a gradient, but for biases that are taken away."""
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1)
    moved: set[str] = set()
    for _ in range(2):
        optimiser.zero_grad()
        moved |= moving(module, x)
        optimiser.step()
    stuck = _trainable(module).keys() - moved
    return sorted(stuck - taken_away(module, x, stuck).keys())


def moving(module: nn.Module, x: Tensor) -> set[str]:
    """The parameters with a gradient that is more than rounding; the module is in float64, and keeps its gradients.

    Where terms cancel, what is left of them is rounding, of no fixed size. It is measured: the same gradient in
    float32 is off by about ``2**29`` times as much. One draw may be lucky, and so features are rounded in a few ways.

    Example:
        >>> layers = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)).double()
        >>> sorted(moving(layers, torch.randn(3, 2, 4, 4, dtype=torch.float64)))
        ['0.weight', '1.bias', '1.weight']
    """
    coarse, fine = torch.finfo(torch.float32).eps, torch.finfo(torch.float64).eps
    generator = torch.Generator().manual_seed(2)
    before = copy.deepcopy(module)
    _loss(module, x.clone().requires_grad_()).backward()  # a mechanism may have no parameters
    gradients = {name: p.grad for name, p in _trainable(module).items() if p.grad is not None}
    off = dict.fromkeys(gradients, 0.0)
    for _ in range(DRAWS):
        rounded = x * (1 + coarse * torch.randn(x.shape, generator=generator, dtype=torch.float64))
        rough = copy.deepcopy(before).float()
        _loss(rough, rounded.float().requires_grad_()).backward()
        for name, parameter in _trainable(rough).items():
            if name in gradients and parameter.grad is not None:
                off[name] = max(off[name], float((parameter.grad - gradients[name]).abs().max()))
    return {name for name, g in gradients.items() if float(g.abs().max()) > CLEAR * off[name] * fine / coarse}


def _falling(count: int) -> Tensor:
    return torch.linspace(1, 0, count, dtype=torch.float64)


def _gradient(module: nn.Module, at: Tensor) -> Tensor:
    x = at.clone().requires_grad_()
    return torch.autograd.grad(_loss(module, x), x)[0]


def _loss(module: nn.Module, x: Tensor) -> Tensor:
    y = module(x.clone())
    generator = torch.Generator().manual_seed(1)
    return (y * torch.randn(y.shape, generator=generator, dtype=torch.float64)).sum() / len(y)


def _trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
