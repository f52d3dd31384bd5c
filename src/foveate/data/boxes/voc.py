"""Pascal VOC's annotations: one XML file an image, lists of the images of each split, pixels counted from 1.

A box from pixel xmin to pixel xmax, both of them in it, has its left edge at xmin - 1 and its right edge at xmax.

Source: Everingham et al., The PASCAL VOC Challenge 2012 Development Kit, section 5.
"""

from __future__ import annotations

import os
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError, TreeBuilder  # parsed below, without a DOCTYPE
from xml.parsers import expat

from foveate.data.boxes.annotations import (
    ALL,
    TEST,
    TRAIN,
    VALIDATION,
    Annotations,
    Box,
    Marked,
    Notes,
    number,
    said,
    within,
)
from foveate.data.report import shown
from foveate.errors import DataError

LARGEST_FILE = 2**24
FOLDERS = ("JPEGImages", "images", "Images")
LISTS = {TRAIN: "train.txt", VALIDATION: "val.txt", TEST: "test.txt"}
ALSO_TRAIN = "trainval.txt"


def is_voc(root: Path) -> bool:
    """Whether a folder has annotations and images as VOC lays them out."""
    return (root / "Annotations").is_dir() and _image_folder(root) is not None


def read_voc(root: Path, notes: Notes) -> Annotations:
    """Read the annotations of all images that ``ImageSets/Main`` lists, or of all there are where it does not exist.

    Objects marked ``difficult`` are taken as VOC takes them: they count neither for nor against a network.

    Raises:
        DataError: If there are lists, but none for training.
    """
    reader = _Reader(root, notes)
    splits = {
        split: [image for name in names if (image := reader.marked(name)) is not None]
        for split, names in _lists(root, notes).items()
    }
    classes = sorted({box.label for images in splits.values() for image in images for box in image.boxes})
    if reader.from_zero:
        notes.warnings.append(
            f"{reader.from_zero} boxes begin at pixel 0, and VOC counts from 1: if whoever wrote them counted from 0, "
            "their left and upper edges are one pixel off"
        )
    return Annotations(splits, tuple(classes), ("boxes: VOC's first and last pixels, counted from 1",))


def parse_xml(content: bytes) -> Element:
    """A tree from a file that nobody vouches for: one that declares a document type is refused.

    Entities, which may grow without bounds or name other files, can be declared nowhere else. The parser itself tells
    of a declaration, whatever the encoding.

    Raises:
        DataError: With the reason, as the end of a sentence about the file.

    Example:
        >>> parse_xml(b"<a><b>1</b></a>").findtext("b")
        '1'
    """

    def refuse(*_: object) -> None:
        raise DataError("declares a document type, which annotations do not need and which could do harm")

    builder, parser = TreeBuilder(), expat.ParserCreate()
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(content, True)
        return builder.close()
    except (expat.ExpatError, ParseError, ValueError, LookupError) as error:
        raise DataError(f"is truncated or damaged, no XML ({error})") from error


def _image_folder(root: Path) -> Path | None:
    return next((root / name for name in FOLDERS if (root / name).is_dir()), None)


def _lists(root: Path, notes: Notes) -> dict[str, list[str]]:
    """The images of each split."""
    folder = root / "ImageSets" / "Main"
    files = {split: folder / name for split, name in LISTS.items() if (folder / name).is_file()}
    if TRAIN not in files and (folder / ALSO_TRAIN).is_file():
        files[TRAIN] = folder / ALSO_TRAIN
        files.pop(VALIDATION, None)  # it is in there
    if not files:
        return {ALL: sorted(path.stem for path in (root / "Annotations").glob("*.xml"))}
    if TRAIN not in files:
        raise DataError(f"{shown(str(folder))} has {', '.join(path.name for path in files.values())}, but no train.txt")
    found: dict[str, list[str]] = {}
    for split, path in files.items():
        try:
            lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{shown(str(path))} cannot be read as a list of images ({error})") from error
        if len(set(lines)) < len(lines):
            notes.changed["images listed twice, read once"] += len(lines) - len(set(lines))
        found[split] = list(dict.fromkeys(lines))
    return found


class _Reader:
    """Annotations by the name of their image."""

    def __init__(self, root: Path, notes: Notes) -> None:
        self.root, self.notes, self.from_zero = root, notes, 0
        folder = _image_folder(root)
        assert folder is not None  # noqa: S101 (is_voc)
        self.images: dict[str, list[str]] = {}
        for path in sorted(Path(where, name) for where, _, names in os.walk(folder) for name in names):
            key = path.relative_to(folder).with_suffix("").as_posix()
            self.images.setdefault(key, []).append(path.relative_to(root).as_posix())

    def marked(self, name: str) -> Marked | None:
        """One image, or ``None`` if it cannot be used."""
        inside = within(name)
        if inside is None:
            self.notes.skip("ImageSets", f"lists '{shown(name)}', which leads out of the folder")
            return None
        if inside not in self.images:
            inside = inside.split()[0]  # a number may follow, whether a class is on it
        path = self.root / "Annotations" / f"{inside}.xml"
        shown_path = path.relative_to(self.root).as_posix()
        images = self.images.get(inside, [])
        if len(images) != 1:
            self.notes.skip(shown_path, f"has no image {inside}" if not images else f"has {len(images)} images")
            return None
        if not path.is_file():
            self.notes.skip(images[0], f"has no {shown_path}")
            return None
        try:
            if path.stat().st_size > LARGEST_FILE:
                raise DataError(f"has more than the {LARGEST_FILE:,} bytes that are read")
            tree = parse_xml(path.read_bytes())
            if tree.tag != "annotation":
                raise DataError(f"is no annotation of VOC's: it begins with <{shown(tree.tag)}>")
        except (DataError, OSError) as error:
            self.notes.skip(shown_path, str(error))
            return None
        height, width = number(tree.findtext("size/height")), number(tree.findtext("size/width"))
        image = Marked(images[0], (int(height), int(width)) if height and width else None)
        for thing in tree.iterfind("object"):
            self._add(thing, image)
        return image

    def _add(self, thing: Element, image: Marked) -> None:
        label = shown((thing.findtext("name") or "").strip())
        values = [number(thing.findtext(f"bndbox/{name}")) for name in ("xmin", "ymin", "xmax", "ymax")]
        numbers = [value for value in values if value is not None]
        if not label:
            problem = "without a name"
        elif len(numbers) != 4:
            problem = "without four numbers as bndbox"
        elif numbers[2] <= numbers[0] or numbers[3] <= numbers[1]:
            problem = f"whose last pixel does not lie behind its first ({said(numbers)})"
        else:
            xmin, ymin, xmax, ymax = numbers
            self.from_zero += xmin < 1 or ymin < 1
            difficult = (thing.findtext("difficult") or "").strip() == "1"
            image.boxes.append(Box((xmin - 1, ymin - 1, xmax, ymax), label, difficult))
            return
        image.lost = True
        self.notes.drop(image.name, f"has a box {problem}" + (f" ({label})" if label else ""))
