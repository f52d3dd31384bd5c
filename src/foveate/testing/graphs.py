"""Checks of what can be captured: torch.compile, torch.export, ONNX."""

from __future__ import annotations

import copy
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from foveate.errors import MissingExtraError
from foveate.testing.expect import ContractError, expect, expect_close
from foveate.testing.subject import Size, Subject, fixed_size, smallest


def compiles(subject: Subject) -> None:
    """torch.compile captures it whole, with the same output and gradients."""
    agrees_compiled(subject, backend="aot_eager")


def agrees_compiled(subject: Subject, backend: str) -> None:
    """Compare a compiled module with itself, in float64: output, gradients, and the state after training.

    Args:
        subject: What to compile.
        backend: ``"aot_eager"`` captures only; ``"inductor"`` also generates code, for which it needs a C++ compiler.

    Raises:
        ContractError: If they differ.
    """
    for training in (False, True):
        eager = subject.awake().train(training)
        twin = copy.deepcopy(eager)
        torch.compiler.reset()
        try:
            compiled = torch.compile(twin, fullgraph=True, backend=backend)
            outputs = [_backward(run, subject) for run in (eager, compiled)]
        finally:
            torch.compiler.reset()
        mode = "training" if training else "evaluation"
        for what, expected, actual in zip(("output", "input's gradient"), *outputs, strict=True):
            expect_close(actual, expected, f"compiled, the {what} in {mode} mode")
        for (name, one), (_, other) in zip(eager.named_parameters(), twin.named_parameters(), strict=True):
            if one.grad is not None and other.grad is not None:
                expect_close(other.grad, one.grad, f"compiled, the gradient of {name} in {mode} mode")
            else:
                expect(one.grad is other.grad, f"compiled, {name} gains or loses its gradient")
        for name, buffer in eager.named_buffers():
            expect_close(twin.get_buffer(name), buffer, f"compiled, {name} after a step in {mode} mode")


def exports(subject: Subject) -> None:
    """torch.export gives a graph for any batch and, from the smallest that it names, any height and width."""
    module = subject.awake()
    dynamic = {0: Dim.DYNAMIC} if fixed_size(module) else {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    example = subject.input(3, size=_example(module), dtype=torch.float64)
    graph = torch.export.export(module, (example,), dynamic_shapes=(dynamic,)).module()
    for batch, size in _shapes(module):
        x = subject.input(batch, size=size, dtype=torch.float64)
        where = f"a batch of {batch} at {size[0]}×{size[1]}"
        expect_close(graph(x.clone()), module(x.clone()), f"the exported graph's output for {where}")
    least = smallest(module)
    if fixed_size(module) is None and least > 1:
        less = least - 1
        try:
            graph(subject.input(2, size=(less, less), dtype=torch.float64))
        except (AssertionError, RuntimeError):
            return
        raise ContractError(f"it says that an exported graph needs {least}, but the graph accepts {less}")


def exports_to_onnx(subject: Subject) -> None:
    """ONNX runs it in onnxruntime, at any batch and, from the smallest that it names, any height and width."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "onnx")
    import onnxruntime

    module = subject.awake(dtype=torch.float32)
    dynamic: dict[int, Any] = {0: Dim("batch", min=1)}
    if fixed_size(module) is None:
        dynamic |= {2: Dim("height", min=smallest(module)), 3: Dim("width", min=smallest(module))}
    example = subject.input(3, size=_example(module))
    program = torch.onnx.export(module, (example,), dynamo=True, dynamic_shapes=(dynamic,), verbose=False)
    if program is None:
        raise ContractError("torch.onnx.export returns nothing")
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        program.model_proto.SerializeToString(), quiet, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    exact = subject.awake()
    for batch, size in _shapes(module):
        x = subject.input(batch, size=size)
        with torch.no_grad():
            eager, truth = module(x.clone()).double(), exact(x.double())
        actual = torch.from_numpy(session.run(None, {name: x.numpy()})[0]).double()
        # another order of the same float32 arithmetic: a few times as far from the truth as eager itself, and a few
        # roundings of the result
        rounding = 8 * ((eager - truth).abs().max().item() + torch.finfo(torch.float32).eps)
        expect_close(actual, truth, f"the output of ONNX for a batch of {batch} at {size[0]}×{size[1]}", rounding)


def _backward(module: Callable[[Tensor], Tensor], subject: Subject) -> tuple[Tensor, Tensor]:
    x = subject.input(dtype=torch.float64).requires_grad_()
    y = module(x.clone())
    y.square().sum().backward()
    return y.detach(), x.grad if x.grad is not None else torch.zeros_like(x)


def _example(module: nn.Module) -> Size:
    """A size to trace at, that looks like no other number in sight."""
    return fixed_size(module) or (smallest(module) + 10, smallest(module) + 12)


def _shapes(module: nn.Module) -> list[tuple[int, Size]]:
    """Batches and sizes other than the traced one."""
    tied_to = fixed_size(module)
    if tied_to:
        return [(1, tied_to), (5, tied_to)]
    least = smallest(module)
    return [(1, (least, least)), (2, (least + 1, least + 4)), (5, (least + 13, least + 3))]
