"""Images with a mask each, in three splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import Dataset

from foveate.data.masks.report import MaskReport

IGNORE = 255  # the number of pixels that belong to no class and count for nothing

Pair = tuple[UInt8[Tensor, "3 h w"], UInt8[Tensor, "h w"]]


@runtime_checkable
class Pairs(Protocol):
    """Images and masks by number: in memory, or decoded when asked for."""

    def __getitem__(self, index: int, /) -> Pair:
        """One image and its mask."""
        ...


class MaskedImages(Dataset[Pair]):
    """One split: ``(image, mask)`` pairs in a fixed order, each at a size of its own.

    Args:
        pairs: Where they are; splits of one data set share it.
        indices: Which of them belong to this split.
        names: What each is called: the image's path relative to the data's folder.

    Attributes:
        names: All names at once.

    Example:
        >>> import torch
        >>> pair = torch.zeros(3, 2, 2, dtype=torch.uint8), torch.tensor([[0, 1], [1, 255]], dtype=torch.uint8)
        >>> images = MaskedImages([pair], [0], ["a.png"])
        >>> len(images), images[0][1].tolist()
        (1, [[0, 1], [1, 255]])
    """

    def __init__(self, pairs: Sequence[Pair] | Pairs, indices: Sequence[int], names: Sequence[str]) -> None:
        self._pairs = pairs
        self._indices = tuple(indices)
        self.names = tuple(names)

    def __len__(self) -> int:
        """How many images."""
        return len(self._indices)

    def __getitem__(self, index: int) -> Pair:
        """One image and the class of each of its pixels, the caller's own to change.

        Raises:
            DataError: If they are decoded on demand and a file is no longer what it was.
        """
        pixels, mask = self._pairs[self._indices[index]]
        return pixels.clone(), mask.clone()

    def take(self, positions: Sequence[int]) -> MaskedImages:
        """Some of them, as a split of its own."""
        return MaskedImages(self._pairs, [self._indices[n] for n in positions], [self.names[n] for n in positions])


@dataclass(frozen=True)
class Segmentation:
    """Images whose pixels belong to one of several classes each.

    Attributes:
        name: Of the data, for people.
        classes: The class that each number of a mask, 0 upwards, stands for; :data:`IGNORE` stands for none of them.
        train: To learn from.
        validation: To choose by.
        test: To look at once.
        side: The median of the images' shorter sides, in pixels.
        fingerprint: Changes with the images, the masks, the splits and whatever else changes a pixel.
        report: What was left out or changed on the way in.
        official: Splits that the data came with: ``resplit`` leaves them as they are, unless told otherwise. Where
            ``train`` is among them, its samples share parts, and nothing can be dealt anew.
    """

    name: str
    classes: tuple[str, ...]
    train: MaskedImages
    validation: MaskedImages
    test: MaskedImages
    side: int
    fingerprint: str
    report: MaskReport
    official: tuple[str, ...] = ()
