"""A gate for each channel from the means of all channels, as one operation where it was compiled."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foveate.ops.compiled import calls
from foveate.ops.compiled.library import usable

# a layer's weights are read once a sample: from so many on, a matrix product for all samples together is quicker
LARGE = 1 << 17


def squeeze_gate(
    x: Float[Tensor, "b c *positions"], first: nn.Linear, second: nn.Linear, blend: Tensor | None
) -> Float[Tensor, "b c *positions"] | None:
    """The map times ``1 + blend · (σ(second(relu(first(mean)))) - 1)``, a sample at a time while it is in the cache.

    Args:
        x: The map.
        first: From the channels' means to hidden units.
        second: From these to one logit a channel.
        blend: One number; the gates are as they are if ``None``.

    Returns:
        ``None`` where there is no such operation: it was not compiled, gradients are wanted, the map is small, the
        layers are large or of another type.

    Example:
        >>> small = torch.ones(1, 2, 1, 1)
        >>> squeeze_gate(small, nn.Linear(2, 1), nn.Linear(1, 2), None) is None
        True
    """
    if torch.is_grad_enabled() or type(first) is not nn.Linear or type(second) is not nn.Linear:
        return None
    if x.dtype != torch.float32 or first.weight.numel() > LARGE or (kernels := usable(x)) is None:
        return None
    layers = (first.weight, first.bias), (second.weight, second.bias)
    numbers = [part for layer in layers for part in layer if part is not None]  # pyright: ignore
    if any(part.dtype != x.dtype or not part.is_contiguous() for part in numbers):
        return None
    if torch.is_autocast_enabled(x.device.type):
        return None
    return calls.squeeze_gated(kernels, x, *layers, blend)
