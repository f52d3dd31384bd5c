"""Images with boxes, in three splits, and what happened to them on the way in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from foveate.data.classification import Pixels
from foveate.data.report import SHOWN_CLASSES, LeftOut, left_out


class Boxes(NamedTuple):
    """What is on one image.

    Attributes:
        boxes: Left, top, right and bottom edge of each thing, in pixels from the image's left upper corner: a box that
            covers the first pixel alone is (0, 0, 1, 1).
        labels: The class of each, 0 upwards.
        crowd: Whether a box is of a group that nobody counted, or of a thing that nobody can be expected to find:
            neither learned from nor counted against a network that finds it or does not.
    """

    boxes: Float[Tensor, "n 4"]
    labels: Int64[Tensor, " n"]
    crowd: Bool[Tensor, " n"]


class BoxImages(Dataset[tuple[Tensor, Boxes]]):
    """One split: ``(image, boxes)`` pairs in a fixed order, the image uint8 ``(3, h, w)``, of any size.

    Args:
        pixels: Where the images are; splits of one data set share it.
        indices: Which of them belong to this split.
        boxes: What is on each of ``indices``.
        names: What each is called: a path relative to the data's folder.
        sizes: Height and width of each.

    Attributes:
        boxes: Of all images at once, without decoding one.
        names: All names at once.
        sizes: All sizes at once.
    """

    def __init__(
        self,
        pixels: Pixels,
        indices: Sequence[int],
        boxes: Sequence[Boxes],
        names: Sequence[str],
        sizes: Sequence[tuple[int, int]],
    ) -> None:
        self._pixels, self._indices = pixels, tuple(indices)
        self.boxes, self.names, self.sizes = tuple(boxes), tuple(names), tuple(sizes)

    def __len__(self) -> int:
        """How many images."""
        return len(self._indices)

    def __getitem__(self, index: int) -> tuple[UInt8[Tensor, "3 h w"], Boxes]:
        """One image and what is on it, the caller's own to change.

        Raises:
            DataError: If the file is no longer what it was.
        """
        image = self._pixels[self._indices[index]].clone()
        return image, Boxes(*(part.clone() for part in self.boxes[index]))

    def take(self, positions: Sequence[int]) -> BoxImages:
        """Some of them, as a split of its own."""
        return BoxImages(
            self._pixels,
            [self._indices[n] for n in positions],
            [self.boxes[n] for n in positions],
            [self.names[n] for n in positions],
            [self.sizes[n] for n in positions],
        )


@dataclass(frozen=True)
class BoxReport:
    r"""What was read, what was left out and what was changed.

    Attributes:
        name: Of the data.
        images: Images by split.
        empty: Of them, those on which nothing is: they teach what is no thing.
        counts: Boxes by split, then by class, those of crowds left out.
        split: How the splits came to be, as a sentence.
        conventions: How the numbers in the annotations were understood, as sentences.
        skipped: Images and annotations that cannot be used.
        ignored: Files that were not read.
        dropped: Boxes that cannot be used, each by its image.
        changed: What was done to how many boxes or images.
        warnings: What a person should know before believing a result.

    Example:
        >>> counts = {"train": {"cat": 8}, "validation": {"cat": 2}, "test": {"cat": 1}}
        >>> images = {"train": 5, "validation": 2, "test": 1}
        >>> report = BoxReport("pets", images, {"train": 1}, counts, "as given", dropped=(LeftOut("1.jpg", "has …"),))
        >>> print("\n".join(report.lines()))
        pets: 8 images with 11 boxes of 1 classes
        split: as given
                     train  validation        test
        images           5           2           1
        empty            1           0           0
        cat              8           2           1
        dropped: 1 box
          1.jpg has …
    """

    name: str
    images: Mapping[str, int]
    empty: Mapping[str, int]
    counts: Mapping[str, Mapping[str, int]]
    split: str
    conventions: tuple[str, ...] = ()
    skipped: tuple[LeftOut, ...] = ()
    ignored: tuple[LeftOut, ...] = ()
    dropped: tuple[LeftOut, ...] = ()
    changed: Mapping[str, int] = field(default_factory=dict[str, int])
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The report as lines to print: long lists are shortened, and say by how much."""
        classes = tuple(next(iter(self.counts.values())))
        boxes = sum(sum(of_class.values()) for of_class in self.counts.values())
        lines = [
            f"{self.name}: {sum(self.images.values()):,} images with {boxes:,} boxes of {len(classes)} classes",
            f"split: {self.split}",
            *self.conventions,
        ]
        rows: dict[str, Mapping[str, int]] = {"images": self.images, "empty": self.empty}
        rows |= {name: {split: self.counts[split][name] for split in self.counts} for name in classes[:SHOWN_CLASSES]}
        width = max(map(len, rows))
        lines.append(" " * width + "".join(f"{split:>12}" for split in self.counts))
        lines += [
            f"{name:<{width}}" + "".join(f"{row.get(split, 0):>12,}" for split in self.counts)
            for name, row in rows.items()
        ]
        if len(classes) > SHOWN_CLASSES:
            lines.append(f"and {len(classes) - SHOWN_CLASSES} more classes")
        lines += left_out("skipped", self.skipped)
        lines += left_out("ignored", self.ignored)
        lines += left_out("dropped", self.dropped, ("box", "boxes"))
        lines += [f"changed: {count:,} × {change}" for change, count in self.changed.items()]
        lines += [f"warning: {warning}" for warning in self.warnings]
        return lines


@dataclass(frozen=True)
class Detection:
    """Images on which things are marked by boxes.

    Attributes:
        name: Of the data, for people.
        classes: What each label, 0 upwards, stands for.
        train: To learn from.
        validation: To choose by.
        test: To look at once.
        fingerprint: Changes with the images, the boxes and the splits; nothing else changes it.
        report: What was left out or changed on the way in.
        official: Splits that the data came with: ``resplit`` leaves them as they are, unless told otherwise. Where
            ``train`` is among them, its samples share parts, and nothing can be dealt anew.
    """

    name: str
    classes: tuple[str, ...]
    train: BoxImages
    validation: BoxImages
    test: BoxImages
    fingerprint: str
    report: BoxReport
    official: tuple[str, ...] = ()


def counted(splits: Mapping[str, BoxImages], classes: Sequence[str]) -> dict[str, dict[str, int]]:
    """Boxes by split, then by class, those of crowds left out."""
    found: dict[str, dict[str, int]] = {}
    for split, images in splits.items():
        labels = [torch.zeros(0, dtype=torch.int64), *(boxes.labels[~boxes.crowd] for boxes in images.boxes)]
        counts = torch.bincount(torch.cat(labels), minlength=len(classes)).tolist()
        found[split] = dict(zip(classes, counts, strict=True))
    return found
