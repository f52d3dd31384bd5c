"""Watching one forward pass: what every module returns, and which outputs meet in an addition.

A network is not read from tables of known architectures; it is run once on an example, and what happens is noted.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from foveate.errors import PlaceError

_ADDITIONS = {"add", "add_", "__add__", "__radd__", "__iadd__"}
_LAYERS = {"conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "linear"}


@dataclass(frozen=True)
class Output:
    """What a module returned when it was watched: a feature map."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device


@dataclass
class Watched:
    """One forward pass.

    Attributes:
        outputs: The feature maps that each module returned, by path; more than one if it ran more than once.
        residuals: Paths of the modules whose output is the residual branch of an addition, in order. ``None`` where
            a branch does not end in a module.
    """

    outputs: dict[str, list[Output]] = field(default_factory=dict[str, list[Output]])
    residuals: list[str | None] = field(default_factory=list[str | None])


@dataclass
class _Trace:
    """Where a tensor came from: the innermost module that made it, how many layers deep, from which block inputs.

    A tensor that no module made may still pass through one, such as the ``nn.Identity`` of a disabled drop-path.
    """

    producer: str | None = None
    passer: str | None = None
    version: int = 0
    depth: int = 0
    blocks: set[int] = field(default_factory=set[int])
    serial: int = field(default_factory=itertools.count().__next__)


def watch(model: nn.Module, example: Tensor) -> Watched:
    """Run a network once on an example and note what happens. The network is left as it was.

    Runs in evaluation mode without gradients, so that no statistic and no random stream moves.

    Args:
        model: The network.
        example: An input, batch first, on the network's device.

    Raises:
        PlaceError: If the network does not run on the example.
    """
    watched = Watched()
    training = {module: module.training for module in model.modules()}
    observer = _Observer(watched)
    try:
        model.eval()
        with torch.no_grad(), observer.listening_to(model), observer:
            model(example)
    except PlaceError:
        raise
    except Exception as error:
        shape = "×".join(map(str, example.shape))
        raise PlaceError(
            f"the network does not run on an example of {shape} ({type(error).__name__}: {error}); "
            "give one that it runs on: example=torch.zeros(...)"
        ) from error
    finally:
        for module, flag in training.items():
            module.training = flag
    return watched


class _Observer(TorchFunctionMode):
    """Sees every operation of a forward pass, and with its hooks every module."""

    def __init__(self, watched: Watched) -> None:
        super().__init__()
        self.watched = watched
        self.running: list[tuple[str, Tensor | None]] = []

    @contextmanager
    def listening_to(self, model: nn.Module) -> Generator[None]:
        """Hooks on every module, for as long as the ``with`` lasts."""
        handles: list[Any] = []
        try:
            for path, module in model.named_modules():
                handles.append(module.register_forward_pre_hook(self._entering(path), with_kwargs=True))
                handles.append(module.register_forward_hook(self._leaving(path), with_kwargs=True))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        tensors = list(_tensors((args, kwargs or {})))
        name = getattr(func, "__name__", "")
        if name in _ADDITIONS and len(tensors) == 2:
            self._addition(*tensors)
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and tensors:
            traces = [_trace(tensor) for tensor in tensors]
            trace = _trace(result)
            trace.depth = max(t.depth for t in traces) + (name in _LAYERS)
            trace.blocks = set[int]().union(*(t.blocks for t in traces))
        return result

    def _entering(self, path: str) -> Any:
        def hook(_: nn.Module, args: Any, kwargs: Any) -> None:
            first = next((value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), None)
            if first is not None:
                trace = _trace(first)
                trace.blocks.add(trace.serial)
            self.running.append((path, first))

        return hook

    def _leaving(self, path: str) -> Any:
        def hook(_module: nn.Module, _args: Any, _kwargs: Any, output: Any) -> None:
            _, first = self.running.pop()
            if not isinstance(output, Tensor) or output.ndim < 3:
                return
            self.watched.outputs.setdefault(path, []).append(Output(tuple(output.shape), output.dtype, output.device))
            trace = _trace(output)
            changed = trace.version != output._version
            if output is first and not changed:  # handed on as it came
                trace.passer = trace.passer or path
            elif changed or trace.producer is None:
                trace.producer = path
            trace.version = output._version

        return hook

    def _addition(self, a: Tensor, b: Tensor) -> None:
        if a.ndim < 3 or a.shape != b.shape or not self.running:
            return
        block = self.running[-1][1]
        branch, shortcut = (_trace(a), _trace(b)) if _trace(a).depth > _trace(b).depth else (_trace(b), _trace(a))
        # a residual join: both come from the input of the block that adds them, one through more layers
        together = block is not None and _trace(block).serial in branch.blocks & shortcut.blocks
        if together and branch.depth > shortcut.depth:
            self.watched.residuals.append(branch.producer or branch.passer)


def _trace(tensor: Tensor) -> _Trace:
    trace = getattr(tensor, "_foveate_trace", None)
    if trace is None:
        trace = _Trace()
        tensor._foveate_trace = trace  # type: ignore[attr-defined]
    return trace


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, dict):
        for value in values.values():
            yield from _tensors(value)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)
