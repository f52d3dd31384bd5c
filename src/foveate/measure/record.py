"""Which operations a forward pass consists of, and how much each moves and computes."""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from foveate.measure.inference import inference
from foveate.measure.kinds import kind_of, runs_of

# besides the views: memory that is taken but not written, and a view whose schema does not say so
_MOVES_NOTHING = {
    torch.ops.aten.empty,
    torch.ops.aten.empty_like,
    torch.ops.aten.empty_strided,
    torch.ops.aten.new_empty,
    torch.ops.aten.new_empty_strided,
    torch.ops.aten._unsafe_view,
}


@dataclass(frozen=True)
class Operation:
    """One operation as PyTorch dispatches it.

    Attributes:
        kind: What it is to a machine, such as ``"matrix product"``; see :mod:`foveate.measure.kinds`. ``"view"`` for
            one that moves nothing, ``"module"`` for the call of a module.
        bytes: Bytes that it reads and writes: every tensor once, what is broadcast once.
        products: Multiply-accumulates of a convolution or a matrix product; 0 for others.
        elements: Values in the largest tensor that it reads or writes.
        runs: Stretches of memory that it goes through without a step aside: 1 for a product of two maps of one layout,
            one a channel where a channel's weight multiplies it.
        made: Bytes that it takes from the system or the allocator, for what it returns.
    """

    kind: str
    bytes: int = 0
    products: int = 0
    elements: int = 0
    runs: int = 0
    made: int = 0


def operations(module: nn.Module, *inputs: Tensor) -> tuple[Operation, ...]:
    """The operations of one eager forward pass in evaluation mode, in order, with the calls of modules among them.

    Args:
        module: The network. It comes back with the training flags that it had.
        *inputs: What ``forward`` takes.

    Example:
        >>> found = operations(nn.ReLU(), torch.zeros(2, 3))
        >>> [(one.kind, one.bytes, one.elements) for one in found]
        [('module', 0, 0), ('elementwise', 48, 6)]
    """
    with inference(module), recorded() as found:
        module(*inputs)
    return tuple(found)


@contextmanager
def recorded() -> Generator[list[Operation]]:
    """Operations that are done inside, as they are done.

    Example:
        >>> with recorded() as found:
        ...     _ = torch.ones(4, 2) @ torch.ones(2, 3)
        >>> found[-1].kind, found[-1].products
        ('matrix product', 24)
    """
    found: list[Operation] = []

    def called(*_: Any) -> None:
        found.append(Operation("module"))

    hook = nn.modules.module.register_module_forward_pre_hook(called)
    try:
        with _Recorder(found):
            yield found
    finally:
        hook.remove()


class _Recorder(TorchDispatchMode):
    def __init__(self, found: list[Operation]) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "prim":  # where a tensor is, asked of one without memory
            return func(*args, **kwargs)
        with self:  # tensors made in inference mode arrive here before composite operations are taken apart
            result = func.decompose(*args, **kwargs)
        if result is not NotImplemented:
            return result
        result = func(*args, **kwargs)
        self.found.append(_described(func, args, kwargs, result))
        return result


def _described(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Operation:
    if func.is_view or func.overloadpacket in _MOVES_NOTHING or not _tensors((args, kwargs, result)):
        return Operation("view")
    written = {argument.name for argument in func._schema.arguments if argument.is_out}
    given = _tensors((args, {name: value for name, value in kwargs.items() if name not in written}))
    made = _tensors(result)
    there = {id(one.untyped_storage()) for one in _tensors((args, kwargs))}
    count = flop_registry.get(func.overloadpacket)
    return Operation(
        kind=kind_of(func.overloadpacket, args, given, made),
        bytes=sum(map(_memory_of, given)) + sum(map(_memory_of, made)),
        products=0 if count is None else int(count(*args, **kwargs, out_val=result)) // 2,
        elements=max((tensor.numel() for tensor in (*given, *made)), default=0),
        runs=runs_of(args, given, made),
        made=sum(_memory_of(one) for one in made if id(one.untyped_storage()) not in there),
    )


def _tensors(tree: Any) -> list[Tensor]:
    """The tensors, each once."""
    return list({id(leaf): leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)}.values())


def _memory_of(tensor: Tensor) -> int:
    """The bytes behind a tensor; an axis of stride zero repeats what is there already."""
    axes = zip(tensor.shape, tensor.stride(), strict=True)
    return math.prod(size for size, stride in axes if stride != 0 or size == 0) * tensor.element_size()
