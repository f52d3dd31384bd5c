"""How much of a map lies where a person would look: in a lesion, a box, a mask.

===============  ========================================================================  =======================
measure          what it asks                                                              at chance
===============  ========================================================================  =======================
`pointing_hit`   is the highest position inside, or nearly (the pointing game)             the region's share
`mass_inside`    which share of the map is inside (the energy-based pointing game)         the region's share
`rank_accuracy`  which share of as many highest positions as it has is inside              the region's share
`lesion_focus`   `mass_inside`, beyond what the region's size would give                   0
===============  ========================================================================  =======================

The pointing game is of Zhang et al. (IJCV 2018), the energy-based one of Wang et al. (Score-CAM, CVPRW 2020), mass
and rank accuracy of Arras et al. (Information Fusion 2022). Where values of a map are equal, each of them counts as
likely as the others, so that a map that is the same everywhere has the value of chance, exactly.
:func:`centre_bias` is the map of somebody who looks at the middle of any image; photographs make it hard to beat.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from foveate.errors import FoveateError, MissingExtraError, OptionError


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
        >>> inside = torch.tensor([True, False, False, False])
        >>> lesion_focus(torch.ones(4), inside), lesion_focus(torch.tensor([3.0, 1.0, 0.0, 0.0]), inside)
        (0.0, 0.5)
    """
    share = mass_inside(mass, inside)
    return None if share is None else share - float(inside.double().mean())


def mass_inside(mass: Float[Tensor, "*axes"], inside: Bool[Tensor, "*axes"]) -> float | None:
    """The share of a map that lies inside a region.

    Args:
        mass: Weights of positions, from 0.
        inside: Which positions are in the region.

    Returns:
        From 0 to 1; ``None`` where there is no region, nothing else, or no mass.

    Raises:
        FoveateError: If the two have different shapes, or the map has weights below zero.

    Example:
        >>> mass_inside(torch.tensor([3.0, 1.0]), torch.tensor([True, False]))
        0.75
    """
    _check_pair(mass, inside)
    mass = mass.double()
    if bool((mass < 0).any()):
        raise FoveateError("a map below zero has no share that lies anywhere: give exp of a logarithm")
    total = float(mass.sum())
    if not _tells(inside) or not 0 < total < float("inf"):
        return None
    return float(mass[inside].sum()) / total


def pointing_hit(heat: Float[Tensor, "h w"], inside: Bool[Tensor, "h w"], *, tolerance: float = 0.0) -> float | None:
    """Whether the highest position of a map lies inside a region, or not farther from it than a tolerance.

    Args:
        heat: A map; only its order counts.
        inside: Which positions are in the region.
        tolerance: How far outside still counts, in positions of the map. The game's authors take 15 pixels.

    Returns:
        1 or 0, between them the share of hits among positions that are highest alike; ``None`` where there is no
        region or nothing else.

    Raises:
        FoveateError: If the two have different shapes.
        MissingExtraError: If scipy is not installed, which measures distances.

    Example:
        >>> inside = torch.tensor([[True, False, False]])
        >>> heat = torch.tensor([[0.0, 2.0, 1.0]])
        >>> pointing_hit(heat, inside), pointing_hit(heat, inside, tolerance=1)
        (0.0, 1.0)
    """
    _check_pair(heat, inside)
    if tolerance < 0:
        raise OptionError(f"a tolerance is a distance from 0, not {tolerance!r}")
    if not _tells(inside):
        return None
    near = _within(inside, tolerance) if tolerance > 0 else inside
    return float(near[heat == heat.max()].double().mean())


def rank_accuracy(heat: Float[Tensor, "*axes"], inside: Bool[Tensor, "*axes"]) -> float | None:
    """The share of the highest positions of a map, as many as a region has, that lie inside it.

    Args:
        heat: A map; only its order counts.
        inside: Which positions are in the region.

    Returns:
        From 0 to 1, on average over the orders that positions of equal values can have; ``None`` where there is no
        region or nothing else.

    Raises:
        FoveateError: If the two have different shapes.

    Example:
        >>> inside = torch.tensor([True, True, False, False])
        >>> rank_accuracy(torch.tensor([4.0, 1.0, 2.0, 0.0]), inside), rank_accuracy(torch.ones(4), inside)
        (0.5, 0.5)
    """
    _check_pair(heat, inside)
    if not _tells(inside):
        return None
    count = int(inside.sum())
    last = heat.flatten().sort(descending=True).values[count - 1]
    above, level = heat > last, heat == last
    share = (count - int(above.sum())) / int(level.sum())  # of those on the threshold that are taken
    return (int(inside[above].sum()) + share * int(inside[level].sum())) / count


def centre_bias(height: int, width: int) -> Float[Tensor, "h w"]:
    """A Gaussian in the middle of an image, its deviation a quarter of each side.

    Example:
        >>> centre_bias(3, 3)[1]
        tensor([0.4111, 1.0000, 0.4111])
    """
    down, across = (((torch.arange(side) + 0.5) / side - 0.5) * 4 for side in (height, width))
    return torch.exp(-(down[:, None] ** 2 + across[None] ** 2) / 2)


def inside_boxes(boxes: Float[Tensor, "n 4"], size: tuple[int, int]) -> Bool[Tensor, "h w"]:
    """The pixels whose middle lies in any of some boxes, corners as x, y, x, y.

    Example:
        >>> inside_boxes(torch.tensor([[1.0, 0.0, 3.0, 1.0]]), (2, 4)).int()
        tensor([[0, 1, 1, 0],
                [0, 0, 0, 0]], dtype=torch.int32)
    """
    y, x = (torch.arange(side) + 0.5 for side in size)
    left, top, right, bottom = (edge[:, None] for edge in boxes.cpu().float().unbind(1))
    down, across = (top <= y) & (y < bottom), (left <= x) & (x < right)
    return (down[:, :, None] & across[:, None, :]).any(0)


def _tells(inside: Tensor) -> bool:
    """Whether there is a region, and something else."""
    return bool(inside.any()) and not bool(inside.all())


def _check_pair(heat: Tensor, inside: Tensor) -> None:
    if heat.shape != inside.shape:
        raise FoveateError(f"a map of {tuple(heat.shape)} and a region of {tuple(inside.shape)} do not fit")


def _within(inside: Tensor, tolerance: float) -> Tensor:
    try:
        from scipy.ndimage import distance_transform_edt
    except ImportError as error:
        raise MissingExtraError("scipy", "explain") from error
    return torch.from_numpy(distance_transform_edt(~inside.cpu().numpy())) <= tolerance
