"""A folder of images and masks to test with."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from foveate.data.decode import require_pillow
from foveate.data.masks.ids import meaning_of, read_classes
from foveate.data.masks.layout import read_mask_layout
from foveate.data.masks.reading import read_pairs
from foveate.data.masks.report import MaskReport
from foveate.data.masks.segmentation import MaskedImages, Pair, Pairs
from foveate.data.report import shown
from foveate.data.shift.classes import missing, placed, tested_part
from foveate.errors import DataError


@dataclass(frozen=True)
class Renumbered:
    """Images and masks by number, the classes in masks numbered as elsewhere."""

    pairs: Sequence[Pair] | Pairs
    table: Tensor

    def __getitem__(self, index: int, /) -> Pair:
        """One image and its mask."""
        pixels, mask = self.pairs[index]
        return pixels, self.table[mask.long()]


def shifted_masks(
    root: Path,
    classes: Sequence[str],
    *,
    ignore: int | None = 255,
    instances: bool = False,
    stop: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[MaskedImages, str, MaskReport]:
    """The images and masks of a folder, of known classes; a fingerprint of them; and a report.

    The numbers in masks are named by ``classes.txt`` in the folder, or mean what they mean in the training data.

    Raises:
        DataError: If there is nothing that can be used, or a class is unknown.
    """
    require_pillow()
    part = tested_part(root)
    named = next((one / "classes.txt" for one in (part, root) if (one / "classes.txt").is_file()), None)
    own = tuple(classes) if named is None else read_classes(named)
    places = placed(own, classes, shown(str(root)))
    layout = read_mask_layout(part)
    if "all" not in layout.masks:
        raise DataError(f"{shown(str(root))} has splits inside images: give the folder to test with, without splits")
    if stop and layout.skipped:
        raise DataError(f"{shown(str(root))}: {layout.skipped[0]}")
    mean = partial(meaning_of, classes=own, ignore=ignore, instances=instances)
    reading = read_pairs(part, layout.masks["all"], mean, stop=stop, progress=progress)
    left = layout.skipped + reading.skipped
    if not reading.names:
        why = f" ({len(left)} unusable, such as {left[0]})" if left else ""
        raise DataError(f"{shown(str(root))} has no image with a mask that can be used{why}")
    table = torch.arange(256, dtype=torch.uint8)
    for number, name in enumerate(own):
        table[number] = places[name]
    names = [shown(name) for name in reading.names]
    pixels = dict.fromkeys(classes, 0)
    for counts in reading.counts:
        _add(pixels, counts, own)
    heights, widths = zip(*reading.sizes, strict=True)
    report = MaskReport(
        name=shown(Path(os.path.abspath(root)).name),  # noqa: PTH100  # "." has a name, and a link keeps its own
        counts={"test": len(names)},
        pixels={"test": pixels},
        sizes=((min(heights), min(widths)), (max(heights), max(widths))),
        split="all of it is tested with" if part == root else "what lies in test is tested with",
        meaning=str(reading.meaning),
        skipped=left,
        ignored=layout.ignored + reading.ignored,
        conversions=dict(sorted(reading.changes.items())),
        warnings=(*missing(pixels.items(), "a pixel"), *reading.remarks),
    )
    images = MaskedImages(Renumbered(reading.pairs, table), range(len(names)), names)
    lines = [f"{name} {image} {mask}" for name, (image, mask) in zip(names, reading.digests, strict=True)]
    settings = f"shifted_masks {list(own)} of {list(classes)} {reading.meaning.ignore} {reading.meaning.way}"
    return images, hashlib.sha256("\n".join([settings, *lines]).encode()).hexdigest(), report


def _add(pixels: dict[str, int], counts: Mapping[int, int], names: Sequence[str]) -> None:
    for number, count in counts.items():
        pixels[names[number]] += count
