"""Test images as pictures on a page: at a size to be seen, inside the page, with a class and an answer."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Int64, UInt8
from torch import Tensor

from foveate.errors import MissingExtraError

SMALLEST, LARGEST = 112, 168  # sides of a picture in pixels: a page shows them at about this size


@dataclass(frozen=True)
class Picture:
    """One image, or one map over it.

    Attributes:
        source: A data URI.
        alt: What it shows, in words.
        mark: A point to ring, in percent from the left and from the top.
    """

    source: str
    alt: str
    mark: tuple[float, float] | None = None


@dataclass(frozen=True)
class Answer:
    """One of the images, its class, and what the arm took it for."""

    picture: Picture
    label: str
    prediction: str

    @property
    def right(self) -> bool:
        """Whether the two agree."""
        return self.label == self.prediction


def answers(
    images: UInt8[Tensor, "n c h w"],
    labels: Int64[Tensor, " n"],
    predictions: Int64[Tensor, " n"],
    classes: Sequence[str],
) -> list[Answer]:
    """The images with their classes and an arm's predictions.

    Raises:
        MissingExtraError: If Pillow is not installed.

    Example:
        >>> images = torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
        >>> [answer.right for answer in answers(images, torch.tensor([0, 1]), torch.tensor([0, 0]), ["cat", "dog"])]
        [True, False]
    """
    named = [classes[int(label)] for label in labels]
    guessed = [classes[int(prediction)] for prediction in predictions]
    return [
        Answer(Picture(encoded(shown(image), photo=is_photo(image)), f"test image: {label}"), label, guess)
        for image, label, guess in zip(images, named, guessed, strict=True)
    ]


def shown(image: UInt8[Tensor, "c h w"]) -> UInt8[Tensor, "c hh ww"]:
    """An image at the size of a picture: small ones in whole pixels, so that they are seen as the network gets them.

    Example:
        >>> shown(torch.zeros(1, 28, 28, dtype=torch.uint8)).shape
        torch.Size([1, 112, 112])
        >>> shown(torch.zeros(3, 600, 400, dtype=torch.uint8)).shape
        torch.Size([3, 168, 112])
    """
    side = max(image.shape[1:])
    if side < SMALLEST:
        times = -(-SMALLEST // side)
        return image.repeat_interleave(times, 1).repeat_interleave(times, 2)
    if side <= LARGEST:
        return image
    size = [max(1, round(length * LARGEST / side)) for length in image.shape[1:]]
    small = F.interpolate(image[None].float(), size=size, mode="bilinear", align_corners=False, antialias=True)
    return small[0].round().clamp(0, 255).to(torch.uint8)


def is_photo(image: UInt8[Tensor, "c h w"]) -> bool:
    """Whether an image has too many pixels to look at one by one.

    Example:
        >>> is_photo(torch.zeros(1, 28, 28, dtype=torch.uint8)), is_photo(torch.zeros(3, 224, 224, dtype=torch.uint8))
        (False, True)
    """
    return max(image.shape[1:]) > 64


def encoded(image: UInt8[Tensor, "c h w"], *, photo: bool) -> str:
    """A picture as a data URI: PNG keeps the sharp pixels of small images, JPEG makes photographs ten times smaller.

    Raises:
        MissingExtraError: If Pillow is not installed.

    Example:
        >>> encoded(torch.zeros(1, 2, 2, dtype=torch.uint8), photo=False)[:22]
        'data:image/png;base64,'
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError("pillow", "compare") from error
    pixels = image.permute(1, 2, 0).contiguous().numpy()
    buffer = io.BytesIO()
    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    if photo:
        picture.save(buffer, "JPEG", quality=85)
    else:
        picture.save(buffer, "PNG")
    kind = "jpeg" if photo else "png"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
