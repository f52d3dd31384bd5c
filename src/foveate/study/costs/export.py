"""Whether a network leaves PyTorch: captured by ``torch.export``, and run by onnxruntime with the same numbers."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from foveate.errors import MissingExtraError
from foveate.measure import inference
from foveate.study.costs.attempt import attempt
from foveate.study.costs.elsewhere import elsewhere
from foveate.study.costs.inputs import CHANNELS_LAST, CONTIGUOUS, Inputs, copied, laid_out

TORCH_EXPORT, ONNX = "torch.export", "onnx"
WAYS = (TORCH_EXPORT, ONNX)
WORKS, DIFFERS, FAILS, UNKNOWN = "works", "differs", "fails", "unknown"
# Eager's own errors in several orders of the same arithmetic are a sample of what an order costs. Each is the largest
# over the outputs; where there are few outputs one may be small by luck, three hardly: were they normal, all three and
# eight times less than the fourth has a probability below (2 / π · 1 / 8)³ = 0.0005.
_ROUNDINGS = 8


def export_status(network: nn.Module, example: Inputs, *, limit: float) -> dict[str, dict[str, Any]]:
    """How each way out went, each in a process of its own, bounded in time.

    Args:
        network: The arm; a copy of it is exported, in evaluation mode, on the CPU, for inputs of the example's shape.
        example: One sample.
        limit: Seconds for each way.

    Returns:
        For ``"torch.export"`` and ``"onnx"`` the ``"status"``: ``"works"``, with numbers equal up to rounding;
        ``"differs"``, in numbers or what is returned; ``"fails"``; ``"unknown"`` where it could not be tried. The
        ``"reason"`` says why it does not work.
    """
    found: dict[str, dict[str, Any]] = {}
    for way in WAYS:
        told, why = attempt(lambda way=way: _elsewhere(network, example, way, limit))
        found[way] = told or {"status": UNKNOWN, "reason": why}
    return found


def no_status(why: str | None) -> dict[str, dict[str, Any]]:
    """What is known of a network whose export was not tried."""
    return {way: {"status": UNKNOWN, "reason": why} for way in WAYS}


def _elsewhere(network: nn.Module, example: Inputs, way: str, limit: float) -> dict[str, Any]:
    cpu = torch.device("cpu")
    twin = copied(network, CONTIGUOUS, cpu).eval()
    return elsewhere("export", limit=limit, network=twin, inputs=laid_out(example, CONTIGUOUS, cpu), way=way)


def export(network: nn.Module, inputs: Inputs, way: str) -> dict[str, Any]:
    """Export a network one way, run what came out, and compare; in this process.

    Args:
        network: In evaluation mode, on the CPU.
        inputs: What it takes.
        way: ``"torch.export"`` or ``"onnx"``.

    Returns:
        ``"status"`` and ``"reason"``.

    Raises:
        MissingExtraError: If what ONNX needs is not installed.

    Example:
        >>> export(nn.Conv2d(3, 8, 1).eval(), (torch.zeros(1, 3, 4, 4),), "torch.export")
        {'status': 'works', 'reason': None}
    """
    with inference(network):
        expected = _numbers(network(*_fresh(inputs)))
        # what ONNX needs is missing: that says nothing of the network
        if way == ONNX:
            _imported()
        run, why = attempt(lambda: (_captured if way == TORCH_EXPORT else _onnx)(network, inputs))
        if run is None:
            return {"status": FAILS, "reason": why}
        actual, why = attempt(lambda: _numbers(run(_fresh(inputs))))
        if actual is None:
            return {"status": FAILS, "reason": f"it was exported but does not run: {why}"}
        why = _difference(actual, expected, lambda: _rounding(network, inputs, expected))
    return {"status": WORKS if why is None else DIFFERS, "reason": why}


def _captured(network: nn.Module, inputs: Inputs) -> Callable[[Inputs], Any]:
    graph = torch.export.export(network, _fresh(inputs)).module()
    return lambda given: graph(*given)


def _onnx(network: nn.Module, inputs: Inputs) -> Callable[[Inputs], Any]:
    import onnxruntime

    try:
        program = torch.onnx.export(network, _fresh(inputs), dynamo=True, verbose=False)
    except Exception as error:
        raise (error.__cause__ or error) from None  # what was in the way stands behind a page of advice
    if program is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        program.model_proto.SerializeToString(), quiet, providers=["CPUExecutionProvider"]
    )
    names = [one.name for one in session.get_inputs()]

    def run(given: Inputs) -> list[Tensor]:
        leaves = [leaf.numpy() for leaf in tree_leaves(given) if isinstance(leaf, Tensor)]
        return [torch.from_numpy(one) for one in session.run(None, dict(zip(names, leaves, strict=True)))]

    return run


def _imported() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            __import__(package)
        except ImportError as error:
            raise MissingExtraError(package, "onnx") from error


def _fresh(inputs: Inputs) -> Inputs:
    return tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, inputs)


def _numbers(said: Any) -> list[Tensor]:
    """Every tensor that is returned, in order, in double precision."""
    return [leaf.detach().double() for leaf in tree_leaves(said) if isinstance(leaf, Tensor)]


def _difference(actual: list[Tensor], expected: list[Tensor], rounding: Callable[[], list[float]]) -> str | None:
    """In words how what came out differs from what was due; ``None`` if by rounding only."""
    shapes = [[tuple(one.shape) for one in found] for found in (actual, expected)]
    if shapes[0] != shapes[1]:
        return f"it returns tensors of the shapes {shapes[0]} where the network returns {shapes[1]}"
    if all(torch.equal(one, other) for one, other in zip(actual, expected, strict=True)):
        return None
    for number, (one, other, allowed) in enumerate(zip(actual, expected, rounding(), strict=True), start=1):
        if one.numel() and not (far := (one - other).abs().max().item()) <= allowed:
            return f"output {number} is off by {far:.2g}, more than the {allowed:.2g} of rounding"
    return None


def _rounding(network: nn.Module, inputs: Inputs, eager: list[Tensor]) -> list[float]:
    """By how much each output may differ for the order of the arithmetic alone: eight times what eager's own differ.

    What is exact is the network in double precision; three orders are eager, channels last, and without oneDNN.
    """
    double = copy.deepcopy(network).double()
    exact = _numbers(double(*_cast(inputs)))
    cpu = torch.device("cpu")
    last = _numbers(copied(network, CHANNELS_LAST, cpu)(*laid_out(_fresh(inputs), CHANNELS_LAST, cpu)))
    with warnings.catch_warnings(action="ignore"), torch.backends.mkldnn.flags(enabled=False):
        plain = _numbers(network(*_fresh(inputs)))
    allowed: list[float] = []
    for truth, *orders in zip(exact, eager, last, plain, strict=True):
        far = [(one - truth).abs().max().item() if one.numel() else 0.0 for one in orders]
        size = truth.abs().max().item() if truth.numel() else 0.0
        most = _ROUNDINGS * (max(far) + torch.finfo(torch.float32).eps * size)
        allowed.append(most if math.isfinite(most) else 0.0)
    return allowed


def _cast(inputs: Inputs) -> Inputs:
    def cast(leaf: Any) -> Any:
        return leaf.double() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf

    return tree_map(cast, inputs)
