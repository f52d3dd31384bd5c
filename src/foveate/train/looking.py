"""Where a trained network looked on one image, of everything that was recorded while it ran."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from foveate.explain.heat import heats
from foveate.explain.record import Recording

Choose = Callable[[Mapping[str, Tensor]], str]


@dataclass(frozen=True)
class Look:
    """What one attended place did to the positions of an image.

    Attributes:
        place: The module.
        heat: One value a position.
        diverging: Whether zero is in the middle: more and less attended than without attention.
    """

    place: str
    heat: Float[Tensor, "h w"]
    diverging: bool


def look_of(maps: Recording, choose: Choose, merge: Callable[[Tensor], Tensor] | None = None) -> Look | None:
    """What attention did to the positions of the first image, at one place; ``None`` where it did nothing to them.

    Which map that is, says :func:`~foveate.explain.heat.heats`.

    Args:
        maps: What was recorded.
        choose: Which of the places is shown, of their maps by name in the order they ran.
        merge: What makes one map of several passes, ``(passes, 1, h, w)``, where an image went through in parts.
    """
    found = heats(maps)
    if not found.maps:
        return None
    place = choose({name: heat[0] for name, heat in found.maps.items()})
    heat = found.maps[place][0] if merge is None else merge(found.maps[place][:, None])[0]
    return Look(place, heat, diverging=found.changed)
