"""What runs inside: the operations of PyTorch that a piece of code calls, and what they return."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Operations(TorchDispatchMode):
    """Watches the operations inside a ``with``: below autograd and autocast, as the device will run them.

    Attributes:
        seen: The name and the tensor results of every operation, in order.

    Example:
        >>> import torch
        >>> with Operations() as operations:
        ...     _ = torch.zeros(2).amax()
        >>> "amax" in operations.names
        True
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, list[Tensor]]] = []

    @property
    def names(self) -> set[str]:
        """The names of all operations seen."""
        return {name for name, _ in self.seen}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.seen.append(
            (func.overloadpacket.__name__, [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)])
        )
        return result
