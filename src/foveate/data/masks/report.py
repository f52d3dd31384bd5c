"""What happened to images and their masks on the way in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from foveate.data.report import SHOWN_CLASSES, LeftOut, left_out


@dataclass(frozen=True)
class MaskReport:
    r"""What was read, what was left out and what was changed.

    Attributes:
        name: Of the data.
        counts: Images by split.
        pixels: Pixels by split, then by class; pixels that belong to no class are in none.
        sizes: The least and the largest height and width of the images.
        split: How the splits came to be, as a sentence.
        meaning: What the numbers in the masks were taken for, as a sentence.
        skipped: Images that cannot be used, with or for their masks, and masks without an image.
        ignored: Files and folders that were never meant as images.
        conversions: What was done to how many images.
        warnings: What a person should know before believing a result.

    Example:
        >>> pixels = {"train": {"ground": 90, "leaf": 30}, "test": {"ground": 30, "leaf": 10}}
        >>> report = MaskReport("plants", {"train": 3, "test": 1}, pixels, ((5, 6), (5, 8)), "as given", "as numbers")
        >>> print("\n".join(report.lines()))
        plants: 4 images of 5×6 to 5×8 pixels with masks of 2 classes
        split: as given
        masks: as numbers
                     train        test
        images           3           1
        ground       75.0%       75.0%
        leaf         25.0%       25.0%
    """

    name: str
    counts: Mapping[str, int]
    pixels: Mapping[str, Mapping[str, int]]
    sizes: tuple[tuple[int, int], tuple[int, int]]
    split: str
    meaning: str
    skipped: tuple[LeftOut, ...] = ()
    ignored: tuple[LeftOut, ...] = ()
    conversions: Mapping[str, int] = field(default_factory=dict[str, int])
    warnings: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, in the order of their numbers."""
        return tuple(next(iter(self.pixels.values())))

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The report as lines to print: long lists are shortened, and say by how much."""
        (low, narrow), (high, wide) = self.sizes
        size = f"{low}×{narrow}" if self.sizes[0] == self.sizes[1] else f"{low}×{narrow} to {high}×{wide}"
        images = sum(self.counts.values())
        lines = [f"{self.name}: {images:,} images of {size} pixels with masks of {len(self.classes)} classes"]
        lines += [f"split: {self.split}", f"masks: {self.meaning}", *self._table()]
        lines += left_out("skipped", self.skipped)
        lines += left_out("ignored", self.ignored)
        lines += [f"converted: {count:,} × {change}" for change, count in self.conversions.items()]
        lines += [f"warning: {warning}" for warning in self.warnings]
        return lines

    def _table(self) -> list[str]:
        listed, rest = self.classes[:SHOWN_CLASSES], self.classes[SHOWN_CLASSES:]
        width = max(len(name) for name in (*listed, "images"))
        rows = [" " * width + "".join(f"{split:>12}" for split in self.counts)]
        rows.append(f"{'images':<{width}}" + "".join(f"{count:>12,}" for count in self.counts.values()))
        for name in listed:
            shares = [of_class[name] / max(1, sum(of_class.values())) for of_class in self.pixels.values()]
            rows.append(f"{name:<{width}}" + "".join(f"{share:>12.1%}" for share in shares))
        return [*rows, f"and {len(rest)} more classes"] if rest else rows
