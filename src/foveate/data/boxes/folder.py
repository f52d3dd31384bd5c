"""A person's own images with boxes, annotated as COCO or Pascal VOC do; and the embedded scenes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal

import torch

from foveate.data.boxes.annotations import ALL, TEST, TRAIN, VALIDATION, Annotations, Box, Marked, Notes
from foveate.data.boxes.coco import coco_files, read_coco
from foveate.data.boxes.detection import Boxes, BoxImages, BoxReport, Detection, counted
from foveate.data.boxes.fitting import Frame, fit_to_image
from foveate.data.boxes.voc import is_voc, read_voc
from foveate.data.checks import FEW, leaks
from foveate.data.decode import decode, require_pillow, stored_frame
from foveate.data.layout import check_folder
from foveate.data.reading import ImageFiles, Reader, collected_remarks
from foveate.data.report import enumerated, shown
from foveate.data.scenes import COUNTS, THINGS, scenes
from foveate.data.split import deal
from foveate.errors import DataError, check_at_least, check_choice

PERCENT = 15
SPLITS = (TRAIN, VALIDATION, TEST)


def box_folder(
    path: str | os.PathLike[str],
    *,
    on_error: Literal["skip", "stop"] = "skip",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Detection:
    """Read a folder of images with boxes: JSON files as COCO's, or XML files as Pascal VOC's.

    *COCO*: ``annotations/instances_train2017.json`` with the images in ``train2017``, or a JSON file beside the images
    of each split, or one for all. *VOC*: ``Annotations``, ``JPEGImages``, and ``ImageSets/Main`` with ``train.txt``,
    ``val.txt``, ``test.txt`` as the official splits. Where nothing says the splits, images are dealt by ``seed``: 15 %
    to validation, 15 % to test; where only one of these is missing, it is split off training in the same way.

    Every image is decoded once, so that what cannot be used is known before training. Boxes that reach over the edge
    are cut off there; those without an area, outside, or of no known class are dropped; so are copies of one on the
    same image. An image without a box is kept: nothing is on it. One whose every box was dropped is left out, and so
    is one whose size is not what its annotation says. Where EXIF says that an image is to be turned, it is, and its
    boxes are taken as drawn on what one sees, unless the size in the annotation is that of the image unturned: then
    they are turned with it. Nothing is left out or changed without standing in the report.

    Args:
        path: The folder.
        on_error: Whether to ``"skip"`` images, annotations and boxes that cannot be used, or ``"stop"`` at the first.
        seed: Which images go to which split.
        progress: Called after each image with the count of those done and of all.

    Raises:
        DataError: If the folder has neither layout, a split would have no image, or something is to stop it.
        MissingExtraError: If Pillow is not installed.

    Example:
        >>> import json
        >>> from tempfile import TemporaryDirectory
        >>> from PIL import Image
        >>> notes = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
        >>> with TemporaryDirectory() as folder:
        ...     for n in range(10):
        ...         Image.new("L", (40, 30), n).save(Path(folder, f"{n}.png"))
        ...         notes["images"].append({"id": n, "file_name": f"{n}.png", "width": 40, "height": 30})
        ...         notes["annotations"].append({"id": n, "image_id": n, "category_id": 1, "bbox": [30, 5, 20, 10]})
        ...     _ = Path(folder, "all.json").write_text(json.dumps(notes))
        ...     data = box_folder(folder)
        >>> data.classes, len(data.train), data.train.boxes[0].boxes, dict(data.report.changed)
        (('cat',), 6, tensor([[30.,  5., 40., 15.]]), {'boxes cut off at the edge of their image': 10})
    """
    check_choice("on_error", on_error, ("skip", "stop"))
    check_at_least("seed", seed, 0)
    require_pillow()
    root = Path(path)
    check_folder(root)
    notes = Notes(root, on_error == "stop")
    annotations = read_annotations(root, notes)
    frames = read_frames(root, annotations, notes, progress)
    fitted = {
        split: [(image, boxes) for image in images if (boxes := fit_to_image(image, frames, notes)) is not None]
        for split, images in annotations.splits.items()
    }
    return _assembled(root, annotations, fitted, frames, notes, seed)


def scene_boxes(seed: int = 0) -> Detection:
    """Scenes composed of the embedded sample: clothes on blotches, 96×96, up to four on each.

    Example:
        >>> data = scene_boxes()
        >>> image, things = data.test[0]
        >>> image.shape, things.boxes.shape[1], len(data.train)
        (torch.Size([3, 96, 96]), 4, 240)
    """
    check_at_least("seed", seed, 0)
    splits: dict[str, BoxImages] = {}
    digest = hashlib.sha256(f"scenes seed={seed}".encode())
    for split in SPLITS:
        made = scenes(split, seed)
        boxes = [Boxes(one.boxes, one.labels, torch.zeros(len(one.boxes), dtype=torch.bool)) for one in made]
        pixels = torch.stack([one.pixels for one in made])
        for part in (pixels, *(tensor for one in boxes for tensor in one)):
            digest.update(part.contiguous().numpy().tobytes())
        count = len(made)
        names = [f"{split}/{number}" for number in range(count)]
        splits[split] = BoxImages(pixels, range(count), boxes, names, [(96, 96)] * count)
    report = BoxReport(
        name="Scenes of clothes",
        images=COUNTS,
        empty={split: sum(not len(boxes.boxes) for boxes in images.boxes) for split, images in splits.items()},
        counts=counted(splits, THINGS),
        split=f"things of train, validation and test images of Fashion-MNIST, by seed {seed}",
    )
    train, validation, test = (splits[split] for split in SPLITS)
    return Detection("Scenes of clothes", THINGS, train, validation, test, digest.hexdigest(), report, SPLITS)


def read_annotations(root: Path, notes: Notes) -> Annotations:
    """What the folder's own annotations say, COCO's or VOC's.

    Raises:
        DataError: If it holds neither.
    """
    if is_voc(root):
        return read_voc(root, notes)
    found = read_coco(root, notes) if coco_files(root) else None
    if found is not None and found.splits:
        return found
    within = [path.parent for pattern in ("*/Annotations", "*/*/Annotations") for path in root.glob(pattern)]
    hint = f"; {shown(str(within[0]))} may be meant" if within else ""
    raise DataError(
        f"{shown(str(root))} holds no annotations of boxes: give a folder with COCO's JSON beside its images, or with "
        f"VOC's Annotations and JPEGImages{hint}"
    )


def read_frames(
    root: Path, annotations: Annotations, notes: Notes, progress: Callable[[int, int], None] | None
) -> dict[str, Frame]:
    """Decode every image once."""

    def frame(path: Path) -> Frame:
        height, width, turn = stored_frame(path)
        decoded = decode(path, None)
        return Frame(height, width, turn, decoded.digest, decoded.length, decoded.changes)

    names = list(dict.fromkeys(image.name for images in annotations.splits.values() for image in images))
    reader = Reader(root, notes.stop)
    reader.identified = set(names)
    with collected_remarks() as remarks, closing(reader.each(frame, names, progress)) as read:
        frames = dict(read)
    notes.skipped += reader.skipped
    notes.warnings += remarks
    for one in frames.values():
        notes.changed.update(change for change in one.changes if change != "turned as EXIF says")
    return frames


def _assembled(
    root: Path,
    annotations: Annotations,
    fitted: Mapping[str, Sequence[tuple[Marked, list[Box]]]],
    frames: Mapping[str, Frame],
    notes: Notes,
    seed: int,
) -> Detection:
    used = {box.label for images in fitted.values() for _, boxes in images for box in boxes}
    classes = tuple(name for name in annotations.classes if name in used)
    if missing := [name for name in annotations.classes if name not in used]:
        notes.warnings.append(f"classes without a box were left out: {enumerated(missing, 5)}")
    if not classes:
        raise DataError(f"{shown(str(root))} has no box that can be used{such_as(notes)}")
    members, how = _dealt(root, fitted, frames, notes, seed)
    names = list(dict.fromkeys(image.name for images in members.values() for image, _ in images))
    place = {name: index for index, name in enumerate(names)}
    pixels = ImageFiles(root, tuple(names), tuple(frames[name].digest for name in names), None)
    splits = {
        split: BoxImages(
            pixels,
            [place[image.name] for image, _ in images],
            [as_tensors(boxes, classes) for _, boxes in images],
            [shown(image.name) for image, _ in images],
            [frames[image.name].upright for image, _ in images],
        )
        for split, images in members.items()
    }
    counts = counted(splits, classes)
    positions = {split: [place[image.name] for image, _ in images] for split, images in members.items()}
    notes.warnings += leaks([shown(name) for name in names], pixels.digests, positions)
    notes.warnings += _few(classes, counts)
    title = shown(Path(os.path.abspath(root)).name)  # noqa: PTH100  # "." has a name, and a link keeps its own
    report = BoxReport(
        name=title,
        images={split: len(images) for split, images in splits.items()},
        empty={split: sum(not len(boxes.boxes) for boxes in images.boxes) for split, images in splits.items()},
        counts=counts,
        split=how,
        conventions=annotations.conventions,
        skipped=tuple(notes.skipped),
        ignored=tuple(notes.ignored),
        dropped=tuple(notes.dropped),
        changed=dict(sorted(notes.changed.items())),
        warnings=tuple(notes.warnings),
    )
    fingerprint = _fingerprint(members, frames, classes)
    official = tuple(split for split in SPLITS[1:] if split in fitted)
    return Detection(title, classes, splits[TRAIN], splits[VALIDATION], splits[TEST], fingerprint, report, official)


def _dealt(
    root: Path,
    fitted: Mapping[str, Sequence[tuple[Marked, list[Box]]]],
    frames: Mapping[str, Frame],
    notes: Notes,
    seed: int,
) -> tuple[dict[str, list[tuple[Marked, list[Box]]]], str]:
    """The images of each split, and how they came there."""
    source = ALL if ALL in fitted else TRAIN
    shares = {split: PERCENT for split in (VALIDATION, TEST) if split not in fitted}
    digests = [frames[image.name].digest for image, _ in fitted[source]]
    members = {split: list(fitted.get(split, ())) for split in SPLITS}
    enough = len(set(digests)) > len(shares)
    if enough:
        dealt = deal(digests, shares, seed)
        members |= {split: [fitted[source][index] for index in chosen] for split, chosen in dealt.items()}
    if empty := [split for split in SPLITS if not members[split]] or (not enough and [source]):
        raise DataError(f"{shown(str(root))} has too few usable images for {enumerated(empty)}{such_as(notes)}")
    rest = ", ".join(f"{percent} % {split}" for split, percent in shares.items())
    if source == ALL:
        return members, f"{rest}, the rest train, by seed {seed}"
    return members, f"as the lists say, and {rest} split off train, by seed {seed}" if shares else "as the lists say"


def as_tensors(boxes: Sequence[Box], classes: Sequence[str]) -> Boxes:
    """Boxes of known classes as a split has them."""
    return Boxes(
        torch.tensor([box.edges for box in boxes], dtype=torch.float32).reshape(-1, 4),
        torch.tensor([classes.index(box.label) for box in boxes], dtype=torch.int64),
        torch.tensor([box.crowd for box in boxes], dtype=torch.bool),
    )


def _few(classes: Sequence[str], counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    found: list[str] = []
    if unseen := [name for name in classes if not counts[TRAIN][name]]:
        found.append(f"classes that train does not have cannot be learned: {enumerated(unseen, 5)}")
    totals = {name: sum(of_class[name] for of_class in counts.values()) for name in classes}
    if few := [f"{name} ({total})" for name, total in totals.items() if total < FEW]:
        found.append(f"classes with fewer than {FEW} boxes decide little: {enumerated(few, 5)}")
    return found


def such_as(notes: Notes) -> str:
    """How much could not be used and the first of it, to end a sentence with."""
    wrong = [*notes.skipped, *notes.dropped]
    return f" ({len(wrong)} could not be used, such as: {wrong[0]})" if wrong else ""


def _fingerprint(
    members: Mapping[str, Sequence[tuple[Marked, list[Box]]]], frames: Mapping[str, Frame], classes: Sequence[str]
) -> str:
    """A hash of the files, of what is on them, and of which split each is in."""
    lines = sorted(
        repr((split, image.name, frames[image.name].digest, sorted(boxes)))
        for split, images in members.items()
        for image, boxes in images
    )
    return hashlib.sha256(
        "\n".join([f"box_folder {tuple(classes)!r}", *lines]).encode("utf-8", "surrogateescape")
    ).hexdigest()
