"""Whether an operation runs now, on numbers: only then may it choose by memory and layout."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.nn.modules.module as _everywhere
from torch import Tensor
from torch.autograd import forward_ad


def eager(*tensors: Tensor) -> bool:
    """Whether tensors are plain ones on the CPU, computed with at once.

    Not so while a graph is captured (compiled, exported, traced), inside a transform of functions (``torch.func``,
    forward-mode derivatives), and for tensors of another class (sharded, fake, wrapped). There the plain form of an
    operation is the better one: compilers fuse it themselves, and transforms know its rules.

    Example:
        >>> eager(torch.zeros(1)), eager(torch.zeros(1, device="meta"))
        (True, False)
    """
    if torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export():
        return False
    if torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]
        return False
    if torch._C._functorch.peek_interpreter_stack() is not None:  # pyright: ignore
        return False
    if forward_ad._current_level >= 0:  # pyright: ignore
        return False
    plain = _plain.get()
    return all(type(tensor) in plain and tensor.device.type == "cpu" for tensor in tensors)


@contextmanager
def counted_as_plain(*classes: type[Tensor]) -> Generator[None]:
    """Inside, tensors of these classes choose as plain ones do: for those without memory, to see what would run.

    Example:
        >>> class Mine(Tensor): ...
        >>> mine = torch.zeros(1).as_subclass(Mine)
        >>> with counted_as_plain(Mine):
        ...     eager(mine)
        True
        >>> eager(mine)
        False
    """
    token = _plain.set((*_plain.get(), *classes))
    try:
        yield
    finally:
        _plain.reset(token)


_plain: ContextVar[tuple[type[Tensor], ...]] = ContextVar("plain", default=(Tensor, torch.nn.Parameter))


def watched(*modules: torch.nn.Module) -> bool:
    """Whether somebody would notice that modules are not called: by a hook, or a ``forward`` put in their place.

    Example:
        >>> layer = torch.nn.Linear(1, 1)
        >>> before, handle = watched(layer), layer.register_forward_hook(print)
        >>> before, watched(layer)
        (False, True)
    """
    everywhere = (getattr(_everywhere, name) for name in _EVERYWHERE)  # hooks of all modules there are
    return any(everywhere) or any(_hooked(module) for module in modules)


def _hooked(module: torch.nn.Module) -> bool:
    own = module.__dict__
    for name in _KINDS:
        if own[name]:
            return True
    return "forward" in own


_KINDS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_EVERYWHERE = [f"_global{kind}" for kind in _KINDS]
