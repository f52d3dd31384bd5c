"""Asking an affinity about one position: where does it look, and who looks at it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from jaxtyping import UInt8
from torch import Tensor

from foveate.app.looking import Seen, name_of
from foveate.errors import FoveateError
from foveate.explain import AttentionMap, overlay
from foveate.explain.overlay import scale_of
from foveate.train.drawing import enlarged, rgb

LOOKS, LOOKED_AT = "where this position looks", "who looks at this position"
SMALLEST = 320  # pixels of the picture that is pointed at


@dataclass(frozen=True)
class Asked:
    """What an affinity says of one position.

    Attributes:
        picture: The weights over the picture.
        row: The position's, of the map.
        column: The position's.
        size: The map's height and width.
        words: What is shown.
    """

    picture: UInt8[Tensor, "3 h w"]
    row: int
    column: int
    size: tuple[int, int]
    words: str


def affinities(seen: Seen) -> dict[str, int]:
    """The maps that relate positions, by name, with their number in the recording."""
    return {name_of(one): number for number, one in enumerate(seen.maps or ()) if len(one.size or ()) == 2}


def ask(seen: Seen, name: str, across: float, down: float, which: str) -> Asked:
    """Ask one map about the position at a place in the picture.

    Args:
        seen: The picture, as the network saw it.
        name: Of the map.
        across: From the left edge, from 0 to 1.
        down: From the upper edge, from 0 to 1.
        which: :data:`LOOKS` or :data:`LOOKED_AT`.

    Raises:
        FoveateError: If there is no such map, or no such place.
    """
    if not (math.isfinite(across) and math.isfinite(down)):
        raise FoveateError("a place in a picture is two shares of its sides, from 0 to 1")
    height, width = _sides(_affinity(seen, name))
    return ask_cell(seen, name, int(down * height), int(across * width), which)


def ask_cell(seen: Seen, name: str, row: int, column: int, which: str) -> Asked:
    """Ask one map about a position of its own; the nearest there is.

    Raises:
        FoveateError: If there is no such map.
    """
    one = _affinity(seen, name)
    height, width = _sides(one)
    row, column = min(height - 1, max(0, row)), min(width - 1, max(0, column))
    weights = (one.attended_by if which == LOOKED_AT else one.attends_to)(row, column)[0]
    heads = ", mean of its heads" if weights.ndim == 3 else ""
    weights = weights.mean(0) if weights.ndim == 3 else weights
    scale = scale_of(weights)
    words = (
        f"{name}{heads}: {which}. Row {row + 1} of {height}, column {column + 1} of {width}. "
        f"Weights {scale.note()}; they add up to {float(weights.sum()):.3g}, evenly spread each would be "
        f"{float(weights.mean()):.2g}."
    )
    return Asked(overlay(_large(rgb(seen.pixels)), weights, scale=scale), row, column, (height, width), words)


def _affinity(seen: Seen, name: str) -> AttentionMap:
    known = affinities(seen)
    if seen.maps is None or name not in known:
        raise FoveateError("this network has no such map that relates positions: press Look again")
    return seen.maps[known[name]]


def _sides(one: AttentionMap) -> tuple[int, int]:
    assert one.size is not None  # noqa: S101 (it is an affinity of positions)
    return one.size[0], one.size[1]


def _large(pixels: UInt8[Tensor, "3 h w"]) -> UInt8[Tensor, "3 h w"]:
    pixels = enlarged(pixels)
    times = -(-SMALLEST // min(pixels.shape[1:]))
    return pixels.repeat_interleave(times, 1).repeat_interleave(times, 2) if times > 1 else pixels
