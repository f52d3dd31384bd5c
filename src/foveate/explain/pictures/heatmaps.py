"""Maps of positions as panels: over the image, all on one scale."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from foveate.errors import OptionError
from foveate.explain.overlay import Scale, overlay
from foveate.explain.pictures.page import Panel, tile_width
from foveate.explain.pictures.panels import ALPHA, Pixels, fitted, levelled
from foveate.explain.pictures.picture import SHARPNESS

Image = UInt8[Tensor, "c h w"]


def columns_for(count: int) -> int:
    """How many panels stand beside each other: few, so that they are large, and no row with one alone.

    Example:
        >>> [columns_for(count) for count in range(1, 10)]
        [2, 2, 3, 2, 3, 3, 4, 4, 3]
    """
    return {4: 2, 5: 3, 6: 3, 9: 3}.get(count, min(4, max(2, count)))


def heatmaps(
    image: Image | None,
    heats: Sequence[Float[Tensor, "_ _"]],
    scale: Scale,
    *,
    names: Sequence[str],
    notes: Sequence[str] = (),
    rings: Sequence[tuple[tuple[float, float], ...]] = (),
    columns: int | None = None,
    width: int | None = None,
    lines: int | None = None,
    picture: bool = True,
) -> list[Panel]:
    """The image, if there is one, and each map over it; without an image, the maps' own cells.

    Args:
        image: What the maps are of.
        heats: The maps.
        scale: Of all of them.
        names: Above each.
        notes: Below each.
        rings: Points to ring in each.
        columns: How many stand beside each other.
        width: Of each in the layout; what the columns leave if ``None``.
        lines: How many lines their names have room for; what the longest needs if ``None``.
        picture: Whether the image itself stands first.
    """
    check_image(image)
    first = image is not None and picture
    columns = columns or columns_for(len(heats) + first)
    width = width or tile_width(columns)
    every = (["image"] if first else []) + list(names)
    lines = levelled(every, width) if lines is None else lines
    some_notes = list(notes) or [""] * len(heats)
    panels: list[Panel] = []
    if first:
        assert image is not None  # noqa: S101
        shape = _size(image, None, width)
        panels.append(Pixels(fitted(image, *reversed(shape)), width, "image", " " if any(notes) else "", lines=lines))
    for index, heat in enumerate(heats):
        pixels = over(image, heat, width, scale)
        marks = rings[index] if rings else ()
        panels.append(Pixels(pixels, width, names[index], some_notes[index], marks, lines=lines))
    return panels


def over(image: Image | None, heat: Float[Tensor, "_ _"], width: int, scale: Scale) -> UInt8[Tensor, "3 h w"]:
    """One map over its image at the width of a panel, in pixels of a PNG; alone, in sharp cells, without an image."""
    height, across = _size(image, heat, width)
    if image is None:
        cells = F.interpolate(heat[None, None].float(), (height, across), mode="nearest-exact")[0, 0]
        blank = fitted(heat.new_zeros(1, 1, 1).byte(), across, height)
        return overlay(blank, cells, diverging=scale.diverging, alpha=1.0, scale=scale)
    return overlay(fitted(image, across, height), heat, diverging=scale.diverging, alpha=ALPHA, scale=scale)


def widened(scale: Scale, least: float) -> Scale:
    """A scale wide enough that differences too small to matter stay too small to see.

    Example:
        >>> widened(Scale(0.5, 0.52), 0.5)
        Scale(low=0.26, high=0.76, diverging=False)
    """
    if scale.high - scale.low >= least:
        return scale
    middle = (scale.low + scale.high) / 2
    return Scale(middle - least / 2, middle + least / 2, scale.diverging)


def check_image(image: object) -> None:
    """Refuse what is no image to draw on.

    Raises:
        OptionError: With what it is instead.
    """
    if image is not None and not isinstance(image, Tensor):
        raise OptionError(
            f"an image to draw on is a uint8 tensor of shape (1 or 3, height, width), not {type(image).__name__}: make "
            "it one with torchvision.transforms.functional.pil_to_tensor, or torch.from_numpy(array).permute(2, 0, 1)"
        )
    if image is not None and (image.dtype.is_floating_point or image.ndim != 3 or image.shape[0] not in (1, 3)):
        raise OptionError(
            "an image to draw on is uint8 of shape (1 or 3, height, width), as it was before it was normalised, "
            f"not {image.dtype} of shape {tuple(image.shape)}"
        )


def _size(image: Tensor | None, heat: Tensor | None, width: int) -> tuple[int, int]:
    like = image if image is not None else heat
    assert like is not None  # noqa: S101
    height = max(1, round(width * like.shape[-2] / like.shape[-1]))
    return SHARPNESS * height, SHARPNESS * width
