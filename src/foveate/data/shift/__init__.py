"""Folders that are only tested with: other cameras, hospitals, years; their classes are those of the training data."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from foveate.data.boxes.detection import Detection
from foveate.data.classification import ImageClassification
from foveate.data.decode import require_pillow
from foveate.data.masks.segmentation import Segmentation
from foveate.data.medical.data import Medical
from foveate.data.samples import Samples
from foveate.data.shift.boxes import shifted_boxes
from foveate.data.shift.images import shifted_images
from foveate.data.shift.masks import shifted_masks
from foveate.data.shift.subjects import shifted_subjects
from foveate.errors import check_choice


@dataclass(frozen=True)
class Shifted:
    """A test split from elsewhere.

    Attributes:
        name: Of the folder, for people.
        classes: Those of the training data, whether or not there is something of each.
        test: The samples, as the splits of the training data have them.
        fingerprint: Changes with the samples and whatever else changes a pixel.
        report: What was left out or changed on the way in, and which classes are missing.
    """

    name: str
    classes: tuple[str, ...]
    test: Samples
    fingerprint: str
    report: Any


def shifted(
    path: str | os.PathLike[str],
    like: ImageClassification | Segmentation | Detection | Medical,
    *,
    ignore: int | None = 255,
    instances: bool = False,
    binary: bool = False,
    on_error: Literal["skip", "stop"] = "skip",
    progress: Callable[[int, int], None] | None = None,
) -> Shifted:
    """Read a folder as a test split for what was trained on other data.

    The folder has the layout that the reader of the training data takes, without splits; of one with splits only
    ``test`` is read. Its classes are known by name, whatever their order, and are those of the training data: some may
    be missing, which the report says; none may be unknown. Images get the size and channels of the training data.

    Args:
        path: The folder.
        like: What was trained on.
        ignore: See :func:`~foveate.data.mask_folder`.
        instances: See :func:`~foveate.data.mask_folder`.
        binary: See :func:`~foveate.data.subject_folder`.
        on_error: Whether to ``"skip"`` what cannot be used, or to ``"stop"`` at the first.
        progress: Called after each image with the count of those done and of all.

    Raises:
        DataError: If the folder cannot be read, holds an unknown class, or nothing that can be used.
        OptionError: If an option's value cannot work.
        MissingExtraError: If a package that reads a file is not installed.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from PIL import Image
        >>> from foveate.data import fashion_mnist
        >>> with TemporaryDirectory() as folder:
        ...     Path(folder, "Bag").mkdir()
        ...     Image.new("RGB", (60, 40), (9, 8, 7)).save(Path(folder, "Bag", "1.png"))
        ...     found = shifted(folder, fashion_mnist())
        >>> image, label = found.test[0]
        >>> image.shape, found.classes[label], found.report.warnings[0][:55]
        (torch.Size([1, 28, 28]), 'Bag', 'classes without an image, of which nothing is tested: T')
    """
    check_choice("on_error", on_error, ("skip", "stop"))
    require_pillow()
    root, stop = Path(path), on_error == "stop"
    if isinstance(like, ImageClassification):
        found = shifted_images(root, like.classes, like.shape, stop=stop, progress=progress)
    elif isinstance(like, Segmentation):
        how = {"ignore": ignore, "instances": instances}
        found = shifted_masks(root, like.classes, **how, stop=stop, progress=progress)  # type: ignore[arg-type]
    elif isinstance(like, Detection):
        found = shifted_boxes(root, like.classes, stop=stop, progress=progress)
    else:
        found = shifted_subjects(root, like, binary=binary, stop=stop, progress=progress)
    samples, fingerprint, report = found
    return Shifted(report.name, like.classes, samples, fingerprint, report)


__all__ = ["Shifted", "shifted"]
