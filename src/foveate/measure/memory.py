"""How much memory a call needs at most at one moment."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def peak_memory(run: Callable[[], object], device: torch.device | str = "cpu") -> int:
    """The largest number of bytes that tensors made during a call occupied at one moment.

    What existed before the call (parameters, the input) does not count; what the call returns does. On CUDA
    the allocator's own maximum is read, with the workspace of the kernels. Elsewhere the tensors are
    watched as they come and go, which does not see memory that one operation takes and gives back inside
    itself.

    Args:
        run: What to call, once. For a forward pass without gradients put it inside
            :func:`~foveate.measure.inference`; with them the activations kept for the backward pass count.
        device: Where it runs.

    Example:
        >>> x = torch.zeros(1000)
        >>> peak_memory(lambda: ((x + 1) + 1) + 1)  # two at a time: the sum so far and the next
        8000
    """
    place = torch.device(device)
    if place.type == "cuda":
        torch.cuda.synchronize(place)
        before = torch.cuda.memory_allocated(place)
        torch.cuda.reset_peak_memory_stats(place)
        run()
        torch.cuda.synchronize(place)
        return torch.cuda.max_memory_allocated(place) - before
    with LiveTensors() as live:
        run()
    return live.peak


class LiveTensors(TorchDispatchMode):
    """Adds up the storages that operations make, and takes each away when it is freed."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.live: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        given = {id(storage) for storage in _storages((args, kwargs))}
        result = func(*args, **kwargs)
        for storage in _storages(result):
            if id(storage) not in given and id(storage) not in self.live:
                self._made(storage)
        return result

    def _made(self, storage: torch.UntypedStorage) -> None:
        # PyTorch keeps one Python object for a storage as long as the storage lives, whoever drops it
        size = storage.nbytes()
        self.live.add(id(storage))
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._freed, id(storage), size).atexit = False

    def _freed(self, key: int, size: int) -> None:
        self.live.discard(key)
        self.now -= size


def _storages(tree: Any) -> list[torch.UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
