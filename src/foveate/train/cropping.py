"""Images and masks changed alike by chance: scaled, cut out, mirrored, coloured."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from foveate.data.chance import between, chosen, whole
from foveate.data.masks.segmentation import IGNORE, Pair
from foveate.train.pixels import jitter_colours


def changed(
    pair: Pair, side: int, *, scale: float, colours: float, fill: Sequence[int], draw: torch.Generator
) -> Pair:  # fmt: skip
    """A square cut out of an image and its mask at a scale by chance, mirrored by chance, colours changed.

    Args:
        pair: Image and mask.
        side: Of the square.
        scale: The image is made larger or smaller by up to this factor, each ratio as likely.
        colours: See :func:`~foveate.train.pixels.jitter_colours`; 0 for none.
        fill: The colour beyond the image; no class is there.
        draw: What chance draws from.

    Example:
        >>> from foveate.data.chance import generator
        >>> pair = torch.zeros(3, 40, 50, dtype=torch.uint8), torch.ones(40, 50, dtype=torch.uint8)
        >>> pixels, mask = changed(pair, 32, scale=2, colours=0, fill=(9, 9, 9), draw=generator("crop"))
        >>> pixels.shape, mask.shape
        (torch.Size([3, 32, 32]), torch.Size([32, 32]))
    """
    pixels, mask = resized(pair, scale ** between(-1, 1, draw))
    pixels, mask = padded((pixels, mask), side, fill)
    top, left = whole(mask.shape[0] - side + 1, draw), whole(mask.shape[1] - side + 1, draw)
    pixels, mask = pixels[:, top : top + side, left : left + side], mask[top : top + side, left : left + side]
    if chosen(0.5, draw):
        pixels, mask = pixels.flip(2), mask.flip(1)
    return (jitter_colours(pixels, colours, draw) if colours else pixels), mask


def centred(pair: Pair, side: int, fill: Sequence[int]) -> Pair:
    """The square in the middle of an image and its mask."""
    pixels, mask = padded(pair, side, fill)
    top, left = ((length - side) // 2 for length in mask.shape)
    return pixels[:, top : top + side, left : left + side], mask[top : top + side, left : left + side]


def resized(pair: Pair, factor: float) -> Pair:
    """Both larger or smaller by a factor; a pixel of the mask keeps the class of the nearest.

    Example:
        >>> mask = torch.tensor([[0, 5]], dtype=torch.uint8)
        >>> resized((torch.zeros(3, 1, 2, dtype=torch.uint8), mask), 2)[1].tolist()
        [[0, 0, 5, 5], [0, 0, 5, 5]]
    """
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as tv

    pixels, mask = pair
    size = [max(1, round(length * factor)) for length in mask.shape]
    return (
        tv.resize(pixels, size, interpolation=InterpolationMode.BILINEAR, antialias=True),
        tv.resize(mask[None], size, interpolation=InterpolationMode.NEAREST_EXACT)[0],
    )


def padded(pair: Pair, side: int, fill: Sequence[int]) -> Pair:
    """Both at least as large as a square, a colour and no class below and to the right."""
    pixels, mask = pair
    height, width = mask.shape
    rows, columns = max(side, height), max(side, width)
    if (rows, columns) == (height, width):
        return pair
    larger = torch.tensor(fill, dtype=torch.uint8)[:, None, None].repeat(1, rows, columns)
    classes = torch.full((rows, columns), IGNORE, dtype=torch.uint8)
    larger[:, :height, :width], classes[:height, :width] = pixels, mask
    return larger, classes
