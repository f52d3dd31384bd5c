"""How many numbers a network learns."""

from __future__ import annotations

from torch import nn
from torch.nn.parameter import UninitializedParameter

from foveate.errors import FoveateError


def count_parameters(module: nn.Module, *, trainable: bool = False) -> int:
    """The number of scalars in a module's parameters; a parameter that is used in several places counts once.

    Buffers, such as the running statistics of batch normalisation, are no parameters. Some papers count them.

    Args:
        module: Any module, on any device, ``meta`` too.
        trainable: Count only what an optimiser would change, the parameters that require a gradient.

    Raises:
        FoveateError: If a lazy parameter has no shape yet.

    Example:
        >>> net = nn.Conv2d(3, 8, 3)
        >>> count_parameters(net)
        224
        >>> net.weight.requires_grad = False
        >>> count_parameters(net, trainable=True)
        8
    """
    for name, parameter in module.named_parameters():
        if isinstance(parameter, UninitializedParameter):
            raise FoveateError(f"the lazy parameter '{name}' has no shape yet: run the network once, then count")
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trainable)
