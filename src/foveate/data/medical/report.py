"""What happened to medical data on the way in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from foveate.data.report import SHOWN_FILES, LeftOut


@dataclass(frozen=True)
class MedicalReport:
    r"""What was read, of whom, and what was left out or changed.

    Attributes:
        name: Of the data.
        task: ``"segmentation"`` or ``"classification"``.
        shape: Channels, and the least and the most of every side.
        counts: By split: cases, patients, and voxels or patients of each class.
        split: How the splits came to be, as a sentence.
        whose: How it is known who is on which image, as a sentence.
        skipped: Images that cannot be used.
        ignored: What was never meant as an image or mask.
        conversions: What was done to how many images.
        warnings: What a person should know before believing a result.

    Example:
        >>> counts = {"train": {"cases": 4, "patients": 2, "lesion": 120}}
        >>> report = MedicalReport("mri", "segmentation", "1×32×32", counts, "as given", "by folders")
        >>> print("\n".join(report.lines()))
        mri: 4 cases for segmentation, each 1×32×32
        patients: by folders
        split: as given
                         cases    patients      lesion
        train                4           2         120
    """

    name: str
    task: str
    shape: str
    counts: Mapping[str, Mapping[str, int]]
    split: str
    whose: str
    skipped: tuple[LeftOut, ...] = ()
    ignored: tuple[LeftOut, ...] = ()
    conversions: Mapping[str, int] = field(default_factory=dict[str, int])
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The report as lines to print: long lists are shortened, and say by how much."""
        cases = sum(ones["cases"] for ones in self.counts.values())
        lines = [
            f"{self.name}: {cases:,} cases for {self.task}, each {self.shape}",
            f"patients: {self.whose}",
            f"split: {self.split}",
        ]
        columns = list(next(iter(self.counts.values())))
        lines.append(" " * 10 + "".join(f"{column[:11]:>12}" for column in columns))
        lines += [
            f"{split:<10}" + "".join(f"{ones[column]:>12,}" for column in columns)
            for split, ones in self.counts.items()
        ]
        for title, files in (("skipped", self.skipped), ("ignored", self.ignored)):
            if files:
                lines.append(f"{title}: {len(files):,} file{'s' if len(files) > 1 else ''}")
                lines += [f"  {file}" for file in files[:SHOWN_FILES]]
                if len(files) > SHOWN_FILES:
                    lines.append(f"  and {len(files) - SHOWN_FILES:,} more")
        lines += [f"changed: {count:,} × {change}" for change, count in self.conversions.items()]
        return lines + [f"warning: {warning}" for warning in self.warnings]
