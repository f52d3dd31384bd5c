"""Whether an operation runs now, on numbers: only then may it choose by memory and layout."""

from __future__ import annotations

import torch
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
    return all(type(tensor) in _PLAIN and tensor.device.type == "cpu" for tensor in tensors)


_PLAIN = (Tensor, torch.nn.Parameter)
