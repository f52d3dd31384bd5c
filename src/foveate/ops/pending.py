"""A map that is not computed yet, because what comes next may want to be computed with it.

A network says ``out = bn(conv(x))`` and ``out = relu(gated + shortcut)``, one operation at a time, and each of them
writes the whole map out for the next to read. A pending map is what the first of them returns in its place: a tensor
that knows what it is made from. Met by what it waits for, it goes into one operation with it; met by anything else, it
is computed as it always was. So the network's code stays as it is, whatever it does, and no guess about it can make
numbers wrong. (Rewriting the network's forward pass would have to be right about it, and cannot see what a flag
changes later.) To compute it later than the network asked is right as long as its sources have not changed; where one
has, it says so.

Only where numbers are computed at once and nobody looks on: see :func:`can_wait`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from foveate.errors import FoveateError
from foveate.ops.epilogue import gate_add, joins
from foveate.ops.gate import gate
from foveate.ops.graph import eager

_ADDITIONS = (Tensor.add, Tensor.__add__, Tensor.__radd__, torch.add)
_ADDITIONS_IN_PLACE = (Tensor.add_, Tensor.__iadd__)
_RELU_IN_PLACE = (Tensor.relu_, torch.relu_)
_RELU = (Tensor.relu, torch.relu, torch.nn.functional.relu, *_RELU_IN_PLACE)


# numbers in a map below which waiting takes longer than what is saved: some tens of microseconds
FEW = 1 << 18


def enough(count: int) -> bool:
    """Whether it pays that a map of so many numbers waits.

    Example:
        >>> enough(10), enough(10_000_000)
        (False, True)
    """
    return count >= FEW


def can_wait(*tensors: Tensor) -> bool:
    """Whether a map made from these may wait: no gradients, plain numbers, and nobody watching the operations.

    Example:
        >>> can_wait(torch.zeros(1))
        False
        >>> with torch.no_grad():
        ...     can_wait(torch.zeros(1))
        True
    """
    if torch.compiler.is_compiling() or torch.is_grad_enabled():
        return False
    if torch._C._len_torch_function_stack() or torch._C._len_torch_dispatch_stack():  # pyright: ignore
        return False
    return eager(*tensors)


class Pending(Tensor):
    """A tensor that is computed at its first use.

    Until then it has no memory. Once it is computed everything goes to the result, so that changes in place are seen
    through it too.
    """

    _sources: tuple[Tensor, ...]
    _versions: tuple[int, ...]
    _result: Tensor | None
    _graded: bool

    @staticmethod
    def __new__(cls: Any, *sources: Any, **_: Any) -> Any:  # noqa: D102
        return Tensor._make_wrapper_subclass(cls, (0,), dtype=sources[0].dtype)  # pyright: ignore

    def _wait(self, *sources: Tensor) -> None:
        self._sources, self._versions, self._result = sources, tuple(map(version, sources)), None
        self._graded = torch.is_grad_enabled()

    def _compute(self, *sources: Tensor) -> Tensor:
        raise NotImplementedError

    @property
    def waiting(self) -> bool:
        """Whether it is not computed yet."""
        return self._result is None

    def sources(self) -> tuple[Tensor, ...]:
        """What it is to be computed from.

        Raises:
            FoveateError: If that has changed since.
        """
        if tuple(map(version, self._sources)) != self._versions:
            raise FoveateError(
                "a map was changed in place between two operations that `foveate.optimize` runs as one: call "
                "foveate.restore(model), and run this network as it is"
            )
        return self._sources

    def computed(self) -> Tensor:
        """The plain tensor."""
        if self._result is None:
            with torch.set_grad_enabled(self._graded), torch.autocast("cpu", enabled=False):
                self._become(self._compute(*self.sources()))
        return cast(Tensor, self._result)

    def _become(self, result: Tensor) -> Tensor:
        self._result, self._sources, self._versions = result, (), ()
        return result

    def _meet(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Tensor | None:  # noqa: ARG002
        """What an operation on it makes, where the two are computed together; ``None`` where they are not."""
        return None

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Join with an operation, or be computed before it."""
        given = (tuple(args), kwargs or {})
        with torch._C.DisableTorchFunctionSubclass():  # pyright: ignore
            for one in args[:2]:
                if isinstance(one, Pending) and one.waiting:
                    met = one._meet(func, *given)
                    if met is not None:
                        return met
            positional, named = tree_map(plain, given)
        return func(*positional, **named)

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """The same for what comes past the Python functions."""
        positional, named = tree_map(plain, (tuple(args), kwargs or {}))
        return func(*positional, **named)


class Product(Pending):
    """A map times weights, which waits for a shortcut to be added and, if it is told so, for ReLU.

    Example:
        >>> with torch.no_grad():
        ...     product = Product(torch.ones(1, 1, 1, 2), torch.full((1, 1, 1, 1), 2.0), relu=True)
        ...     total = product + torch.tensor([[[[1.0, -5.0]]]])
        ...     print(product.waiting, total.waiting, torch.relu(total))
        True True tensor([[[[3., 0.]]]])
    """

    def __init__(
        self,
        x: Tensor,
        weights: Tensor,
        shortcut: Tensor | None = None,
        *,
        channel: Tensor | None = None,
        relu: bool,
    ) -> None:
        self._relu = relu
        self._parts(x, weights, shortcut, channel)

    def _parts(self, x: Tensor, weights: Tensor, shortcut: Tensor | None, channel: Tensor | None) -> None:
        self._there = (shortcut is not None, channel is not None)
        self._wait(*(one for one in (x, weights, shortcut, channel) if one is not None))

    def _holders(self) -> tuple[int, ...]:
        """How many hold the map and its memory, as objects of Python and within PyTorch."""
        x = self._sources[0]
        memory = x.untyped_storage()
        inside = x._use_count(), torch._C._storage_Use_Count(memory._cdata)  # pyright: ignore
        return sys.getrefcount(x), sys.getrefcount(memory), *inside

    def _given(self) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        x, weights, *others = self.sources()
        shortcut = others.pop(0) if self._there[0] else None
        return x, weights, shortcut, others.pop() if self._there[1] else None

    def _compute(self, *sources: Tensor) -> Tensor:  # noqa: ARG002
        x, weights, shortcut, channel = self._given()
        if shortcut is not None:
            return gate_add(x, weights, shortcut, channel=channel, relu=False)
        return gate(x if channel is None else gate(x, channel), weights)

    def _meet(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Tensor | None:
        holders = self._holders()  # before there is one here
        x, weights, shortcut, channel = self._given()
        if shortcut is not None:
            if func not in _RELU or set(kwargs) - {"inplace"}:
                return None
            if func not in _RELU_IN_PLACE and not kwargs.get("inplace"):
                return gate_add(x, weights, shortcut, channel=channel, relu=True)
            over = holders == _alone() and not x.is_inference()
            return self._become(gate_add(x, weights, shortcut, channel=channel, relu=True, over=over))
        in_place = func in _ADDITIONS_IN_PLACE and args[0] is self
        if kwargs or len(args) != 2 or not (in_place or func in _ADDITIONS):
            return None
        other = plain(args[1] if args[0] is self else args[0])
        if not (isinstance(other, Tensor) and joins(x, weights, other)):
            return None
        if not self._relu:
            result = gate_add(x, weights, other, channel=channel, relu=False)
            return self._become(result) if in_place else result
        if not in_place:
            return Product(x, weights, other, channel=channel, relu=True)
        self._parts(x, weights, other, channel)
        return self


@cache
def _alone() -> tuple[int, ...]:
    """What :meth:`Product._holders` says where nobody else holds the map: it may be written over."""
    return Product(torch.empty(1, 1, 1, 1), torch.empty(1, 1, 1, 1), relu=True)._holders()  # pyright: ignore


def plain(value: Any) -> Any:
    """The same, computed if it is pending."""
    return value.computed() if isinstance(value, Pending) else value


def version(tensor: Tensor) -> int:
    """How often a tensor was changed in place; those made for inference do not count."""
    return 0 if tensor.is_inference() else tensor._version
