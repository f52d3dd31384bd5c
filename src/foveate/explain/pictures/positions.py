"""Maps of positions over the image: the mean, and what varies most from position to position."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from foveate.explain.overlay import Scale, scale_of
from foveate.explain.pictures.heatmaps import Image, columns_for, heatmaps, widened
from foveate.explain.pictures.numbers import number
from foveate.explain.pictures.page import below, tiles
from foveate.explain.pictures.panels import ALPHA, ColourBar
from foveate.explain.pictures.parts import Parts
from foveate.explain.pictures.telling import (
    NOUNS,
    constant,
    constant_note,
    meaning,
    multiplies,
    nouns,
    scale_note,
    spread_note,
)
from foveate.explain.record import AttentionMap

LEAST = 0.1  # gates that differ by less look alike
SHOWN, BRANCHES = 3, 7  # of channels, slots and groups those that vary most; branches all, or nearly


def positions(
    found: AttentionMap, values: Float[Tensor, "n h w"], image: Image | None, *, scale: Scale | None = None
) -> Parts:
    """A gate of positions, or one for each channel, slot, group or branch at every position."""
    axis = next((axis for axis in found.axes if axis not in "hw"), "c")
    heats, names = _chosen(values, axis, gate=multiplies(found))
    chosen = scale or scale_of(*heats, diverging=False)
    least = LEAST if multiplies(found) else 0.0
    wide = chosen if scale or chosen.constant or constant(values) else widened(chosen, least)
    notes = [f"{number(float(heat.min()))} to {number(float(heat.max()))}" for heat in heats]
    columns = columns_for(len(heats) + (image is not None))
    panels = heatmaps(image, heats, wide, names=names, notes=notes, columns=columns)
    bar = ColourBar(wide, label_of(found), alpha=bar_alpha(image))
    sentences = (
        meaning(found),
        f"Of {len(values)} {nouns(axis)} those are shown that vary most over the image."
        if len(values) > len(heats)
        else "",
        constant_note(values, gate=multiplies(found)),
        scale_note(wide, widened=wide != chosen),
        size_note(values.shape[1:], image),
        spread_note(found),
    )
    low, high = number(float(values.min())), number(float(values.max()))
    where = _where(heats[0])
    alt = f"{len(heats)} maps of {values.shape[1]}×{values.shape[2]} positions, from {low} to {high}; {where}"
    return Parts(below(tiles(panels, columns), tiles([bar], 1)), sentences, alt)


def label_of(found: AttentionMap) -> str:
    """What a colour is, in a few words."""
    return "what the features were multiplied by" if multiplies(found) else "weight"


def bar_alpha(image: Image | None) -> float:
    """The map's share in the colours of a bar: as in the pictures, which without an image are the map alone."""
    return 1.0 if image is None else ALPHA


def size_note(size: Sequence[int], image: Image | None) -> str:
    """How fine the map is, and how it was brought to the image."""
    height, width = size
    return f"The map has {height}×{width} positions{', drawn smoothly over the image' if image is not None else ''}."


def _chosen(values: Tensor, axis: str, *, gate: bool) -> tuple[list[Tensor], list[str]]:
    if len(values) == 1:
        return [values[0]], ["map"]
    most = BRANCHES if axis == "branch" else SHOWN
    varying = values.flatten(1).std(1).argsort(descending=True, stable=True)[:most].tolist()
    if axis == "branch":
        varying.sort()
    heats = [values[index] for index in varying]
    names = [f"{NOUNS.get(axis, axis)} {index}" for index in varying]
    mean = values.mean(0)
    if gate or not constant(mean):  # shares of slots add up to one: their mean says nothing
        heats.insert(0, mean)
        names.insert(0, f"mean of {len(values)}")
    return heats, names


def _where(heat: Tensor) -> str:
    """Where the highest position is, in ninths of the image.

    Example:
        >>> import torch
        >>> _where(torch.eye(3)[:1])
        'highest at the left, in the middle'
    """
    if constant(heat):
        return "the same everywhere"
    height, width = heat.shape
    at = int(heat.argmax())
    down, across = (
        (6 * (at // width) + 3) // (2 * height),
        (6 * (at % width) + 3) // (2 * width),
    )  # thirds of its middle
    side = ("at the left", "in the middle", "at the right")[across]
    level = ("at the top", "in the middle", "at the bottom")[down]
    return "highest in the middle" if side == level else f"highest {side}, {level}"
