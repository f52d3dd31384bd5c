"""Pictures of what a trained network says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from foveate.files import write_atomically

LINE = 15  # height of a line of text, in pixels
SMALLEST = 160  # sides below are enlarged, so that text fits

# Okabe and Ito's colours, which colour-blind people can tell apart (2008), the darkest and lightest left out
COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))


def colour(number: int) -> tuple[int, int, int]:
    """The colour of a class, counted from 0; they come again after seven.

    Example:
        >>> colour(7) == colour(0)
        True
    """
    return COLOURS[number % len(COLOURS)]


def rgb(pixels: UInt8[Tensor, "c h w"]) -> UInt8[Tensor, "3 h w"]:
    """Three channels."""
    return pixels.expand(3, -1, -1) if pixels.shape[0] == 1 else pixels[:3]


def grey(pixels: UInt8[Tensor, "3 h w"]) -> UInt8[Tensor, "1 h w"]:
    """The luma of ITU-R BT.601, as Pillow makes it.

    Example:
        >>> grey(torch.full((3, 1, 1), 7, dtype=torch.uint8)).item()
        7
    """
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    return (pixels * weights).sum(0, keepdim=True).round().to(torch.uint8)


def enlarged(pixels: UInt8[Tensor, "c h w"]) -> UInt8[Tensor, "c h w"]:
    """As many times as large as it takes for text to fit.

    Example:
        >>> enlarged(torch.zeros(3, 28, 28, dtype=torch.uint8)).shape
        torch.Size([3, 168, 168])
    """
    times = -(-SMALLEST // min(pixels.shape[1:]))
    return pixels.repeat_interleave(times, 1).repeat_interleave(times, 2)


def centre_square(pixels: UInt8[Tensor, "c h w"], size: int) -> UInt8[Tensor, "c size size"]:
    """The centre square of an image, at a size."""
    height, width = pixels.shape[1:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = pixels[None, :, top : top + side, left : left + side].float()
    small = F.interpolate(square, (size, size), mode="bilinear", antialias=True, align_corners=False)
    return small[0].round().clamp(0, 255).to(torch.uint8)


def captioned(pixels: UInt8[Tensor, "c h w"], text: str) -> UInt8[Tensor, "3 h w"]:
    """An image with a line of text below it."""
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    image = Image.fromarray(enlarged(rgb(pixels)).permute(1, 2, 0).contiguous().numpy())
    sheet = Image.new("RGB", (image.width, image.height + LINE), "white")
    sheet.paste(image)
    ImageDraw.Draw(sheet).text((3, image.height + 1), text, fill="black", font=ImageFont.load_default())
    return torch.from_numpy(np.array(sheet)).permute(2, 0, 1)


def with_mask(
    pixels: UInt8[Tensor, "c h w"], mask: Int64[Tensor, "h w"], *, background: int | None = 0, strength: float = 0.5
) -> UInt8[Tensor, "3 h w"]:
    """An image with the classes of its pixels as colours; the background's pixels show the image alone.

    Where the background is class 0, class 1 has the first colour.
    """
    shift = 1 if background == 0 else 0
    tints = torch.tensor([colour(number - shift) for number in range(int(mask.max()) + 1)], dtype=torch.float32)
    painted = tints[mask.long()].permute(2, 0, 1)
    share = torch.full(mask.shape, strength)
    if background is not None:
        share[mask == background] = 0.0
    return (rgb(pixels) * (1 - share) + painted * share).round().to(torch.uint8)


def with_boxes(
    pixels: UInt8[Tensor, "c h w"],
    boxes: Float[Tensor, "n 4"],
    numbers: Int64[Tensor, " n"],
    texts: Sequence[str],
) -> UInt8[Tensor, "3 h w"]:
    """An image with boxes, in the colours of their classes, each with a text."""
    from torchvision.utils import draw_bounding_boxes

    if not len(boxes):
        return rgb(pixels)
    colours = [colour(number) for number in numbers.tolist()]
    return draw_bounding_boxes(rgb(pixels).contiguous(), boxes, list(texts), colors=colours, width=2)  # type: ignore[arg-type]


def write_picture(path: Path, pixels: UInt8[Tensor, "c h w"]) -> None:
    """Write a PNG, whole or not at all."""
    import io

    from PIL import Image

    plain = pixels[0] if pixels.shape[0] == 1 else pixels.permute(1, 2, 0)
    content = io.BytesIO()
    Image.fromarray(plain.contiguous().numpy()).save(content, format="PNG")
    write_atomically(path, content.getvalue(), durable=False)
