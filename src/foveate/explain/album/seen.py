"""Images as a network is given them, and which of many are shown: by their names, never by how they look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from foveate.data.masks.segmentation import IGNORE
from foveate.errors import check_at_least
from foveate.explain.focus import inside_boxes

T = TypeVar("T")
MEMORY = 2**29  # bytes of the images of an album, as the network is given them


class Thing(NamedTuple):
    """A thing in a box.

    Attributes:
        box: Left, top, right and bottom, in pixels.
        label: Its class, as the network numbers it.
    """

    box: Float[Tensor, " 4"]
    label: int


Truth = int | Tensor | tuple[Thing, ...]


@dataclass(frozen=True)
class Seen:
    """One image.

    Attributes:
        name: What it is called.
        pixels: What a person sees of what the network is given, as large as that.
        given: The same as the network takes it.
        truth: What a person says is on it: a class's number, the class of each pixel (0 where nothing is, 255 for no
            class), or things in boxes; ``None`` where nobody said.
    """

    name: str
    pixels: UInt8[Tensor, "3 h w"]
    given: Float[Tensor, "c h w"]
    truth: Truth | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels.shape[1], self.pixels.shape[2]

    def region(self) -> Bool[Tensor, "h w"] | None:
        """Which pixels a person marked; ``None`` where the truth has no place."""
        if isinstance(self.truth, Tensor):
            return marked(self.truth)
        if isinstance(self.truth, tuple):
            boxes = [thing.box for thing in self.truth]
            return inside_boxes(torch.stack(boxes), self.size) if boxes else torch.zeros(self.size, dtype=torch.bool)
        return None


@dataclass(frozen=True)
class Left:
    """An image that is not in an album.

    Attributes:
        name: What it is called.
        reason: Why, as the end of a sentence that begins with the name.
    """

    name: str
    reason: str

    def __str__(self) -> str:
        """The sentence."""
        return f"{self.name} {self.reason}"


def evenly(items: Sequence[T], most: int) -> list[T]:
    """So many of a sequence, at even distances, the first among them: a choice that depends on nothing but the order.

    Raises:
        OptionError: If fewer than one is asked for.

    Example:
        >>> evenly("abcdefg", 3)
        ['a', 'c', 'e']
    """
    check_at_least("the number of images", most, 1)
    if len(items) <= most:
        return list(items)
    return [items[number * len(items) // most] for number in range(most)]


def affordable(one: Seen, measured: int) -> int:
    """How many images like one are measured, of so many that are wanted: they take half a gigabyte at most.

    Example:
        >>> affordable(Seen("a", torch.zeros(3, 8, 8).byte(), torch.zeros(3, 8, 8)), 320)
        320
    """
    return max(1, min(measured, MEMORY // (one.given.numel() * one.given.element_size())))


def rule(shown: int, measured: int, there: int) -> str:
    """Which images an album has, as a sentence.

    Example:
        >>> rule(8, 8, 8)
        'All 8 images are shown.'
        >>> rule(8, 64, 100)
        '8 of 100 images are shown, 64 are measured and 36 are left out; both at even distances in the order of their \
names, never by what they look like.'
        >>> rule(1, 1, 1)
        'The only image is shown.'
    """
    if shown == there:
        return f"All {there:,} images are shown." if there > 1 else "The only image is shown."
    are = "is" if shown == 1 else "are"
    left = f" and {there - measured:,} are left out" if measured < there else ""
    parts = f"{shown:,} of {there:,} images {are} shown, {'all' if measured == there else f'{measured:,}'} are measured"
    return f"{parts}{left}; both at even distances in the order of their names, never by what they look like."


def marked(mask: Int[Tensor, "h w"]) -> Bool[Tensor, "h w"]:
    """Which pixels have a class, 0 aside.

    Example:
        >>> marked(torch.tensor([[0, 1, 255]]))
        tensor([[False,  True, False]])
    """
    return (mask > 0) & (mask != IGNORE)


def mask_at(mask: Int[Tensor, "_ _"], size: tuple[int, int]) -> Int[Tensor, "h w"]:
    """A mask at another size: of each pixel the class of the nearest.

    Example:
        >>> mask_at(torch.tensor([[0, 1]]), (1, 4))
        tensor([[0, 0, 1, 1]])
    """
    if tuple(mask.shape) == size:
        return mask
    return F.interpolate(mask[None, None].float(), size=size, mode="nearest-exact")[0, 0].to(mask.dtype)
