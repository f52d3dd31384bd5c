"""Checks of what a mechanism shows: that its maps are what it does."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from foveate.attention import Attention, Gates, Map, Relation, Transform, Update, maps_of
from foveate.fusion import Fusion
from foveate.replacement import Replacement
from foveate.testing.expect import ContractError, expect, expect_close
from foveate.testing.paired import Paired
from foveate.testing.subject import Subject

GATE_AXES = {"c": 1, "h": 2, "w": 3}
_FREE = (Update, Transform, Fusion, Replacement)  # what they do with their weights is their own affair


def map_is_applied(subject: Subject) -> None:
    """What passes through a map is what acts: put other weights there, and the output follows.

    A gate of ones returns its input, one of zeros nothing, and halves add up to the whole; several gates of a step do
    so together, and each does something. An affinity mixes with the matrix that it shows. Whatever else a mechanism
    does with its weights, of one map or of two, it does something else with their mean.
    """
    module = subject.awake()
    x = subject.input(2, dtype=torch.float64)
    for path, point in _maps(module).items():
        step = _owner(module, path)
        seen = _run(module, x, step, point)
        if _relates(point):
            _check_relation(step, seen, point, path)
        elif isinstance(step, Gates):
            _check_gates(step, seen, point, path)
        elif isinstance(step.mechanism if isinstance(step, Paired) else step, _FREE):
            _check_weights(step, seen, point, path)
        else:
            _check_gate(step, seen, point, path)


def map_varies_along_its_axes(subject: Subject) -> None:
    """The weights depend on the sample, vary along every axis that the map names, and along no other."""
    size = (24, 32)  # a neighbourhood of 8 leaves 3×4 weights
    module = subject.awake(size=size)
    for path, point in _maps(module).items():
        seen = _run(module, subject.input(3, size=size, dtype=torch.float64), module, point)
        if _relates(point):
            weights: Tensor = seen.weights.dense()
            dims = {"what is looked at": 1, "what looks": 2}
            named = set(dims)
        else:
            weights, named = seen.weights, set(point.axes)
            expect(bool(named), f"{path} names no axes; a gate has c, h and w")
            dims = GATE_AXES if named <= GATE_AXES.keys() else {axis: i for i, axis in enumerate(point.axes, 1)}
            expect(
                weights.dim() == (4 if dims is GATE_AXES else 1 + len(dims)),
                f"the weights at {path} have {weights.dim()} dimensions, which are not those of the axes {point.axes}",
            )
        expect(_varies(weights, 0), f"the weights at {path} are the same for every sample: they attend to nothing")
        for axis, dim in dims.items():
            varies = _varies(weights, dim)
            expect(varies or axis not in named, f"the weights at {path} do not vary along {axis}, as the map says")
            expect(not varies or axis in named, f"the weights at {path} vary along {axis}, which the map does not name")


@dataclass
class _Seen:
    """One run of a step: what came in, passed through the map, and left."""

    x: Tensor
    y: Tensor
    weights: Any


def _maps(module: nn.Module) -> dict[str, Map]:
    maps = maps_of(module)
    expect(bool(maps), "it has no foveate.attention.Map: nobody can see its weights")
    return maps


def _relates(point: Map) -> bool:
    return any("->" in axis for axis in point.axes)


def _owner(module: nn.Module, path: str) -> nn.Module:
    """The step that a map belongs to: the innermost attention around it, or the whole module."""
    parents = path.split(".")[:-1]
    around = [module.get_submodule(".".join(parents[:end])) for end in range(len(parents), -1, -1)]
    return next((parent for parent in around if isinstance(parent, Attention)), module)


@contextmanager
def _passing(point: Map, change: Callable[[Any], Any]) -> Generator[None]:
    """Inside, what passes through a map is changed on its way."""

    def changed(module: nn.Module, inputs: Any, weights: Any) -> Any:  # noqa: ARG001
        return change(weights)

    handle = point.register_forward_hook(changed)
    try:
        yield
    finally:
        handle.remove()


def _run(module: nn.Module, x: Tensor, step: nn.Module, point: Map) -> _Seen:
    entered: list[Tensor] = []
    left: list[Tensor] = []
    passed: list[Any] = []

    def enter(module: nn.Module, inputs: Any) -> None:  # noqa: ARG001
        entered.append(inputs[0].clone())

    def leave(module: nn.Module, inputs: Any, output: Any) -> None:  # noqa: ARG001
        left.append(output.clone())

    def show(weights: Any) -> None:
        passed.append(weights.clone() if isinstance(weights, Tensor) else weights)

    handles = [step.register_forward_pre_hook(enter), step.register_forward_hook(leave)]
    try:
        with torch.no_grad(), _passing(point, show):
            module(x.clone())
    finally:
        for handle in handles:
            handle.remove()
    expect(len(passed) == 1, f"{len(passed)} sets of weights pass through a map in one run, where one is due")
    return _Seen(entered[0], left[0], passed[0])


def _with(step: nn.Module, point: Map, x: Tensor, weights: Tensor | Relation) -> Tensor:
    with torch.no_grad(), _passing(point, lambda _: weights):
        return step(x.clone())


def _check_gate(step: nn.Module, seen: _Seen, point: Map, path: str) -> None:
    weights = seen.weights
    if not isinstance(weights, Tensor) or weights.dim() != 4:
        raise ContractError(f"through {path} must pass a tensor (b, c or 1, h or 1, w or 1), not {type(weights)}")
    ones, zeros = torch.ones_like(weights), torch.zeros_like(weights)
    expect_close(_with(step, point, seen.x, ones), seen.x, f"with weights of one at {path} the output, not the input,")
    expect_close(_with(step, point, seen.x, zeros), 0 * seen.x, f"with weights of zero at {path} the output")
    share = torch.rand(weights.shape, generator=torch.Generator().manual_seed(0), dtype=weights.dtype)
    parts = [_with(step, point, seen.x, part * weights) for part in (share, 1 - share)]
    expect_close(parts[0] + parts[1], seen.y, f"the sum of the outputs for two halves of the weights at {path}")
    if all(length in (1, full) for length, full in zip(weights.shape, seen.x.shape, strict=True)):
        expect_close(seen.x * weights, seen.y, f"the input times the weights at {path}, compared with the output,")


def _check_gates(step: nn.Module, seen: _Seen, point: Map, path: str) -> None:
    def together(weights: Tensor) -> Tensor:
        with ExitStack() as stack:
            for other in maps_of(step).values():
                if other is not point:
                    stack.enter_context(_passing(other, lambda w: torch.full_like(w, float(weights.flatten()[0]))))
            return _with(step, point, seen.x, weights)

    ones, zeros = torch.ones_like(seen.weights), torch.zeros_like(seen.weights)
    expect_close(together(ones), seen.x, f"with weights of one at {path} and beside it the output, not the input,")
    expect_close(together(zeros), 0 * seen.x, f"with weights of zero at {path} and beside it the output")
    _check_weights(step, seen, point, path)


def _check_weights(step: nn.Module, seen: _Seen, point: Map, path: str) -> None:
    same = _with(step, point, seen.x, seen.weights)
    expect_close(same, seen.y, f"the output with the same weights at {path}")
    dims = tuple(range(1, seen.weights.dim()))
    mean = seen.weights.mean(dims, keepdim=True).expand_as(seen.weights)
    expect(
        not torch.equal(_with(step, point, seen.x, mean.clone()), seen.y),
        f"with the mean of the weights at {path} in their place nothing changes: what it shows is not what it does",
    )


def _check_relation(step: nn.Module, seen: _Seen, point: Map, path: str) -> None:
    dense: Tensor = seen.weights.dense()
    size: tuple[int, ...] = seen.weights.size
    positions = math.prod(size)
    expect(
        dense.shape[1:] == (positions, positions),
        f"dense() at {path} has the shape {tuple(dense.shape)} for {'×'.join(map(str, size))} of them",
    )
    mixed = _with(step, point, seen.x, _showing(seen.weights, dense))
    expect_close(mixed, seen.y, f"the output of mixing with what dense() at {path} shows")
    uniform = _with(step, point, seen.x, _showing(seen.weights, torch.full_like(dense, 1 / positions)))
    expect(
        not torch.equal(uniform, seen.y), f"uniform weights at {path} change nothing: what it shows is not what it does"
    )


def _showing(relation: Relation, weights: Tensor) -> Relation:
    """A copy of a relation, of its type for whoever looks, that mixes with the given matrix and nothing else."""

    def mix(relation: Relation, value: Tensor) -> Tensor:
        if len(relation.size) == 1:  # of channels
            return (weights.transpose(1, 2) @ value.flatten(2)).reshape(value.shape)
        return (value.flatten(2) @ weights).reshape(value.shape)

    copied = copy.copy(relation)
    # around __setattr__, which frozen dataclasses refuse
    object.__setattr__(copied, "__class__", type("Shown", (type(relation),), {"__slots__": (), "mix": mix}))
    return copied


def _varies(weights: Tensor, dim: int) -> bool:
    spread = (weights.amax(dim) - weights.amin(dim)).max().item()
    return spread > 1e-9 * weights.abs().max().item()
