"""A folder of images with boxes to test with."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from foveate.data.boxes.annotations import ALL, TEST, Notes
from foveate.data.boxes.detection import BoxImages, BoxReport, counted
from foveate.data.boxes.fitting import fit_to_image
from foveate.data.boxes.folder import as_tensors, read_annotations, read_frames, such_as
from foveate.data.layout import check_folder
from foveate.data.reading import ImageFiles
from foveate.data.report import enumerated, shown
from foveate.data.shift.classes import missing, placed
from foveate.errors import DataError


def shifted_boxes(
    root: Path,
    classes: Sequence[str],
    *,
    stop: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[BoxImages, str, BoxReport]:
    """The images and boxes of a folder, of known classes; a fingerprint of them; and a report.

    Where annotations say which images are for testing, only these are read; where they say nothing, all are.

    Raises:
        DataError: If there is no image that can be used, or a box of an unknown class.
    """
    check_folder(root)
    notes = Notes(root, stop)
    annotations = read_annotations(root, notes)
    split = next((one for one in (TEST, ALL) if one in annotations.splits), None)
    if split is None:
        there = enumerated(annotations.splits)
        raise DataError(
            f"{shown(str(root))} has annotations of {there} and none of test: give those to test with alone"
        )
    annotations.splits = {split: annotations.splits[split]}
    used = dict.fromkeys(box.label for image in annotations.splits[split] for box in image.boxes)
    placed(used, classes, shown(str(root)))
    frames = read_frames(root, annotations, notes, progress)
    fitted = [
        (one, boxes) for one in annotations.splits[split] if (boxes := fit_to_image(one, frames, notes)) is not None
    ]
    if not fitted:
        raise DataError(f"{shown(str(root))} has no image that can be used{such_as(notes)}")
    names = [image.name for image, _ in fitted]
    pixels = ImageFiles(root, tuple(names), tuple(frames[name].digest for name in names), None)
    images = BoxImages(
        pixels,
        range(len(names)),
        [as_tensors(boxes, classes) for _, boxes in fitted],
        [shown(name) for name in names],
        [frames[name].upright for name in names],
    )
    counts = counted({"test": images}, classes)
    report = BoxReport(
        name=shown(Path(os.path.abspath(root)).name),  # noqa: PTH100  # "." has a name, and a link keeps its own
        images={"test": len(images)},
        empty={"test": sum(not len(one.boxes) for one in images.boxes)},
        counts=counts,
        split="all of it is tested with" if split == ALL else "what is listed for testing is tested with",
        conventions=annotations.conventions,
        skipped=tuple(notes.skipped),
        ignored=tuple(notes.ignored),
        dropped=tuple(notes.dropped),
        changed=dict(sorted(notes.changed.items())),
        warnings=(*missing(counts["test"].items(), "a box"), *notes.warnings),
    )
    lines = sorted(repr((image.name, frames[image.name].digest, sorted(boxes))) for image, boxes in fitted)
    content = "\n".join([f"shifted_boxes {list(classes)}", *lines]).encode("utf-8", "surrogateescape")
    return images, hashlib.sha256(content).hexdigest(), report
