"""Checks of what happens in half precision."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from foveate.attention import maps_of
from foveate.testing.expect import expect, expect_finite
from foveate.testing.subject import Subject
from foveate.testing.watch import Operations

HALVES = (torch.bfloat16, torch.float16)
LARGE = 1e4
# What loses its meaning in half precision: an exponential leaves float16's range at 11.1.
EXPONENTIALS = frozenset({"_softmax", "_safe_softmax", "_log_softmax", "exp", "logsumexp"})


def survives_autocast(subject: Subject) -> None:
    """Under autocast everything stays finite, for features of ordinary size and 10,000 times as large.

    The latter in bfloat16 always, in float16 where no intermediate value of the float32 computation leaves its range.
    """
    for dtype in HALVES:
        for training in (False, True):
            for arriving in (torch.float32, dtype):
                module = subject.awake(dtype=torch.float32).train(training)
                x = subject.input().clamp(-3, 3)
                where = f"in {'training' if training else 'evaluation'} mode under autocast to {_word(dtype)}"
                leaf = x.to(arriving).requires_grad_()
                y = _under_autocast(module, leaf, dtype)
                expect_finite(y, f"the output {where}")
                y.float().sum().backward()
                for name, tensor in {"the input": leaf, **dict(module.named_parameters())}.items():
                    if tensor.grad is not None:
                        expect_finite(tensor.grad, f"the gradient of {name} {where}")
                if dtype is torch.bfloat16 or _largest_inside(module, LARGE * x) < torch.finfo(dtype).max / 2:
                    with torch.no_grad():
                        y = _under_autocast(module, (LARGE * x).to(arriving), dtype)
                    expect_finite(y, f"the output {where} for features of {LARGE:g} times the usual size")


def keeps_softmax_precise(subject: Subject) -> None:
    """Softmax, exponentials and the weights of affinities stay in float32 when the features are in half precision."""
    for dtype in HALVES:
        for converted in (False, True):
            module = subject.awake(dtype=dtype if converted else torch.float32)
            where = f"{'converted' if converted else 'under autocast'} to {_word(dtype)}"
            with Operations() as operations, _relations(module) as relations, torch.no_grad():
                if converted:
                    module(subject.input(dtype=dtype))
                else:
                    _under_autocast(module, subject.input(dtype=dtype), dtype)
            for name, results in operations.seen:
                rough = name in EXPONENTIALS and any(result.dtype in HALVES for result in results)
                expect(not rough, f"{where}, {name.strip('_')} is computed in half precision")
            for path, weights in relations.items():
                expect(weights.dtype not in HALVES, f"{where}, the weights at {path} are in half precision")


def keeps_dtype(subject: Subject) -> None:
    """Converted to another floating-point type, it takes and returns features of that type."""
    for dtype in (torch.float64, torch.float32, *HALVES):
        with torch.no_grad():
            y = subject.awake(dtype=dtype)(subject.input(dtype=dtype))
        expect(y.dtype == dtype, f"converted to {_word(dtype)}, it returns {_word(y.dtype)}")


@contextmanager
def _relations(module: nn.Module) -> Generator[dict[str, Tensor]]:
    """The matrices that affinities show for what runs inside, by the path of their map."""
    shown: dict[str, Tensor] = {}
    paths: dict[nn.Module, str] = {
        point: path for path, point in maps_of(module).items() if any("->" in axis for axis in point.axes)
    }

    def show(point: nn.Module, inputs: Any, relation: Any) -> None:  # noqa: ARG001
        shown[paths[point]] = relation.dense()

    handles = [point.register_forward_hook(show) for point in paths]
    try:
        yield shown
    finally:
        for handle in handles:
            handle.remove()


def _under_autocast(module: nn.Module, x: Tensor, dtype: torch.dtype) -> Tensor:
    with torch.autocast("cpu", dtype=dtype):
        return module(x.clone())


def _largest_inside(module: nn.Module, x: Tensor) -> float:
    """The largest finite magnitude among everything that the float32 computation produces."""
    with Operations() as operations, torch.no_grad():
        module(x.clone())
    floats = [t for _, results in operations.seen for t in results if t.is_floating_point() and t.numel()]
    return max(t.abs().nan_to_num(posinf=0.0).max().item() for t in floats)


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
