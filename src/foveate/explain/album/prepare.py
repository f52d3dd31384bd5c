"""How pictures of any size become what a network takes: its own square, or the whole picture within a frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from foveate.data.masks.segmentation import IGNORE
from foveate.errors import DataError
from foveate.explain.album.seen import Seen, Thing, Truth, mask_at

Normalise = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Square:
    """The centre square of a picture, at the size that a network takes; what lies outside it is not seen.

    Attributes:
        size: Height and width.
        normalise: From bytes, ``(1, c, h, w)``, to what the network takes.
        channels: Of the picture as it is normalised: 3, or 1 for grey.
    """

    size: tuple[int, int]
    normalise: Normalise
    channels: int = 3

    def __call__(self, name: str, pixels: UInt8[Tensor, "c h w"], truth: Truth | None, /) -> Seen:
        """One picture.

        Raises:
            DataError: If its mask has another shape.

        Example:
            >>> one = Square((4, 4), lambda pixels: pixels / 255)("a", torch.zeros(3, 8, 16, dtype=torch.uint8), 3)
            >>> one.pixels.shape, one.given.shape, one.truth
            (torch.Size([3, 4, 4]), torch.Size([3, 4, 4]), 3)
        """
        height, width = pixels.shape[1:]
        tall, wide = self.size
        scale = min(height / tall, width / wide)
        down, across = max(1, round(tall * scale)), max(1, round(wide * scale))
        top, left = (height - down) // 2, (width - across) // 2
        part = _resized(pixels[:, top : top + down, left : left + across], self.size)
        if isinstance(truth, Tensor):
            _check_shape(name, truth, (height, width))
            whole = mask_at(truth, (height, width))
            truth = mask_at(whole[top : top + down, left : left + across], self.size)
        if isinstance(truth, tuple):
            truth = _moved(truth, (-left, -top), (wide / across, tall / down), self.size)
        seen = grey(part) if self.channels == 1 else part
        return Seen(name, rgb(part if self.channels == 3 else seen), self.normalise(seen[None])[0], truth)


@dataclass(frozen=True)
class Frame:
    """A whole picture in the upper left corner of a frame, made smaller where it is larger; the rest is one colour.

    Attributes:
        size: Height and width of the frame.
        normalise: As in :class:`Square`.
        fill: The colour, red, green and blue in bytes.
    """

    size: tuple[int, int]
    normalise: Normalise
    fill: tuple[int, int, int] = (0, 0, 0)

    def __call__(self, name: str, pixels: UInt8[Tensor, "c h w"], truth: Truth | None, /) -> Seen:
        """One picture.

        Raises:
            DataError: If its mask has another shape.

        Example:
            >>> one = Frame((4, 4), lambda pixels: pixels / 255)("a", torch.ones(3, 4, 8, dtype=torch.uint8), None)
            >>> one.pixels[0].tolist()
            [[1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
        """
        height, width = pixels.shape[1:]
        scale = min(1.0, self.size[0] / height, self.size[1] / width)
        inner = max(1, round(height * scale)), max(1, round(width * scale))
        beyond = (0, self.size[1] - inner[1], 0, self.size[0] - inner[0])
        framed = torch.tensor(self.fill, dtype=torch.uint8)[:, None, None].repeat(1, *self.size)
        framed[:, : inner[0], : inner[1]] = rgb(_resized(pixels, inner))
        if isinstance(truth, Tensor):
            _check_shape(name, truth, (height, width))
            truth = F.pad(mask_at(truth, inner), beyond, value=IGNORE)
        if isinstance(truth, tuple):
            truth = _moved(truth, (0, 0), (inner[1] / width, inner[0] / height), inner)
        return Seen(name, framed, self.normalise(framed[None])[0], truth)


def rgb(pixels: UInt8[Tensor, "c h w"]) -> UInt8[Tensor, "3 h w"]:
    """Three channels."""
    return pixels.expand(3, -1, -1).contiguous() if pixels.shape[0] == 1 else pixels[:3]


def grey(pixels: UInt8[Tensor, "c h w"]) -> UInt8[Tensor, "1 h w"]:
    """One channel: the luma of ITU-R BT.601."""
    if pixels.shape[0] == 1:
        return pixels
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    return (pixels * weights).sum(0, keepdim=True).round().to(torch.uint8)


def _check_shape(name: str, mask: Tensor, size: tuple[int, int]) -> None:
    """Refuse a mask whose sides have another ratio than the picture's."""
    tall, wide = mask.shape
    height, width = size
    # the smaller of the two is the larger one scaled, each side rounded by less than one pixel: then the products
    # differ by less than both sides of the larger one
    if abs(tall * width - wide * height) >= max(height + width, tall + wide):
        raise DataError(
            f"'{name}' is {height} x {width} pixels, and its mask is {tall} x {wide}: a mask has the picture's shape, "
            "turned as the picture is shown"
        )


def _resized(pixels: UInt8[Tensor, "c h w"], size: tuple[int, int]) -> UInt8[Tensor, "c h w"]:
    if tuple(pixels.shape[1:]) == size:
        return pixels
    small: Float[Tensor, "1 c h w"] = F.interpolate(
        pixels[None].float(), size, mode="bilinear", antialias=True, align_corners=False
    )
    return small[0].round().clamp(0, 255).to(torch.uint8)


def _moved(
    things: tuple[Thing, ...], shift: tuple[int, int], scale: tuple[float, float], size: tuple[int, int]
) -> tuple[Thing, ...]:
    """Things where they are now, cut at the edge; those that are wholly outside are gone."""
    moved: list[Thing] = []
    for box, label in things:
        x = ((box[[0, 2]] + shift[0]) * scale[0]).clamp(0, size[1])
        y = ((box[[1, 3]] + shift[1]) * scale[1]).clamp(0, size[0])
        if x[1] > x[0] and y[1] > y[0]:
            moved.append(Thing(torch.stack([x[0], y[0], x[1], y[1]]), label))
    return tuple(moved)
