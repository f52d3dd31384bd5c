"""What is drawn of a recording, of one map, or of plain numbers: a value for every position of every sample."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from foveate.errors import FoveateError, OptionError, nearest
from foveate.explain.heat import heats
from foveate.explain.overlay import Scale, scale_of
from foveate.explain.pictures.heatmaps import widened
from foveate.explain.pictures.positions import LEAST, label_of
from foveate.explain.pictures.telling import meaning, multiplies, title_of
from foveate.explain.record import AttentionMap, Recording

CHANGED = (
    "How attention changed each position's share of the feature energy, as the natural logarithm of the factor: red is "
    "more, blue is less, 0 is as before."
)
TAKEN = "How much all positions together take from each, on average."
_WITHIN = 0.98  # of a map's values; a few positions with almost no energy before would leave all others pale
_AXES = {1: "signals", 2: "images", 3: "volumes"}


@dataclass(frozen=True, eq=False)
class Source:
    """One value for every position of every sample.

    Attributes:
        values: The samples first.
        title: Which they are.
        what: What they are, in a sentence.
        label: The same in a few words, beside the colours.
        diverging: Whether zero is in the middle.
    """

    values: Float[Tensor, "b ..."]
    title: str
    what: str
    label: str
    diverging: bool

    def scale(self) -> tuple[Scale, bool]:
        """One scale for all samples, and whether values lie beyond its ends."""
        return scale_for([self.values], diverging=self.diverging)


def scale_for(values: list[Tensor], *, diverging: bool) -> tuple[Scale, bool]:
    """One scale for maps of any sizes, and whether values lie beyond its ends.

    Example:
        >>> import torch
        >>> scale_for([torch.tensor([[-1.0, 0.5]])], diverging=True)
        (Scale(low=-1.0, high=1.0, diverging=True), False)
    """
    own = scale_of(*values, diverging=diverging)
    if not diverging:
        return (own if own.constant else widened(own, 0.0)), False
    # map by map: a small map that changes much has its shades beside large ones that change little
    each = [one.flatten().abs() for one in values]
    limit = max(float(one.kthvalue(math.ceil(_WITHIN * len(one))).values) for one in each)
    limit = max(limit, LEAST / 2)
    return Scale(-limit, limit, diverging=True), limit < own.high


def source_of(
    given: Recording | AttentionMap,
    place: str | None = None,
    *,
    dimensions: int = 2,
    point: tuple[int, int] | None = None,
) -> Source:
    """What is to be drawn.

    Args:
        given: A recording, of which what attention did to positions is taken; or one map of it.
        place: Which place of a recording; the last if ``None``.
        dimensions: How many sides a sample has.
        point: Of a relation of positions, which is asked; the middle if ``None``.

    Raises:
        FoveateError: If there is no such map of positions.
    """
    if isinstance(given, AttentionMap):
        return _of_map(given, dimensions, point)
    found, changed = emphases(given, dimensions)
    if not found:
        raise FoveateError(f"what was recorded has no map of positions of {_AXES[dimensions]}")
    place = place if place is not None else list(found)[-1]
    if place not in found:
        raise FoveateError(f"no map of positions was recorded at '{place}'; {nearest(place, found)}")
    label = "logarithm of the factor" if changed else "weight taken"
    return Source(found[place].float(), place, CHANGED if changed else TAKEN, label, changed)


def emphases(recording: Recording, dimensions: int = 2) -> tuple[Mapping[str, Tensor], bool]:
    """What attention did to positions, by place, in network order, and whether values are logarithms."""
    if dimensions == 2:
        both = heats(recording)
        return both.maps, both.changed
    maps = recording.emphasis.items()
    return {place: one for place, one in maps if one.ndim == 1 + dimensions and bool(one.isfinite().all())}, True


def _of_map(found: AttentionMap, dimensions: int, point: tuple[int, int] | None) -> Source:
    if found.size is not None and len(found.size) == 2 and dimensions == 2:
        row, column = point or (found.size[0] // 2, found.size[1] // 2)
        taken = found.attends_to(row, column).float()
        what = f"What the position in row {row}, column {column} of {found.size[0]}×{found.size[1]} takes from each."
        return Source(taken.mean(1) if taken.ndim == 4 else taken, title_of(found), what, "weight", diverging=False)
    values = found.values.float()
    if point is not None or found.size is not None or values.ndim != 2 + dimensions or values[0, 0].numel() == 1:
        raise OptionError(
            f"'{found.place}' holds no map of positions of {_AXES[dimensions]}; its axes are {found.axes}"
        )
    what = meaning(found) + (f" Mean over {values.shape[1]} channels." if values.shape[1] > 1 else "")
    label = label_of(found) if multiplies(found) else "weight"
    return Source(values.mean(1), title_of(found), what, label, diverging=False)
