"""Where a trained network looked on one image, of everything that was recorded while it ran."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

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

    That is how it changed each position's share of feature energy; of an affinity that does not return a map like the
    one it was given, as PSANet's in its own network, how much all positions together take from each.

    Args:
        maps: What was recorded.
        choose: Which of the places is shown, of their maps by name in the order they ran.
        merge: What makes one map of several passes, ``(passes, 1, h, w)``, where an image went through in parts.
    """
    changed = {name: heat for name, heat in maps.emphasis.items() if heat.ndim == 3 and heat[0].numel() > 1}
    heats = changed or _taken(maps)
    heats = {name: heat for name, heat in heats.items() if bool(torch.isfinite(heat).all())}
    if not heats:
        return None
    place = choose({name: heat[0] for name, heat in heats.items()})
    heat = heats[place][0] if merge is None else merge(heats[place][:, None])[0]
    return Look(place, heat, diverging=bool(changed))


def _taken(maps: Recording) -> dict[str, Tensor]:
    """What all positions take from each, on average over the relations of a place."""
    taken: dict[str, list[Tensor]] = {}
    for one in maps:
        if one.size is not None and len(one.size) == 2 and one.values.ndim == 3:
            taken.setdefault(one.place, []).append(one.values.mean(2).unflatten(1, one.size))
    return {place: torch.stack(several).mean(0) for place, several in taken.items()}
