"""Which image is of whom: folders, tables and file names of medical data."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from foveate.data.layout import CLUTTER, SPLITS
from foveate.data.medical.dicom import dicom_files, is_dicom
from foveate.data.medical.scans import PICTURES, VOLUMES
from foveate.data.report import LeftOut, enumerated, shown
from foveate.errors import DataError

IMAGES, MASKS = ("images", "image", "imgs"), ("masks", "labels", "labelstr", "segmentations", "mask")
TABLES = ("subjects.csv", "splits.csv", "labels.csv", "classes.csv")
TABLE_LIMIT = 2**24
_BIDS = re.compile(r"(?:^|[/_])(sub-[A-Za-z0-9]+)(?=[/_.]|$)")
_IMAGE_WORDS, _MASK_WORDS = {"image", "img"}, {"mask", "label", "labels", "seg", "segmentation"}


@dataclass(frozen=True)
class Listed:
    """An image that was found, not opened yet.

    Attributes:
        name: Its path relative to the data's folder.
        image: A file, or the folder of a DICOM series.
        mask: What belongs to it.
        subject: Whom folders, names or tables say it is of; ``None`` where nothing does.
        split: Which side folders or tables put it on.
    """

    name: str
    image: Path
    mask: Path | None
    subject: str | None
    split: str | None


@dataclass(frozen=True)
class Listing:
    """The images of a folder.

    Attributes:
        found: In the order of their names.
        ignored: What was seen and is neither image nor mask.
        labels: The class of each subject, from ``labels.csv``.
        classes: Names of the numbers in masks, from ``classes.csv``.
    """

    found: tuple[Listed, ...]
    ignored: tuple[LeftOut, ...]
    labels: Mapping[str, str]
    classes: Mapping[int, str]


def list_subjects(root: Path) -> Listing:
    """Find the images and masks of a folder; see :func:`~foveate.data.medical.subject_folder` for the layouts.

    Raises:
        DataError: If there are none, or a table cannot be read.
    """
    ignored: list[LeftOut] = []
    folders = {path.name.lower(): path for path in _inside(root) if path.is_dir()}
    if "train" in folders and set(folders) <= set(SPLITS):
        found = [
            replace(one, split=SPLITS[name])
            for name, folder in folders.items()
            for one in _listed(root, folder, ignored)
        ]
    else:
        found = _listed(root, root, ignored)
    if not found:
        raise DataError(
            f"{shown(str(root))} holds no medical images: give images/ and masks/, or a folder a subject with an image "
            "and a mask in it"
        )
    subjects, splits = read_table(root / "subjects.csv", ("file", "subject")), _splits(root)
    found = [replace(one, subject=_asked(subjects, one) or one.subject) for one in found]
    found = [replace(one, split=splits.get(one.subject or "") or _asked(splits, one) or one.split) for one in found]
    if splits and (left := [one.name for one in found if one.split is None]):
        raise DataError(f"splits.csv says nothing of {enumerated(map(shown, left))}: name every subject or file")
    numbers = read_table(root / "classes.csv", ("id", "name"))
    if not all(number.isdecimal() for number in numbers):
        raise DataError(f"{shown(str(root / 'classes.csv'))} must have whole numbers in its column id")
    found.sort(key=lambda one: one.name)
    labels = read_table(root / "labels.csv", ("subject", "label"))
    return Listing(tuple(found), tuple(ignored), labels, {int(number): name for number, name in numbers.items()})


def read_table(path: Path, columns: tuple[str, str]) -> dict[str, str]:
    """Two columns of a CSV file as keys and values; empty where there is no file.

    Raises:
        DataError: If a column is missing, or a key has two values.
    """
    if not path.is_file():
        return {}
    found: dict[str, str] = {}
    try:
        if path.stat().st_size > TABLE_LIMIT:
            raise DataError(f"{shown(str(path))} is larger than the {TABLE_LIMIT:,} bytes that are read")
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            if not set(columns) <= set(rows.fieldnames or ()):
                raise DataError(f"{shown(str(path))} must have the columns {' and '.join(columns)}")
            for row in rows:
                key, value = ((row[column] or "").strip() for column in columns)
                if not key or not value:
                    raise DataError(f"{shown(str(path))}, line {rows.line_num}: both columns must be filled in")
                if found.setdefault(key, value) != value:
                    raise DataError(
                        f"{shown(str(path))} gives {shown(key)} two values for {columns[1]}: {shown(found[key])} and "
                        f"{shown(value)}"
                    )
    except (OSError, UnicodeError, csv.Error) as error:
        raise DataError(f"{shown(str(path))} cannot be read ({error})") from error
    return found


def _splits(root: Path) -> dict[str, str]:
    path = root / "splits.csv"
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        key = "subject" if "subject" in file.readline(TABLE_LIMIT) else "file"
    table = read_table(path, (key, "split"))
    unknown = sorted(set(table.values()) - set(SPLITS))
    if unknown:
        raise DataError(f"{shown(str(path))} has the split {shown(unknown[0])}: write train, validation or test")
    return {name: SPLITS[split] for name, split in table.items()}


def _asked(table: Mapping[str, str], one: Listed) -> str | None:
    """What a table says of an image, by path, name, or name without suffix."""
    for key in (one.name, one.image.name, stem(one.image)):
        if key in table:
            return table[key]
    return None


def stem(path: Path) -> str:
    """The name of a file without its suffix, ``.nii.gz`` being one.

    Example:
        >>> stem(Path("a.b.nii.gz")), stem(Path("c.png"))
        ('a.b', 'c')
    """
    name = path.name
    return name[:-7] if name.lower().endswith(".nii.gz") else path.stem


def _listed(root: Path, folder: Path, ignored: list[LeftOut]) -> list[Listed]:
    """The images of a folder in either layout."""
    folders = {path.name.lower(): path for path in _inside(folder) if path.is_dir()}
    images = next((folders[name] for name in IMAGES if name in folders), None)
    if images is not None:
        masks = next((folders[name] for name in MASKS if name in folders), None)
        return _flat(root, images, masks, ignored)
    if set(folders) == {"subjects"}:
        folder = folders["subjects"]
    found: list[Listed] = []
    for path in _inside(folder):
        if path.is_dir():
            found += _of_subject(root, path, ignored)
        elif path.name not in TABLES:
            ignored.append(LeftOut(_name(root, path), "lies outside the folders of subjects"))
    return found


def _flat(root: Path, images: Path, masks: Path | None, ignored: list[LeftOut]) -> list[Listed]:
    by_stem = {stem(path): path for path in _inside(masks)} if masks is not None else {}
    found: list[Listed] = []
    for path in _inside(images):
        name = _name(root, path)
        if _is_image(path):
            known = _BIDS.search(name)
            mask = by_stem.pop(stem(path), None) or by_stem.pop(path.name, None)
            found.append(Listed(name, path, mask, known[1] if known else None, None))
        else:
            ignored.append(LeftOut(name, "is neither an image nor a folder of DICOM slices"))
    ignored += [LeftOut(_name(root, path), "is a mask without an image") for path in by_stem.values()]
    return found


def _of_subject(root: Path, folder: Path, ignored: list[LeftOut]) -> list[Listed]:
    """What lies in the folder of a subject: images, their masks, and DICOM slices, which are one series."""
    slices = set(dicom_files(folder))
    entries = [path for path in _inside(folder) if path not in slices]
    images, masks = dict[str, Path](), dict[str, Path]()
    for path in entries:
        words = [word for word in re.split(r"[_\-. ]", stem(path).lower()) if word]
        key = "_".join(word for word in words if word not in _IMAGE_WORDS | _MASK_WORDS)
        if not _is_image(path):
            ignored.append(LeftOut(_name(root, path), "is neither an image nor a folder of DICOM slices"))
        elif _MASK_WORDS & set(words):
            masks[key] = path
        else:
            images[key] = path
    if slices:
        images[""] = folder if len(slices) > 1 else next(iter(slices))
    if len(images) == 1 and len(masks) == 1:
        masks = dict(zip(images, masks.values(), strict=True))
    ignored += [
        LeftOut(_name(root, path), "is a mask without an image") for key, path in masks.items() if key not in images
    ]
    return [Listed(_name(root, path), path, masks.get(key), folder.name, None) for key, path in images.items()]


def _is_image(path: Path) -> bool:
    if path.is_dir():
        return bool(dicom_files(path))
    return path.name.lower().endswith((*VOLUMES, *PICTURES, ".dcm")) or is_dicom(path)


def _inside(folder: Path) -> list[Path]:
    try:
        found = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{shown(str(folder))} cannot be listed: {error.strerror}") from error
    return [path for path in found if not path.name.startswith(".") and path.name.lower() not in CLUTTER]


def _name(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()
