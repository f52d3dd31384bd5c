"""A corruption done to one image, and to all images of a split."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import Dataset

from foveate.data.chance import generator
from foveate.data.corruptions.table import CORRUPTIONS, STRENGTHS, Corruption
from foveate.data.samples import Samples
from foveate.errors import DataError, OptionError, check_at_least, check_choice, nearest

SMALLEST = 8
KEPT = ("names", "labels", "boxes", "sizes")


def corrupt(pixels: UInt8[Tensor, "c h w"], name: str, strength: int, draw: torch.Generator) -> UInt8[Tensor, "c h w"]:
    """Do one of foveate's corruptions to an image; it stays as it was.

    Args:
        pixels: Bytes, grey or RGB, no side below 8 pixels. All corruptions apply to one channel as they do to three.
        name: Which, one of :data:`~foveate.data.corruptions.CORRUPTIONS`.
        strength: 1 to 5.
        draw: What chance depends on: an equally seeded generator gives the same image.

    Raises:
        DataError: If it is no such image.
        OptionError: If there is no such corruption or strength.

    Example:
        >>> image = torch.full((3, 32, 32), 128, dtype=torch.uint8)
        >>> foggy = corrupt(image, "fog", 3, generator("corruption", 0))
        >>> foggy.shape, foggy.dtype, bool(foggy.float().mean() > 128)
        (torch.Size([3, 32, 32]), torch.uint8, True)
    """
    corruption = checked(name, strength)
    problem = unfit(pixels)
    if problem:
        raise DataError(f"corruptions are for images of bytes, (1 or 3, height, width), and this one {problem}")
    amount = corruption.amount(strength, min(pixels.shape[1:]))
    changed = corruption.change(pixels.float() / 255, amount, draw)
    return (changed.clamp(0, 1) * 255).round().to(torch.uint8)


def checked(name: str, strength: int) -> Corruption:
    """The corruption of this name, if it has this strength.

    Raises:
        OptionError: If there is none, or not so strong.
    """
    if name not in CORRUPTIONS:
        raise OptionError(f"there is no corruption '{name}'; {nearest(name, CORRUPTIONS)}")
    check_choice("strength", strength, STRENGTHS)
    return CORRUPTIONS[name]


def unfit(pixels: Any) -> str:
    """Why something is no image to corrupt, as the end of a sentence; nothing, if it is one."""
    if not isinstance(pixels, Tensor):
        return f"is a {type(pixels).__name__}"
    shape = tuple(pixels.shape)
    if pixels.dtype != torch.uint8:
        return (
            f"is of {str(pixels.dtype).removeprefix('torch.')}: intensities of scans and volumes have no common scale "
            "on which a strength would mean the same"
        )
    if len(shape) != 3 or shape[0] not in (1, 3):
        return f"has the shape {shape}"
    return f"has a side of {min(shape[1:])} pixels, fewer than {SMALLEST}" if min(shape[1:]) < SMALLEST else ""


class Corrupted(Dataset[Any]):
    """Samples whose images are corrupted; what is to be said of them (class, mask, boxes) and all else stays.

    What happens to an image is a function of seed, its place, name and strength: equal for every network that is looked
    at, in whatever order and in however many processes.

    Args:
        samples: Pairs of an image of bytes and a target, of any kind of data. Volumes and other images of floats are
            refused: their intensities have no common scale on which a strength would mean the same.
        name: Of the corruption.
        strength: 1 to 5.
        seed: Another seed is another draw.

    Raises:
        DataError: If the images cannot be corrupted; also when one is asked for.
        OptionError: If there is no such corruption or strength.

    Example:
        >>> from foveate.data import fashion_mnist
        >>> test = fashion_mnist().test
        >>> blurred = Corrupted(test, "gaussian_blur", 2)
        >>> image, label = blurred[7]
        >>> len(blurred) == len(test), label == test[7][1], torch.equal(image, test[7][0])
        (True, True, False)
    """

    def __init__(self, samples: Samples, name: str, strength: int, seed: int = 0) -> None:
        checked(name, strength)
        check_at_least("seed", seed, 0)
        self.samples, self.name, self.strength, self.seed = samples, name, strength, seed
        if len(samples):
            self._check(samples[0][0], 0)

    def __len__(self) -> int:
        """How many samples."""
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        """An image, corrupted, and its target as it is.

        Raises:
            DataError: If the image cannot be corrupted, or its file is no longer what it was.
        """
        index = range(len(self))[index]  # from the end, too; what is not there raises
        pixels, target = self.samples[index]
        self._check(pixels, index)
        return corrupt(pixels, self.name, self.strength, self.draw(index)), target

    def __getattr__(self, attribute: str) -> Any:
        """What else the samples say of themselves without an image."""
        if attribute not in KEPT:
            raise AttributeError(f"{type(self).__name__} has no {attribute}")
        return getattr(self.samples, attribute)

    def draw(self, index: int) -> torch.Generator:
        """The random stream of a sample."""
        return generator("corruption", self.seed, index, self.name, self.strength)

    def _check(self, pixels: Any, index: int) -> None:
        if problem := unfit(pixels):
            raise DataError(
                f"corruptions are for images of bytes, (1 or 3, height, width), and {self.names[index]} {problem}"
            )
