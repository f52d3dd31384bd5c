"""A picture of all corruptions at all strengths on one image.

    uv run python tools/corruption_grid.py                      # scikit-image's cat at 224 pixels: docs/images
    uv run python tools/corruption_grid.py IMAGE SIZE OUT.png   # any other image

The photograph is scikit-image's ``chelsea`` by Stéfan van der Walt, CC0.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foveate.data.chance import generator
from foveate.data.corruptions import CORRUPTIONS, STRENGTHS, corrupt

COMMITTED = Path(__file__).parents[1] / "docs/images/corruptions.webp"
CELL, HEAD, GAP = 96, 14, 2


def grid(pixels: Tensor, cell: int = CELL) -> Any:
    """Two columns of corruptions, a row each: the image as it is, and at each strength."""
    from PIL import Image, ImageDraw

    def picture(values: Tensor) -> Image.Image:
        """The middle of it pixel by pixel, or all of it enlarged: noise would vanish in a smaller copy."""
        top, left = (max(0, side - cell) // 2 for side in values.shape[1:])
        part = values[:, top : top + cell, left : left + cell].expand(3, -1, -1).movedim(0, -1).contiguous()
        return Image.fromarray(part.numpy()).resize((cell, cell), Image.Resampling.NEAREST)

    names = list(CORRUPTIONS)
    rows, step = (len(names) + 1) // 2, cell + GAP
    wide = step * (1 + len(STRENGTHS)) + 8
    sheet = Image.new("RGB", (2 * wide - 8, rows * (step + HEAD)), "white")
    draw = ImageDraw.Draw(sheet)
    for number, name in enumerate(names):
        left, top = number // rows * wide, number % rows * (step + HEAD)
        draw.text((left, top + 1), name.replace("_", " "), fill="black")
        for strength in (0, *STRENGTHS):
            random = generator("corruption", 0, 0, name, strength)
            shown = pixels if strength == 0 else corrupt(pixels, name, strength, random)
            sheet.paste(picture(shown), (left + strength * step, top + HEAD))
    return sheet


def main(*given: str) -> None:
    """Write the picture."""
    if given:
        from foveate.data.decode import decode

        path, size, out = given
        grid(decode(Path(path), int(size)).pixels).save(out)
        return
    from skimage import data
    from torch.nn.functional import interpolate

    photo = torch.from_numpy(data.chelsea()).movedim(-1, 0)[:, :300, 60:360]
    square = interpolate(photo[None].float(), (224, 224), mode="bilinear", antialias=True)[0].round().to(torch.uint8)
    grid(square, 88).save(COMMITTED, quality=55, method=6)


if __name__ == "__main__":
    main(*sys.argv[1:])
