"""What the numbers in masks mean: classes, an object or none, or the objects one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int32, UInt8
from torch import Tensor

from foveate.data.masks.segmentation import IGNORE
from foveate.data.report import enumerated, shown
from foveate.errors import DataError, check_at_least

BINARY = ("background", "object")
WHITE = 255
MANY = 20  # classes known by numbers alone, from which on they may be objects


@dataclass(frozen=True)
class Meaning:
    """What the numbers in masks mean.

    Attributes:
        classes: What each class is called.
        ignore: The number of pixels that belong to no class; ``None`` if there are none.
        way: ``"numbers"`` of classes, ``"binary"`` with 255 for the object, or ``"instances"``, a number an object.
    """

    classes: tuple[str, ...]
    ignore: int | None
    way: str

    def classes_of(self, ids: Int32[Tensor, "h w"]) -> UInt8[Tensor, "h w"]:
        """The class of each pixel, :data:`IGNORE` for none.

        Example:
            >>> Meaning(BINARY, None, "instances").classes_of(torch.tensor([[0, 7, 300]], dtype=torch.int32)).tolist()
            [[0, 1, 1]]
        """
        if self.way == "instances":
            return (ids > 0).to(torch.uint8)
        if self.way == "binary":
            return (ids == WHITE).to(torch.uint8)
        return (ids if self.ignore is None else torch.where(ids == self.ignore, IGNORE, ids)).to(torch.uint8)

    def unknown(self, counts: Mapping[int, int]) -> list[int]:
        """The numbers of a mask that stand for nothing.

        Example:
            >>> Meaning(("ground", "leaf"), 255, "numbers").unknown({0: 9, 2: 1, 255: 3})
            [2]
        """
        if self.way == "instances":
            return [number for number in counts if number < 0]
        known = {0, WHITE} if self.way == "binary" else {*range(len(self.classes)), self.ignore}
        return sorted(number for number in counts if number not in known)

    def __str__(self) -> str:
        """As the end of a sentence."""
        if self.way == "instances":
            return "every number above 0 is an object"
        if self.way == "binary":
            return "0 is background and 255 the object"
        said = "each number is a class"
        return said if self.ignore is None else f"{said}, {self.ignore} is left out of everything"


def meaning_of(
    masks: Sequence[Mapping[int, int]], classes: Sequence[str] | None, ignore: int | None, *, instances: bool
) -> Meaning:
    """Decide what numbers mean, by what a person said and by which numbers there are.

    Args:
        masks: The count of each number, by mask.
        classes: What the classes are called, if somebody said so.
        ignore: The number of pixels that belong to no class.
        instances: Whether the numbers count objects.

    Raises:
        DataError: If there are more numbers than can be classes, or names for another number of them.

    Example:
        >>> str(meaning_of([{0: 5}, {0: 4, 255: 1}], None, 255, instances=False))
        '0 is background and 255 the object'
    """
    if ignore is not None:
        check_at_least("ignore", ignore, 0)
    names = None if classes is None else tuple(classes)
    seen = {number for counts in masks for number in counts}
    if instances or (seen <= {0, WHITE} and WHITE in seen and len(names or BINARY) == len(BINARY)):
        if names is not None and len(names) != len(BINARY):
            raise DataError(f"masks that tell objects from background need two class names, not {len(names)}")
        return Meaning(names or BINARY, None, "instances" if instances else "binary")
    if names is None:
        largest = max((number for number in seen if number != ignore), default=0)
        if largest >= IGNORE:
            raise DataError(
                f"masks have numbers up to {largest}, and classes are numbered from 0 to {IGNORE - 1}: if every number "
                "is an object of its own, set instances=true; else give a classes.txt and number the masks by it"
            )
        names = tuple(str(number) for number in range(largest + 1))
    if not 2 <= len(names) <= IGNORE:
        raise DataError(f"telling pixels apart needs 2 to {IGNORE} classes, and there are {len(names)}")
    return Meaning(names, ignore, "numbers")


def read_classes(path: Path) -> tuple[str, ...]:
    """The names of classes, one a line.

    Raises:
        DataError: If a line is empty, a name comes twice, or it is no text.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").rstrip().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{shown(str(path))} cannot be read as a name of a class on each line: {error}") from error
    if "" in lines or not lines:
        number = lines.index("") + 1 if lines else 1
        raise DataError(f"line {number} of {shown(str(path))} is empty: the first line names class 0, and so on")
    twice = sorted({line for line in lines if lines.count(line) > 1})
    if twice:
        raise DataError(f"{shown(str(path))} names classes twice: {enumerated(map(shown, twice))}")
    return tuple(shown(line) for line in lines)
