"""Attention as one heat map an image: what it did to the positions, at one place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from foveate.errors import FoveateError, nearest
from foveate.explain.record import Recording


@dataclass(frozen=True)
class Heats:
    """What attention did to the positions of images, by place, in the order in which the places ran.

    Attributes:
        maps: ``(b, h, w)`` each.
        changed: Whether the maps are logarithms of how a position's share of feature energy changed; otherwise they
            are how much all positions take from each, on average over the relations of a place.
    """

    maps: Mapping[str, Float[Tensor, "b _ _"]]
    changed: bool


def heats(recording: Recording) -> Heats:
    """The maps of all places that have any: of more than one position, and finite.

    How attention changed each position's share of feature energy
    (:attr:`~foveate.explain.Recording.emphasis`) says the same of every kind of attention, and all of what it
    did. Of an affinity that does not return a map like the one it was given, as PSANet's in its own network, it
    is how much all positions together take from each.
    """
    found = {name: one for name, one in recording.emphasis.items() if one.ndim == 3 and one[0].numel() > 1}
    maps = found or _taken(recording)
    return Heats({name: one for name, one in maps.items() if bool(torch.isfinite(one).all())}, bool(found))


def heat(recording: Recording, place: str | None = None) -> Float[Tensor, "b h w"]:
    """One heat map an image, from 0: by which factor attention changed a position's share of feature energy.

    1 is a position that attention leaves as it is, against the mean. Of affinities without such a map, see
    :func:`heats`; what they take with a weight below zero counts as nothing.

    Args:
        recording: What was recorded.
        place: Which of the places; the last, nearest to the answer, if ``None``.

    Raises:
        FoveateError: If no place has such a map, or this one has none.

    Example:
        >>> from foveate import attach, hosts, record
        >>> model = attach(hosts.build("foveate/resnet8", classes=10), "cbam").eval()
        >>> with torch.no_grad(), record(model) as maps:
        ...     scores = model(torch.randn(2, 3, 32, 32))
        >>> heat(maps).shape, float(heat(maps).std())  # attention starts as the identity
        (torch.Size([2, 8, 8]), 0.0)
    """
    found = heats(recording)
    if not found.maps:
        raise FoveateError(
            "what was recorded has no map of positions: attention ran on none, or relates channels or kernels only"
        )
    if place is None:
        place = list(found.maps)[-1]
    if place not in found.maps:
        raise FoveateError(f"no map of positions was recorded at '{place}'; {nearest(place, found.maps)}")
    values = found.maps[place]
    return values.exp() if found.changed else values.clamp_min(0)


def spread(maps: Tensor | Sequence[Tensor], size: tuple[int, int]) -> Float[Tensor, "b h w"]:
    """Maps brought to an image's size: bilinearly, each cell over the part of the image that it covers.

    Raises:
        FoveateError: If a map has values that are not finite numbers.

    Example:
        >>> spread(torch.tensor([[[0.0, 1.0]]]), (1, 4))
        tensor([[[0.0000, 0.2500, 0.7500, 1.0000]]])
    """
    stack = torch.stack([one.detach().cpu().float() for one in maps])
    if not bool(torch.isfinite(stack).all()):
        raise FoveateError("a map has values that are not finite numbers: its positions have no order")
    if stack.shape[1:] == size:
        return stack
    return F.interpolate(stack[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


def _taken(recording: Recording) -> dict[str, Tensor]:
    """What all positions take from each, on average over the relations of a place."""
    taken: dict[str, list[Tensor]] = {}
    for one in recording:
        if one.size is not None and len(one.size) == 2 and "head" not in one.axes:
            taken.setdefault(one.place, []).append(one.received())
    return {place: torch.stack(several).mean(0) for place, several in taken.items()}
