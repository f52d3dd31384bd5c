"""Which place of a network is shown large and measured: the one that does most to positions, on average."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from foveate.errors import FoveateError, nearest
from foveate.explain.album.seen import Seen
from foveate.explain.heat import heats
from foveate.explain.record import record

RULE = "where attention changes positions most, by the standard deviation of its map on average over the images shown"


def telling_place(network: nn.Module, seen: Sequence[Seen], asked: str | None = None) -> str | None:
    """The place; ``None`` where no map has positions.

    Args:
        network: With attention, in evaluation mode.
        seen: The images that are shown.
        asked: A place that was asked for by name.

    Raises:
        FoveateError: If the place that was asked for has no map of positions.
    """
    spreads: dict[str, float] = {}
    for one in seen:
        with torch.no_grad(), record(network) as recording:
            network(one.given[None])
        for place, values in heats(recording).maps.items():
            spreads[place] = spreads.get(place, 0.0) + float(values.std())
    if asked is None:
        return max(spreads, key=lambda place: spreads[place]) if spreads else None
    if asked not in spreads:
        raise FoveateError(f"no map of positions was recorded at '{asked}'; {nearest(asked, spreads)}")
    return asked
