"""Medical data: three splits of images with their targets, and what is known of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from foveate.data.medical.cases import Case, Shelf
from foveate.data.medical.report import MedicalReport

Task = Literal["segmentation", "classification"]


class Target(NamedTuple):
    """What is to be said of a case.

    Attributes:
        truth: The class of each position, int64 ``([d,] h, w)``, or that of the patient, int64 without axes.
        spacing: Distance of neighbours along each axis, in mm, or 1 where nobody says.
        subject: The patient's number in the data.
    """

    truth: Tensor
    spacing: tuple[float, ...]
    subject: int


class Cases(Dataset[tuple[Tensor, Target]]):
    """One split: images and what is to be said of them.

    Attributes:
        names: A path relative to the data's folder each, and the slice where it is one of a volume.
        subjects: Whom each is of.
    """

    def __init__(self, shelf: Shelf, cases: Sequence[Case], subjects: Sequence[str], numbers: Sequence[int]) -> None:
        self._shelf, self._cases, self._numbers = shelf, tuple(cases), tuple(numbers)
        self.names, self.subjects = tuple(case.name for case in cases), tuple(subjects)

    def __len__(self) -> int:
        """How many cases."""
        return len(self._cases)

    def __getitem__(self, index: int) -> tuple[Float[Tensor, "c ..."], Target]:
        """An image, float32 ``(c, [d,] h, w)``, the caller's own to change, and its target.

        Raises:
            DataError: If it is read on demand and its file is no longer what it was.
        """
        case = self._cases[index]
        image, truth = self._shelf.get(case)
        return image, Target(truth, case.spacing or (1.0,) * (image.ndim - 1), self._numbers[index])

    @property
    def patients(self) -> tuple[int, ...]:
        """The number of the patient of each: equal in all splits of the data where it is the same person."""
        return self._numbers

    @property
    def labels(self) -> tuple[int | None, ...]:
        """The class of the patient of each, without reading an image; ``None`` where there are masks."""
        return tuple(case.label for case in self._cases)

    @property
    def foreground(self) -> tuple[bool, ...]:
        """Whether the mask of each is anything but background, without reading it."""
        return tuple(case.foreground for case in self._cases)

    def take(self, positions: Sequence[int]) -> Cases:
        """Some of them, as a split of its own."""
        return Cases(
            self._shelf,
            [self._cases[n] for n in positions],
            [self.subjects[n] for n in positions],
            [self._numbers[n] for n in positions],
        )

    def with_those_of(self, *others: Cases) -> Cases:
        """All of these, and of other splits of the same data."""
        every = (self, *others)
        return Cases(
            self._shelf,
            [case for one in every for case in one._cases],
            [who for one in every for who in one.subjects],
            [number for one in every for number in one._numbers],
        )


@dataclass(frozen=True)
class Medical:
    """Medical images, each with a mask or its patient's class.

    Attributes:
        name: Of the data, for people.
        task: ``"segmentation"`` or ``"classification"``.
        classes: What each number stands for; in masks 0 is the background.
        dimensions: 2 or 3.
        train: To learn from.
        validation: To choose by.
        test: To look at once.
        unit: Of spacings: ``"mm"``, or ``"pixels"`` where a file does not say.
        fingerprint: Changes with the images, the splits and whatever else changes a voxel.
        report: What was left out or changed on the way in.
        official: Splits that the data came with: ``resplit`` leaves them as they are, unless told otherwise. Where
            ``train`` is among them, its samples share parts, and nothing can be dealt anew.
    """

    name: str
    task: Task
    classes: tuple[str, ...]
    dimensions: int
    train: Cases
    validation: Cases
    test: Cases
    unit: Literal["mm", "pixels"]
    fingerprint: str
    report: MedicalReport
    official: tuple[str, ...] = ()


def fingerprint_of(settings: str, cases: Sequence[Case], splits: Sequence[str]) -> str:
    """A hash of every case's name, content, target and split, and of what decides what becomes of them."""
    lines = [f"{case.name}\0{case.digest}\0{case.label}\0{split}" for case, split in zip(cases, splits, strict=True)]
    return hashlib.sha256("\n".join((settings, *lines)).encode("utf-8", "surrogateescape")).hexdigest()
