"""Run a network as one that only predicts, and leave it as it was."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def inference(*modules: nn.Module) -> Generator[None]:
    """Evaluation mode and no gradients inside; afterwards every submodule has its own training flag again.

    A network may be partly frozen, so one flag for the whole of it would not restore it.

    Args:
        *modules: The networks to put into evaluation mode.

    Example:
        >>> net = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm2d(3).eval())
        >>> with inference(net):
        ...     [part.training for part in net.modules()]
        [False, False, False]
        >>> [part.training for part in net.modules()]
        [True, True, False]
    """
    flags = [(part, part.training) for module in modules for part in module.modules()]
    try:
        for module in modules:
            module.eval()
        with torch.no_grad():
            yield
    finally:
        for part, training in flags:
            part.training = training
