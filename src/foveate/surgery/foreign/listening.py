"""Seeing the maps of foreign attention: what multiplied the features, and what a softmax returned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from foveate.surgery.attended import HOST
from foveate.surgery.foreign.entry import Entry, Shown

_PRODUCTS = {"mul", "mul_", "multiply", "__mul__", "__rmul__", "__imul__"}
_SOFTMAXES = {"softmax"}
Report = Callable[[Shown, tuple[str, ...], Tensor, tuple[int, int] | None], Tensor | None]


def listen(module: nn.Module, entry: Entry, report: Report) -> AbstractContextManager[Any]:
    """Report every map of a recognised module whenever it runs, until the context that is returned ends.

    Args:
        module: The module.
        entry: Its row in the tables.
        report: Called with the row's map, its axes, the weights as :class:`foveate.explain.AttentionMap` has them,
            and height and width of the positions where the weights relate pairs. They may be part of a graph of
            gradients. A tensor like these weights that it returns acts in their place.
    """
    ears = _Ears(entry, report)
    hooks = ExitStack()
    for handle in ears.listening_to(module):
        hooks.callback(handle.remove)
    return hooks


class _Ears(TorchFunctionMode):
    """Sees the operations of one module while it runs, and knows in which part they happen."""

    def __init__(self, entry: Entry, report: Report) -> None:
        super().__init__()
        self.entry, self.report = entry, report
        self.listening = False
        self.running: list[str] = []
        self.counts: dict[tuple[str, str], int] = {}
        self.features: list[Tensor] = []
        self.batch = 0
        self.size: tuple[int, ...] = ()

    def listening_to(self, module: nn.Module) -> Iterator[Any]:
        """The handles of hooks on the module and its parts. The mode is on only while the module itself runs."""
        yield module.register_forward_pre_hook(self._begin, with_kwargs=True, prepend=True)
        # also after an error in the module, or the mode would stay on
        yield module.register_forward_hook(self._end, always_call=True)
        for path, part in module.named_modules():
            if part is not module and not isinstance(part, torch.jit.ScriptModule):
                yield part.register_forward_pre_hook(self._enter(_bare(path)), prepend=True)
                yield part.register_forward_hook(self._leave, always_call=True)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        maps = [value for value in args if isinstance(value, Tensor)]
        if name in _PRODUCTS and len(maps) == 2 and min(value.ndim for value in maps) > 1:
            features, weights = self._sides(*maps)
            other = self._heard("product", _once(weights), features.ndim)
            if other is not None:
                args = tuple(other if value is weights else value for value in args)
            result = func(*args, **(kwargs or {}))
            self.features.append(result)
            return result
        result = func(*args, **(kwargs or {}))
        if name in _SOFTMAXES and isinstance(result, Tensor):
            other = self._heard("softmax", result, len(self.size) + 2)
            return result if other is None else other
        return result

    def _heard(self, by: str, weights: Tensor, dims: int) -> Tensor | None:
        """Report weights that are a map, and say what acts in their place, if anything does."""
        inside = self.running[-1] if self.running else ""
        nth = self.counts.get((inside, by), 0)
        self.counts[inside, by] = nth + 1
        for shown in self.entry.maps:
            if (shown.inside, shown.by, shown.nth) == (inside, by, nth):
                other = self._tell(shown, weights, dims)
                return None if other is None else other.to(weights)
        return None

    def _tell(self, shown: Shown, weights: Tensor, dims: int) -> Tensor | None:
        axes = _axes(shown, dims)
        if "hw->hw" in axes:
            height, width = self.size[:2]
            pairs = weights.reshape(self.batch, -1, height * width, height * width).mT  # from its rows, which look
            other = self.report(shown, axes, pairs if "head" in axes else pairs[:, 0], (height, width))
            return None if other is None else other.mT.reshape(weights.shape)
        if shown.by == "softmax":
            other = self.report(shown, axes, weights.reshape(self.batch, 1, *self.size), None)
            return None if other is None else other.reshape(weights.shape)
        other = self.report(shown, axes, weights.movedim(-1, 1) if self.entry.channels_last else weights, None)
        return other.movedim(1, -1) if other is not None and self.entry.channels_last else other

    def _sides(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Features and weights: the weights are what is repeated, or what neither came in nor is a product."""
        if _values(a) != _values(b):
            return (a, b) if _values(a) > _values(b) else (b, a)
        known = [any(x is feature for feature in self.features) for x in (a, b)]
        return (b, a) if known == [False, True] else (a, b)

    def _begin(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        inputs = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor) and value.ndim > 2]
        if self.listening or not inputs:
            return
        self.running.clear()
        self.counts.clear()
        self.features = inputs
        self.batch, self.size = inputs[0].shape[0], tuple(inputs[0].shape[2:])
        self.listening = True
        self.__enter__()

    def _end(self, *_: Any) -> None:
        if self.listening:
            self.listening = False
            self.features = []
            self.__exit__(None, None, None)

    def _enter(self, path: str) -> Any:
        def hook(*_: Any) -> None:
            self.running.append(path)

        return hook

    def _leave(self, *_: Any) -> None:
        if self.running:
            self.running.pop()


def _values(x: Tensor) -> int:
    """How many numbers a tensor holds that are its own: an expanded one repeats them."""
    count = 1
    for length, stride in zip(x.shape, x.stride(), strict=True):
        count *= length if stride else 1
    return count


def _axes(shown: Shown, dims: int) -> tuple[str, ...]:
    """The axes of weights on features with so many: a single branch has none, signals and volumes have their own."""
    if "branch" in shown.axes:
        return shown.axes if dims == 5 else tuple(axis for axis in shown.axes if axis != "branch")
    if shown.axes[-2:] != ("h", "w"):
        return shown.axes
    positions = {3: ("w",), 5: ("d", "h", "w")}.get(dims, ("h", "w"))
    return (*shown.axes[:-2], *positions)


def _once(weights: Tensor) -> Tensor:
    """Weights with every axis along which they only repeat reduced to one."""
    for axis, stride in enumerate(weights.stride()):
        if axis and not stride:
            weights = weights.narrow(axis, 0, 1)
    return weights


def _bare(path: str) -> str:
    """A part's path without the level that an attachment to it adds."""
    return ".".join(name for name in path.split(".") if name != HOST)
