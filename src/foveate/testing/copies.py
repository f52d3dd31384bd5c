"""Checks of what survives: copying, saving, building elsewhere, running again."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from foveate.testing.expect import expect, expect_finite
from foveate.testing.subject import Subject, wake
from foveate.testing.watch import Operations

# Nondeterministic on CUDA with no deterministic form (torch.use_deterministic_algorithms lists them): on the CPU
# they run, and so a check there must know them by name.
NONDETERMINISTIC = frozenset(
    {
        *("_adaptive_avg_pool2d_backward", "_adaptive_avg_pool3d_backward", "avg_pool3d_backward"),
        *("adaptive_max_pool2d_backward", "adaptive_max_pool3d_backward"),
        *("fractional_max_pool2d_backward", "max_unpool2d", "grid_sampler_2d_backward", "histc"),
        *("reflection_pad1d_backward", "reflection_pad2d_backward", "reflection_pad3d_backward"),
    }
)


def copies_agree(subject: Subject) -> None:
    """A deep copy, a pickled one, and a fresh module with the state of this one give bit-equal outputs."""
    for started in (False, True):
        original = _ready(subject, started, seed=0)
        fresh = _ready(subject, started, seed=1)
        fresh.load_state_dict(original.state_dict(), strict=True)
        copies = {
            "a deep copy": copy.deepcopy(original),
            "a pickled copy": pickle.loads(pickle.dumps(original)),  # noqa: S301 (our own bytes, a line ago)
            "a fresh module with its state_dict": fresh,
        }
        expected = _output(original, subject.input())
        for what, copied in copies.items():
            y = _output(copied, subject.input())
            expect(torch.equal(y, expected), f"{what} gives another output than the original")


def builds_on_meta(subject: Subject) -> None:
    """It can be built and run on the meta device, then be given memory and a state, or initialise itself."""
    with torch.device("meta"):
        module = subject.build().eval()
        x = torch.empty(2, subject.channels, *subject.size)
        y = _output(module, x)
    for name, tensor in _tensors(module):
        expect(tensor.is_meta, f"{name} is not on the meta device that it was built on")
    expect(y.is_meta and y.shape == x.shape, f"on the meta device the output has the shape {tuple(y.shape)}")

    reference = subject.awake(dtype=torch.float32)
    module.to_empty(device="cpu")
    _spoil(module)
    module.load_state_dict(reference.state_dict(), strict=True)
    expect(
        torch.equal(_output(module, subject.input()), _output(reference, subject.input())),
        "built on the meta device and given a state_dict, it gives another output: part of its state is not in it",
    )
    reset: Callable[[], None] | None = getattr(module, "reset_parameters", None)
    if reset is not None:
        _spoil(module)
        with torch.random.fork_rng(devices=[]):
            reset()
        for name, tensor in _tensors(module):
            expect_finite(tensor, f"{name}, which reset_parameters() leaves uninitialised,")


def runs_deterministically(subject: Subject) -> None:
    """With deterministic algorithms it runs, and twice the same, outputs and gradients to the bit."""
    runs: list[list[Tensor]] = []
    with _deterministic():
        for _ in range(2):
            module = subject.awake(dtype=torch.float32).train()
            x = subject.input().requires_grad_()
            with Operations() as operations:
                y = module(x.clone())
                y.square().sum().backward()
            banned = sorted(operations.names & NONDETERMINISTIC)
            expect(not banned, f"on CUDA, deterministic algorithms refuse {' and '.join(banned)}")
            leaves = [x, *module.parameters()]
            runs.append([y.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)])
    for values, again in zip(*runs, strict=True):
        expect_finite(values, "with uninitialised memory filled with NaN, a result")
        expect(torch.equal(values, again), "two runs on the same input differ")


def _ready(subject: Subject, started: bool, seed: int) -> nn.Module:
    module = subject.build(seed=seed)
    start: Callable[[], None] | None = getattr(module, "start_at_identity", None)
    if started and start is not None:
        start()
    return wake(module).eval()


def _output(module: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return module(x)


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _spoil(module: nn.Module) -> None:
    with torch.no_grad():
        for _, tensor in _tensors(module):
            if tensor.is_floating_point():
                tensor.fill_(float("nan"))


@contextmanager
def _deterministic() -> Generator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    only_warns = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=only_warns)
