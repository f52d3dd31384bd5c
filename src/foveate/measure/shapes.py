"""A forward pass of shapes alone: every operation as it would be done, and none of them done."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from foveate.errors import OptionError
from foveate.ops.graph import counted_as_plain


@contextmanager
def shapes_alone() -> Generator[None]:
    """Tensors made inside have a shape, a layout, a type and a device, and no memory.

    Operations that choose a form by these choose as they would with memory, so what runs inside is what would run.

    Example:
        >>> with shapes_alone():
        ...     torch.ones(10**6, 10**6).sum(1).shape  # four terabytes
        torch.Size([1000000])

    Raises:
        OptionError: If what runs inside reads a value.
    """
    # imported here, because it loads much of the compiler
    from torch._subclasses.fake_tensor import (
        DataDependentOutputException,
        DynamicOutputShapeException,
        FakeTensor,
        FakeTensorMode,
        UnsupportedFakeTensorException,
    )

    try:
        with FakeTensorMode(allow_non_fake_inputs=True), counted_as_plain(FakeTensor):
            yield
    except (DataDependentOutputException, DynamicOutputShapeException, UnsupportedFakeTensorException) as error:
        raise OptionError(
            f"what this would do cannot be told from shapes: its operations depend on values ({error}); "
            "measure it instead"
        ) from error


def shape_of(tensor: Tensor, device: torch.device | str, *, learns: bool = False) -> Tensor:
    """A tensor like another one; inside :func:`shapes_alone` it has no memory.

    Args:
        tensor: The other one, on any device, ``meta`` too.
        device: Where the new one is, or seems to be.
        learns: Whether it asks for a gradient.
    """
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device, requires_grad=learns)


def call(module: nn.Module, state: dict[str, Tensor], inputs: tuple[Tensor, ...]) -> Any:
    """What a module returns, with other tensors in place of its parameters and buffers."""
    return torch.func.functional_call(module, state, inputs)


def state_of(module: nn.Module, device: torch.device | str) -> dict[str, Tensor]:
    """Tensors like a module's parameters and buffers, by name; what asks for a gradient does so again."""
    state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {name: shape_of(one, device, learns=one.requires_grad) for name, one in state.items()}
