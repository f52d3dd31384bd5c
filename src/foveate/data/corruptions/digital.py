"""Digital: what cameras, files and networks do to values."""

from __future__ import annotations

import io

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from foveate.errors import MissingExtraError


def contrast(image: Float[Tensor, "c h w"], kept: float, draw: torch.Generator) -> Float[Tensor, "c h w"]:  # noqa: ARG001
    """All values drawn towards the mean of the image; this share of their distance is left."""
    mean = image.mean()
    return mean + kept * (image - mean)


def jpeg(image: Float[Tensor, "c h w"], coarseness: float, draw: torch.Generator) -> Float[Tensor, "c h w"]:  # noqa: ARG001
    """Written as JPEG and read again, its quantisation tables the standard's times this factor.

    Raises:
        MissingExtraError: If Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError("pillow", "data") from error
    # the quality for which libjpeg multiplies its tables by the factor
    quality = round(50 / coarseness if coarseness > 1 else 100 - 50 * coarseness)
    values = (image * 255).round().to(torch.uint8)
    pixels = values.movedim(0, -1).contiguous().numpy() if values.shape[0] == 3 else values[0].numpy()
    with io.BytesIO() as file:
        Image.fromarray(pixels).save(file, "JPEG", quality=max(1, quality))
        read = Image.open(file)
        content = torch.frombuffer(bytearray(read.tobytes()), dtype=torch.uint8)
    return content.reshape(*image.shape[1:], image.shape[0]).movedim(-1, 0) / 255


def pixelate(image: Float[Tensor, "c h w"], kept: float, draw: torch.Generator) -> Float[Tensor, "c h w"]:  # noqa: ARG001
    """Averaged to this share of its height and width, one pixel fewer at least, and enlarged without smoothing."""
    height, width = image.shape[1:]
    rows, columns = (_cells(side, max(1, min(side - 1, round(side * kept)))) for side in (height, width))
    return F.interpolate((rows @ image @ columns.T)[None], (height, width), mode="nearest-exact")[0]


def _cells(side: int, count: int) -> Float[Tensor, "count side"]:
    """How much each of some pixels adds to each of fewer cells of equal size: the share of the cell it covers."""
    edges = torch.arange(count + 1, dtype=torch.float64) * side / count
    pixels = torch.arange(side)
    covered = torch.minimum(edges[1:, None], pixels + 1) - torch.maximum(edges[:-1, None], pixels)
    return (covered.clamp(min=0) * count / side).float()


def quantise(image: Float[Tensor, "c h w"], levels: float, draw: torch.Generator) -> Float[Tensor, "c h w"]:  # noqa: ARG001
    """Every value rounded to one of this many levels, black and white among them; of grey, where there is no colour."""
    steps = round(levels) - 1
    return (image * steps).round() / steps
