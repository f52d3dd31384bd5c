"""An input to watch a network with, where nobody gave one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from foveate import hosts
from foveate.errors import PlaceError
from foveate.surgery.places.watch import watch


def default_example(model: nn.Module) -> Tensor:
    """An input that the usual network of images, signals or volumes runs on.

    It has the channels of the first convolution; where the network does not run on so many, such as one that folds
    positions into channels before it, three.
    """
    like = next((p for p in model.parameters() if p.is_floating_point()), None)
    channels, *sides = hosts.input_shape(model)
    device, dtype = (None, None) if like is None else (like.device, like.dtype)
    guess = torch.zeros(1, channels, *sides, device=device, dtype=dtype)
    if channels > 4:
        try:
            watch(model, guess)
        except PlaceError:
            return torch.zeros(1, 3, *sides, device=device, dtype=dtype)
    return guess
