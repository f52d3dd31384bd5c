"""Less memory for more time: maps within blocks are not kept for the backward pass, but computed again."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from foveate.errors import FoveateError
from foveate.train.several import blocks


class _Recomputed(nn.Module):
    """Stands before a block's own class while it is trained."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The block's own, of which only what goes in and comes out is kept."""
        forward = super().forward
        if not (self.training and torch.is_grad_enabled()):
            return forward(*args, **kwargs)

        def contexts() -> tuple[Any, Any]:
            return nullcontext(), _unmoved(self)

        return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts, **kwargs)


@contextmanager
def recomputed(network: nn.Module) -> Generator[None]:
    """Train a network with the maps within its blocks computed twice; its names and weights stay as they are.

    Blocks are the members of rows of modules, such as a ResNet's (Chen et al., 2016, arXiv 1604.06174). Statistics of
    norms move once a step: PyTorch would move them in the second pass again.

    Args:
        network: In place, while the context lasts.

    Raises:
        FoveateError: If the network has no blocks.

    Example:
        >>> from foveate import hosts
        >>> network = hosts.build("foveate/resnet8", classes=10)
        >>> with recomputed(network):
        ...     network(torch.zeros(1, 3, 32, 32)).sum().backward()
        >>> type(network.layer1[0]).__name__, int(network.layer1[0].bn1.num_batches_tracked)
        ('Block', 1)
    """
    found = blocks(network)
    if not found:
        raise FoveateError(
            f"{type(network).__name__} has no row of blocks whose maps could be computed again: train it with "
            "checkpointing=false"
        )
    before = [(block, type(block)) for block in found]
    for block, own in before:
        block.__class__ = type(own.__name__, (_Recomputed, own), {"__module__": own.__module__})
    try:
        yield
    finally:
        for block, own in before:
            block.__class__ = own


@contextmanager
def _unmoved(module: nn.Module) -> Generator[None]:
    """Buffers are afterwards as they were: the first pass has moved them already."""
    kept = [(buffer, buffer.detach().clone()) for buffer in module.buffers()]
    try:
        yield
    finally:
        for buffer, value in kept:
            buffer.data.copy_(value)
