"""How much of an attention map lies where a person would look."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

from foveate.errors import FoveateError


def lesion_focus(mass: Float[Tensor, "*axes"], inside: Bool[Tensor, "*axes"]) -> float | None:
    """The share of a map that lies inside a lesion, beyond what the lesion's size would give.

    0 is chance: a map that is the same everywhere, or knows nothing of the lesion. 1 less the lesion's share of the
    image is the most; below 0 the map avoids the lesion.

    Args:
        mass: Weights of positions from 0, such as a spatial gate; of the emphasis of
            :class:`~foveate.explain.record.Recording`, a logarithm, ``exp`` of it.
        inside: Which positions are in the lesion.

    Returns:
        The focus; ``None`` where there is no lesion, nothing else, or no mass.

    Raises:
        FoveateError: If the two have different shapes, or the map has weights below zero.

    Example:
        >>> import torch
        >>> inside = torch.tensor([True, False, False, False])
        >>> lesion_focus(torch.ones(4), inside), lesion_focus(torch.tensor([3.0, 1.0, 0.0, 0.0]), inside)
        (0.0, 0.5)
    """
    if mass.shape != inside.shape:
        raise FoveateError(f"a map of {tuple(mass.shape)} and a lesion mask of {tuple(inside.shape)} do not fit")
    mass = mass.double()
    if bool((mass < 0).any()):
        raise FoveateError("a map below zero has no share that lies anywhere: give exp of a logarithm")
    total, area = float(mass.sum()), float(inside.double().mean())
    if area in (0.0, 1.0) or not 0 < total < float("inf"):
        return None
    return float(mass[inside].sum()) / total - area
