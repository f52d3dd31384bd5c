"""A place: a module of the network and the point at it, with the map that was seen there."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from foveate.errors import OptionError, PlaceError
from foveate.surgery.point import Point


@dataclass(frozen=True)
class Place:
    """A point of the network where attention can act.

    Attributes:
        path: The module's path in the network, as the host's ``state_dict`` has it.
        point: Where at the module: its output, an input, its shortcut.
        shape: The feature map's shape when the network was watched: batch, channels, then the axes of positions.
        dtype: Its type.
        device: Where it was.
        stage: Which of the network's resolutions it has, counted from 1 where its stem ends, which is 0; of what stands
            in a convolution's place, the resolution of what that returns.
        partner: The shape of the second map, batch, channels, then positions, of a place for what takes two.
    """

    path: str
    point: Point
    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    stage: int
    partner: tuple[int, ...] | None = None

    @property
    def channels(self) -> int:
        """Channels of the feature map."""
        return self.shape[1]

    @property
    def size(self) -> tuple[int, ...]:
        """The lengths of the feature map's axes of positions, when the network was watched: height and width."""
        return self.shape[2:]

    @property
    def positions(self) -> int:
        """How many positions the feature map has."""
        return math.prod(self.size)

    def __str__(self) -> str:
        """The path, and what at the module is meant if it is not the output."""
        if self.point.side in ("output", "instead"):
            return self.path
        argument = self.point.argument
        what = self.point.side if argument == 0 or self.point.side != "input" else f"input {argument}"
        return f"{self.path} ({what})"


def of_stages(places: list[Place], wanted: int | Iterable[int], count: int) -> list[Place]:
    """The places that lie in the stages wanted, of so many that the network has.

    Raises:
        OptionError: If these are no whole numbers.
        PlaceError: If there is no such stage, or no place that was found lies in one.
    """
    listed = [wanted] if isinstance(wanted, int) else list(wanted) if hasattr(wanted, "__iter__") else []
    if not listed or not all(isinstance(stage, int) for stage in listed):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise OptionError(f"stages are whole numbers, as [3, 4], not {wanted!r}")
    stages = set(listed)
    unknown = sorted(stages - set(range(count + 1)))
    if unknown:
        raise PlaceError(f"there is no stage {unknown[0]}: this network has stages 1 to {count}, and 0 for its stem")
    chosen = [place for place in places if place.stage in stages]
    if not chosen:
        asked, there = (" and ".join(map(str, sorted(one))) for one in (stages, {place.stage for place in places}))
        raise PlaceError(f"none of the places found lies in stage {asked}; they lie in stage {there}")
    return chosen
