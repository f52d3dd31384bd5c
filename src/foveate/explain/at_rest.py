"""A network that is only asked: in evaluation mode, eager, and afterwards as it was."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from foveate.surgery.unwrap import unwrapped


@contextmanager
def at_rest(model: nn.Module, *, gradients: bool = False) -> Generator[nn.Module]:
    """The network itself in evaluation mode, without what compiles or distributes it; modes and chance come back.

    Args:
        model: A network; wrappers are seen through.
        gradients: Whether what runs inside is recorded for gradients.

    Example:
        >>> net = nn.Dropout()
        >>> with at_rest(net) as quiet:
        ...     quiet.training, torch.is_grad_enabled()
        (False, False)
        >>> net.training
        True
    """
    network = unwrapped(model)
    training = {module: module.training for module in network.modules()}
    devices = {tensor.device.index or 0 for tensor in network.parameters() if tensor.device.type == "cuda"}
    with ExitStack() as stack:
        if "torch._dynamo" in sys.modules:  # else nothing is compiled, and to import it takes seconds
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(torch.random.fork_rng(sorted(devices)))
        stack.enter_context(torch.set_grad_enabled(gradients))
        try:
            network.eval()
            yield network
        finally:
            for module, flag in training.items():
                module.training = flag
