"""A folder of images to test with: one folder a class."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from foveate.data.classification import Images, Pixels
from foveate.data.layout import class_files
from foveate.data.reading import read_images
from foveate.data.report import DataReport, enumerated, shown
from foveate.data.shift.classes import missing, placed, tested_part
from foveate.errors import DataError

LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class GreyPixels:
    """Coloured images by number, as the luma of ITU-R BT.601."""

    pixels: Tensor | Pixels

    def __getitem__(self, index: int, /) -> UInt8[Tensor, "1 h w"]:
        """One image."""
        weights = torch.tensor(LUMA)[:, None, None]
        return (self.pixels[index] * weights).sum(0, keepdim=True).round().to(torch.uint8)


def shifted_images(
    root: Path,
    classes: Sequence[str],
    shape: tuple[int, int, int],
    *,
    stop: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Images, str, DataReport]:
    """The images of a folder, of known classes, at a known size; a fingerprint of them; and a report.

    Raises:
        DataError: If there is no image that can be used, or one of an unknown class.
    """
    part = tested_part(root)
    files, ignored, nested = class_files(part)
    places = placed(map(shown, files), classes, shown(str(root)))
    owner = {name: places[shown(folder)] for folder, names in files.items() for name in names}
    reading = read_images(part, list(owner), size=shape[1], stop=stop, progress=progress)
    if not reading.names:
        why = f" ({len(reading.skipped)} unusable, such as {reading.skipped[0]})" if reading.skipped else ""
        raise DataError(f"{shown(str(root))} has no image that can be used{why}")
    labels = [owner[name] for name in reading.names]
    names = [shown(name) for name in reading.names]
    images = Images(GreyPixels(reading.pixels) if shape[0] == 1 else reading.pixels, range(len(names)), labels, names)
    counts = dict(zip(classes, images.labels.bincount(minlength=len(classes)).tolist(), strict=True))
    warnings = [*missing(counts.items(), "an image"), *reading.remarks]
    if nested:
        warnings.append(
            f"folders inside class folders were read as part of the class: {enumerated(map(shown, nested))}"
        )
    report = DataReport(
        name=shown(Path(os.path.abspath(root)).name),  # noqa: PTH100  # "." has a name, and a link keeps its own
        shape=(shape[0], reading.size, reading.size),
        counts={"test": counts},
        split="all of it is tested with" if part == root else "what lies in test is tested with",
        skipped=reading.skipped,
        ignored=ignored + reading.ignored,
        conversions=dict(sorted(reading.changes.items())),
        warnings=tuple(warnings),
    )
    lines = [f"{name} {digest} {label}" for name, digest, label in zip(names, reading.digests, labels, strict=True)]
    settings = f"shifted_images shape={shape} classes={list(classes)}"
    return images, hashlib.sha256("\n".join([settings, *lines]).encode()).hexdigest(), report
