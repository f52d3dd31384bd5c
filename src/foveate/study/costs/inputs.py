"""What networks are given: larger batches of one sample, and the order in which values lie in memory."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from foveate.errors import OptionError

Inputs = tuple[Any, ...]

CONTIGUOUS, CHANNELS_LAST = "contiguous", "channels_last"
LAYOUTS = (CONTIGUOUS, CHANNELS_LAST)
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def repeated(example: Inputs, batch: int) -> Inputs:
    """A batch made of one sample: tensors along their first axis, lists by their only item; other values stay.

    Args:
        example: What the network takes for one sample: tensors whose first axis is 1, or lists of one item, as
            torchvision's detectors take them.
        batch: How many times.

    Raises:
        OptionError: If an argument is not of one sample.

    Example:
        >>> [part.shape[0] for part in repeated((torch.zeros(1, 3, 8, 8),), 4)]
        [4]
        >>> len(repeated(([torch.zeros(3, 8, 8)],), 4)[0])
        4
    """
    return tuple(_repeated(part, batch) for part in example)


def _repeated(part: Any, batch: int) -> Any:
    if isinstance(part, Tensor) and part.ndim:
        if part.shape[0] != 1:
            raise OptionError(
                f"the example must be of one sample; a tensor of shape {tuple(part.shape)} has {part.shape[0]}: "
                "give its first one, as x[:1]"
            )
        return part.repeat(batch, *[1] * (part.ndim - 1))
    if isinstance(part, list | tuple):
        if len(part) != 1:
            raise OptionError(f"the example must be of one sample; a list of {len(part)} was given")
        return type(part)(copy.deepcopy(part[0]) for _ in range(batch))
    return part


def laid_out(value: Any, layout: str, device: torch.device) -> Any:
    """The same values in a layout and on a device; only maps and volumes of a batch have channels to put last.

    Args:
        value: A tensor, or a list, tuple or dict of some.
        layout: ``"contiguous"`` or ``"channels_last"``.
        device: Where they are to be.
    """
    if isinstance(value, Tensor):
        last = _CHANNELS_LAST.get(value.ndim) if layout == CHANNELS_LAST else None
        return value.detach().to(device).contiguous(memory_format=last or torch.contiguous_format)
    if isinstance(value, list | tuple):
        return type(value)(laid_out(one, layout, device) for one in value)
    if isinstance(value, dict):
        return {name: laid_out(one, layout, device) for name, one in value.items()}
    return value


def copied(network: nn.Module, layout: str, device: torch.device) -> nn.Module:
    """A copy of a network in a layout and on a device; without its gradients; the network itself stays."""
    twin = copy.deepcopy(network).to(device)
    for tensor in (*twin.parameters(), *twin.buffers()):
        tensor.data = laid_out(tensor.data, layout, device)
    return twin
