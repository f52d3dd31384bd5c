"""Attention built again as an adapter's manifest says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from foveate.errors import OptionError
from foveate.registry import Spec
from foveate.surgery.adapters.manifest import SeatEntry
from foveate.surgery.attended import ATTENTION
from foveate.surgery.build import started
from foveate.surgery.request import Factory

Factories = Mapping[str, Factory]


def maker_of(entry: SeatEntry, factories: Factories) -> Spec | Factory:
    """What the attention was made by, or the function of that name.

    Raises:
        OptionError: If it was made by a function that is not given.
    """
    made_by = entry.seat.attention
    if isinstance(made_by, Spec):
        return made_by
    if made_by not in factories:
        raise OptionError(
            f"'{entry.seat.attachment}' was made by the function '{made_by}', which no file holds: give it as "
            f"factories={{'{made_by}': ...}}"
        )
    return factories[made_by]


def made(entry: SeatEntry, factories: Factories) -> nn.Module:
    """The attention, built for its seat and started as it was then."""
    seat, maker = entry.seat, maker_of(entry, factories)
    with torch.random.fork_rng(devices=[]):
        made_for: Any = seat.channels if seat.shape is None else seat.shape
        wide = None if seat.point.partner is None else seat.point.partner.width
        more: dict[str, Any] = {"size": seat.size, "partner_channels": wide}
        module = maker.create(made_for, **more) if isinstance(maker, Spec) else maker(made_for)
        return module if seat.shape is not None else started(module, seat.start)


def prefix_of(entry: SeatEntry) -> str:
    """What the names of its tensors begin with in the folder, as in the attended network's ``state_dict``."""
    return f"{entry.place}.{ATTENTION}.{entry.key}."
