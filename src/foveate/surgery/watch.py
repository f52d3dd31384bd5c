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
from torch.utils.weak import WeakTensorKeyDictionary

from foveate.errors import PlaceError
from foveate.surgery.attended import ATTENTION, Attended

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
class _Running:
    """A module that is running: its path, its first tensor, and the joins seen in its own forward."""

    path: str
    first: Tensor | None
    joins: list[tuple[torch.Size, str | None]] = field(default_factory=list[tuple[torch.Size, str | None]])


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
        with torch.inference_mode(False), torch.no_grad(), observer.listening_to(model), observer:
            model(example)
    except PlaceError:
        raise
    except Exception as error:
        sides = getattr(example, "shape", None)  # a list or a dictionary is an example too, where the network takes it
        shape = f"type {type(example).__name__}" if sides is None else "×".join(map(str, sides))
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
        self.running: list[_Running] = []
        self.attention: tuple[str, ...] = ()
        self.traces = WeakTensorKeyDictionary()

    @contextmanager
    def listening_to(self, model: nn.Module) -> Generator[None]:
        """Hooks on every module, for as long as the ``with`` lasts."""
        handles: list[Any] = []
        try:
            wrappers = [path for path, module in model.named_modules() if isinstance(module, Attended)]
            self.attention = tuple(f"{path}.{ATTENTION}." for path in wrappers)
            for path, module in model.named_modules():
                if isinstance(
                    module, torch.jit.ScriptModule
                ):  # it takes no hooks, and its inside is not ours to change
                    continue
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
        if tensors:
            traces = [self._trace(tensor) for tensor in tensors]
            depth = max(t.depth for t in traces) + (name in _LAYERS)
            blocks = set[int]().union(*(t.blocks for t in traces))
            for out in _tensors(result):  # several where a map is split
                trace = self._trace(out)
                trace.depth, trace.blocks = depth, set(blocks)
        return result

    def _entering(self, path: str) -> Any:
        def hook(_: nn.Module, args: Any, kwargs: Any) -> None:
            first = next((value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), None)
            if first is not None:
                trace = self._trace(first)
                trace.blocks.add(trace.serial)
            self.running.append(_Running(path, first))

        return hook

    def _leaving(self, path: str) -> Any:
        def hook(_module: nn.Module, _args: Any, _kwargs: Any, output: Any) -> None:
            ran = self.running.pop()
            feature_map = output if isinstance(output, Tensor) and output.ndim >= 3 else None
            # an addition of other maps inside a block joins groups of channels, not a branch with its shortcut
            joined = [who for shape, who in ran.joins if feature_map is None or shape == feature_map.shape]
            self.watched.residuals += joined
            if feature_map is None:
                return
            self.watched.outputs.setdefault(path, []).append(Output(tuple(output.shape), output.dtype, output.device))
            trace = self._trace(output)
            changed = trace.version != output._version
            if output is ran.first and not changed:  # handed on as it came
                trace.passer = trace.passer or path
            elif changed or trace.producer is None:
                trace.producer = path
            trace.version = output._version

        return hook

    def _addition(self, a: Tensor, b: Tensor) -> None:
        if a.ndim < 3 or a.shape != b.shape or not self.running:
            return
        block = self.running[-1]
        if block.first is None or any(ran.path.startswith(self.attention) for ran in self.running):
            return  # what attention adds to its input is no join of the host's
        shortcut, branch = sorted((self._trace(a), self._trace(b)), key=lambda trace: trace.depth)
        # a residual join: both come from the input of the block that adds them, one through more layers
        together = self._trace(block.first).serial in branch.blocks & shortcut.blocks
        if together and branch.depth > shortcut.depth:
            block.joins.append((a.shape, branch.producer or branch.passer))

    def _trace(self, tensor: Tensor) -> _Trace:
        if tensor not in self.traces:
            self.traces[tensor] = _Trace()
        return self.traces[tensor]


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, dict):
        for value in values.values():
            yield from _tensors(value)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)
