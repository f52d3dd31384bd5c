"""What a network says of an image of any size, window by window, and what its attention does there."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from foveate.data.medical.scans import imported
from foveate.explain import record

OVERLAP = 0.25
AT_ONCE = 4
STEP = 16


def said_of(
    network: nn.Module, image: Float[Tensor, "1 c ..."], most: int, *, attention: bool = False
) -> tuple[Float[Tensor, "1 classes ..."], dict[str, Float[Tensor, ...]]]:
    """Logits of every position of an image, from overlapping windows that count most in their middle.

    Args:
        network: From windows to logits.
        image: Normalised.
        most: The longest side of a window; images that are shorter are one window, padded to a multiple of 16.
        attention: Whether to say also how each attended place changed every position's share of feature energy, as
            :attr:`foveate.explain.record.Recording.emphasis`, laid over the image.

    Returns:
        Logits, and the changes by place; none where they were not asked for.
    """
    sides = tuple(min(most, -(-side // STEP) * STEP) for side in image.shape[2:])
    inferers, places = imported("monai.inferers"), list[str]()

    def window(x: Tensor) -> tuple[Tensor, ...]:
        with record(network) if attention else nullcontext() as maps:
            logits: Tensor = network(x)
        found = {} if maps is None else {place: unfolded(one, x.shape[2:]) for place, one in maps.emphasis.items()}
        places[:] = [place for place, change in found.items() if change.ndim == x.ndim - 1]
        mode = "bilinear" if x.ndim == 4 else "trilinear"
        laid = [F.interpolate(found[place][:, None].to(x), x.shape[2:], mode=mode) for place in places]
        return (logits, *laid)

    answer: Any = inferers.sliding_window_inference(image, sides, AT_ONCE, window, overlap=OVERLAP, mode="gaussian")
    logits, *changes = answer if isinstance(answer, tuple) else (answer,)
    return logits, {place: change[0, 0].float().cpu() for place, change in zip(places, changes, strict=True)}


def unfolded(change: Float[Tensor, "b ..."], sides: Sequence[int]) -> Float[Tensor, "b ..."]:
    """Changes of the positions of a volume, which mechanisms without an order of positions see as one tall image.

    Example:
        >>> import torch
        >>> unfolded(torch.zeros(1, 24, 8), (8, 12, 16)).shape
        torch.Size([1, 4, 6, 8])
    """
    deep, high = (round(side * change.shape[-1] / sides[-1]) for side in (sides[0], sides[-2]))
    tall = len(sides) == 3 and change.ndim == 3 and change.shape[1] == deep * high
    return change.unflatten(1, (deep, high)) if tall else change
