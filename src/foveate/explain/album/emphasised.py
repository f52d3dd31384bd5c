"""The most telling map of an image, large: what attention at one place did to positions."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from foveate.errors import FoveateError
from foveate.explain.album.seen import Seen
from foveate.explain.heat import heats
from foveate.explain.overlay import Scale
from foveate.explain.pictures import Picture
from foveate.explain.pictures.heatmaps import heatmaps
from foveate.explain.pictures.page import below, tiles
from foveate.explain.pictures.panels import ColourBar
from foveate.explain.pictures.picture import said
from foveate.explain.pictures.sources import scale_for
from foveate.explain.record import Recording

CHANGED = (
    "By how much attention changed each position's share of the feature energy, as a natural logarithm: 0.69 is twice "
    "the share, 0 no change. What was done to the features, not why the network decided."
)
TAKEN = (
    "How much all positions together take from each, on average. What was done to the features, not why the network "
    "decided."
)


def emphasised(recording: Recording, place: str, one: Seen, *, prediction: object, label: object = None) -> Picture:
    """The picture.

    Args:
        recording: Of this image alone.
        place: A place that has a map of positions.
        one: The image.
        prediction: What the network says of it.
        label: What a person says.

    Raises:
        FoveateError: If the map of this image has values that are not finite numbers.
    """
    found = heats(recording)
    if place not in found.maps:
        raise FoveateError(f"the map at '{place}' has values that are not finite numbers")
    heat = found.maps[place][0]
    scale, bounded = scale_for([heat], diverging=found.changed)
    words: dict[str, Any] = {"names": ["what attention did"], "columns": 2}
    panels = heatmaps(one.pixels, [heat], scale, **words)
    bar = ColourBar(scale, "less and more of the feature energy" if found.changed else "weight", bounded=bounded)
    low, high = float(heat.min()), float(heat.max())
    return Picture(
        title=f"{place}: what attention did to positions",
        caption=f"{CHANGED if found.changed else TAKEN} On this image from {low:.3g} to {high:.3g}.",
        alt=f"{one.name}: the map at {place} over the image, from {low:.3g} to {high:.3g}.",
        answer=said(prediction, label),
        panels=below(tiles(panels, 2), tiles([bar], 1)),
    )


def activated(one: Seen, cam: Tensor, *, attention: bool, prediction: object, label: object = None) -> Picture:
    """Grad-CAM alone, where there is no map of attention to stand beside it.

    Args:
        one: The image.
        cam: Its map, from 0 to 1.
        attention: Whether the network has attention, without a map of positions.
        prediction: What the network says of it.
        label: What a person says.
    """
    panels = heatmaps(one.pixels, [cam], Scale(0.0, 1.0), names=["Grad-CAM"], columns=2)
    why = "No map of positions was recorded of its attention." if attention else "This network has no attention."
    bar = ColourBar(Scale(0.0, 1.0), "what speaks for the answer, of the most")
    return Picture(
        title="Grad-CAM",
        caption=f"Which positions of the last features speak for the answer. {why}",
        alt=f"{one.name}: Grad-CAM over the image.",
        answer=said(prediction, label),
        panels=below(tiles(panels, 2), tiles([bar], 1)),
    )
