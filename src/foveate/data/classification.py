"""Labelled images in three splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from foveate.data.report import DataReport


@runtime_checkable
class Pixels(Protocol):
    """Images by number: a tensor in memory, or files decoded when asked for."""

    def __getitem__(self, index: int, /) -> UInt8[Tensor, "c h w"]:
        """One image."""
        ...


class Images(Dataset[tuple[Tensor, int]]):
    """One split: ``(image, label)`` pairs in a fixed order, the image uint8 ``(c, h, w)``.

    Args:
        pixels: Where the images are; splits of one data set share it.
        indices: Which of them belong to this split.
        labels: The label of each of ``indices``.
        names: What each is called: a path relative to the data's folder.

    Attributes:
        labels: All labels at once, without decoding an image.
        names: All names at once.

    Example:
        >>> pixels = torch.arange(12, dtype=torch.uint8).reshape(3, 1, 2, 2)
        >>> images = Images(pixels, [2, 0], [1, 0], ["c", "a"])
        >>> images[0]
        (tensor([[[ 8,  9],
                 [10, 11]]], dtype=torch.uint8), 1)
        >>> len(images), images.labels, images.names
        (2, tensor([1, 0]), ('c', 'a'))
    """

    labels: Int64[Tensor, " n"]

    def __init__(
        self, pixels: Tensor | Pixels, indices: Sequence[int], labels: Sequence[int], names: Sequence[str]
    ) -> None:
        self._pixels = pixels
        self._indices = tuple(indices)
        self.labels = torch.tensor(labels, dtype=torch.int64)
        self.names = tuple(names)

    def __len__(self) -> int:
        """How many images."""
        return len(self._indices)

    def __getitem__(self, index: int) -> tuple[UInt8[Tensor, "c h w"], int]:
        """One image, the caller's own to change, and its label.

        Raises:
            DataError: If the image is decoded on demand and its file is no longer what it was.
        """
        return self._pixels[self._indices[index]].clone(), int(self.labels[index])

    def take(self, positions: Sequence[int]) -> Images:
        """Some of them, as a split of its own."""
        labels: list[int] = self.labels[list(positions)].tolist()
        return Images(self._pixels, [self._indices[n] for n in positions], labels, [self.names[n] for n in positions])


@dataclass(frozen=True)
class ImageClassification:
    """Images that belong to one of several classes each.

    Attributes:
        name: Of the data, for people.
        classes: The class that each label, 0 upwards, stands for.
        train: To learn from.
        validation: To choose by.
        test: To look at once.
        shape: Channels, height and width of every image.
        fingerprint: Changes with the images, the splits and whatever else changes a pixel; nothing else changes it.
        report: What was left out or changed on the way in.
        official: Splits that the data came with: ``resplit`` leaves them as they are, unless told otherwise. Where
            ``train`` is among them, its samples share parts, and nothing can be dealt anew.
    """

    name: str
    classes: tuple[str, ...]
    train: Images
    validation: Images
    test: Images
    shape: tuple[int, int, int]
    fingerprint: str
    report: DataReport
    official: tuple[str, ...] = ()
