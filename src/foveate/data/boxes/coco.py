"""COCO's annotations: one JSON file a split, boxes as left, top, width and height, counted from 0.

Source: https://cocodataset.org/#format-data.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from foveate.data.boxes.annotations import ALL, TRAIN, Annotations, Box, Marked, Notes, number, said, within
from foveate.data.layout import SPLITS
from foveate.data.report import enumerated, shown
from foveate.errors import DataError

LARGEST_FILE = 2**29  # COCO's own annotations of 118,000 images take 450 MB
LISTS = ("images", "annotations", "categories")
OTHERS = ("captions", "person_keypoints", "panoptic", "stuff", "image_info")  # what COCO has beside its boxes
LOOKED_FOR = 50  # images, to find out which folder they are in


def coco_files(root: Path) -> list[Path]:
    """The JSON files at the places where annotations stand: the folder, and the folders in it."""
    return sorted(path for pattern in ("*.json", "*/*.json") for path in root.glob(pattern) if path.is_file())


def read_coco(root: Path, notes: Notes) -> Annotations:
    """Read the annotations of all splits.

    The split is told by the file's name (``instances_val2017.json``) or that of its folder
    (``valid/_annotations.coco.json``). Images are looked for beside the file, in the folder, and in the folders in it.

    Raises:
        DataError: If a file is too large or damaged, two are for one split, or the images are nowhere.
    """
    contents = _contents(root, notes)
    names: dict[str, None] = {}
    splits: dict[str, list[Marked]] = {}
    for split, (path, content) in contents.items():
        categories = _categories(path.relative_to(root).as_posix(), content["categories"], notes)
        # by id, as a number where it is one; another file may number them otherwise
        names |= dict.fromkeys(categories[key] for key in sorted(categories, key=lambda key: str(key).zfill(20)))
        splits[split] = _Reader(root, path, split, content, categories, notes).marked()
    return Annotations(splits, tuple(names), ("boxes: COCO's left, top, width and height, counted from 0",))


def _contents(root: Path, notes: Notes) -> dict[str, tuple[Path, dict[str, Any]]]:
    """The content of the file for each split."""
    candidates: dict[str, list[tuple[Path, dict[str, Any]]]] = {}
    for path in coco_files(root):
        name = path.relative_to(root).as_posix()
        if path.stem.startswith(OTHERS):
            notes.ignore(name, "holds no boxes of things, by its name")
            continue
        content = _load(path)
        if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in LISTS):
            notes.ignore(name, f"is no annotation of COCO's: it lacks a list of {', '.join(LISTS)}")
            continue
        candidates.setdefault(_split_of(path.relative_to(root)), []).append((path, content))
    if len(candidates) > 1:
        for path, _ in candidates.pop(ALL, []):
            notes.ignore(path.relative_to(root).as_posix(), "says neither train, val nor test, and others do")
    found: dict[str, tuple[Path, dict[str, Any]]] = {}
    for split, files in candidates.items():
        boxes = [one for one in files if one[0].stem.startswith("instances")]
        if len(files) > 1 and len(boxes) != 1:
            several = enumerated(shown(path.relative_to(root).as_posix()) for path, _ in files)
            what = "annotations that name no split" if split == ALL else f"annotations for {split}"
            raise DataError(f"{shown(str(root))} has several {what}: {several}; keep one, or name its split")
        found[split] = (boxes or files)[0]
    if found and TRAIN not in found and ALL not in found:
        raise DataError(f"{shown(str(root))} has annotations for {enumerated(found)}, but none for train")
    return found


def _load(path: Path) -> Any:
    if (length := path.stat().st_size) > LARGEST_FILE:
        raise DataError(f"{shown(str(path))} has {length:,} bytes, more than the {LARGEST_FILE:,} that are read")
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError, OSError) as error:
        raise DataError(f"{shown(str(path))} is truncated or damaged, no JSON ({error})") from error


def _split_of(path: Path) -> str:
    words = re.findall("[a-z]+", path.stem.lower()) + re.findall("[a-z]+", path.parent.name.lower())
    return next((SPLITS[word] for word in words if word in SPLITS), ALL)


def _categories(file: str, entries: Sequence[Any], notes: Notes) -> dict[Any, str]:
    found: dict[Any, str] = {}
    for entry in entries:
        name = entry.get("name") if isinstance(entry, dict) else None
        key = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not name.strip() or not isinstance(key, int | str):
            notes.drop(file, "has a category without an id or a name")
        elif key in found and found[key] != shown(name):
            raise DataError(f"{file} gives the category {key} two names, {found[key]} and {shown(name)}: keep one")
        else:
            found[key] = shown(name)
    return found


class _Reader:
    """One file."""

    def __init__(
        self, root: Path, path: Path, split: str, content: Any, categories: dict[Any, str], notes: Notes
    ) -> None:
        self.root, self.path, self.split, self.content = root, path, split, content
        self.categories, self.notes = categories, notes
        self.file = path.relative_to(root).as_posix()

    def marked(self) -> list[Marked]:
        """Its images, with what is on each."""
        by_id = self._images()
        ids: Counter[Any] = Counter()
        for entry in self.content["annotations"]:
            if not isinstance(entry, dict):
                self.notes.drop(self.file, "has an annotation that is none")
                continue
            ids[_key(entry.get("id"))] += entry.get("id") is not None
            self._add(entry, by_id)
        again = [key for key, count in ids.items() if count > 1]
        if again:
            self.notes.warnings.append(
                f"{self.file} gives {len(again)} ids to several annotations, such as {again[0]}; all of them were read"
            )
        found = {id(image): image for image in by_id.values() if image is not None}
        return list(found.values())

    def _images(self) -> dict[Any, Marked | None]:
        """Images by id; ``None`` for those that were left out."""
        folder = self._folder()
        found: dict[Any, Marked | None] = {}
        by_name: dict[str, Marked] = {}
        for entry in self.content["images"]:
            name = entry.get("file_name") if isinstance(entry, dict) else None
            key = _key(entry.get("id")) if isinstance(entry, dict) else None
            if not isinstance(name, str) or key is None:
                self.notes.skip(self.file, "lists an image without an id or a file_name")
                continue
            inside = within(name)
            if inside is None:
                found[key] = None
                self.notes.skip(self.file, f"lists the image '{shown(name)}', which leads out of the folder")
                continue
            inside = (folder / inside).relative_to(self.root).as_posix()
            if key in found:
                before = found[key]
                if before is not None and before.name == inside:
                    self.notes.changed["images listed twice, read once"] += 1
                    continue
                found[key] = None
                for one in filter(None, (inside, before and before.name)):
                    self.notes.skip(one, f"has the id {key} in {self.file}, which is another image's too")
                continue
            size = (number(entry.get("height")), number(entry.get("width")))
            image = by_name.get(inside)
            if image is None:
                image = by_name[inside] = Marked(inside, (int(size[0]), int(size[1])) if size[0] and size[1] else None)
            else:
                self.notes.changed["images listed under two ids, their boxes joined"] += 1
            found[key] = image
        return found

    def _folder(self) -> Path:
        """Where the images are: the folder in which most of some are found, one named by the split before others."""
        entries = self.content["images"]
        names = [one["file_name"] for one in entries if isinstance(one, dict) and isinstance(one.get("file_name"), str)]
        some = [within(name) for name in names[:: max(1, len(names) // LOOKED_FOR)]]
        every = [self.path.parent, self.root, *_folders(self.root), *_folders(self.root / "images")]
        # splits may have images of the same names: the folder of another split comes last
        rank = {self.split: 0, ALL: 1}
        there = sorted(dict.fromkeys(every), key=lambda folder: rank.get(_split_of(folder.relative_to(self.root)), 2))
        if not entries:
            raise DataError(f"{shown(str(self.path))} lists no images")
        counts = [sum((folder / name).is_file() for name in some if name is not None) for folder in there]
        if not any(counts):
            raise DataError(
                f"none of the images that {shown(str(self.path))} lists was found, such as "
                f"'{shown(names[0]) if names else ''}': put them beside it, or into a folder in {shown(str(self.root))}"
            )
        return there[counts.index(max(counts))]

    def _add(self, entry: dict[str, Any], by_id: dict[Any, Marked | None]) -> None:
        which = f"annotation {shown(str(entry.get('id')))}"
        key = _key(entry.get("image_id"))
        if key not in by_id:
            self.notes.drop(self.file, f"has {which} for image {shown(str(key))}, which it does not list")
            return
        image = by_id[key]
        if image is None:
            return  # it was left out, and that was said
        category = _key(entry.get("category_id"))
        given = entry.get("bbox")
        values = [number(value) for value in given] if isinstance(given, list) else []
        numbers = [value for value in values if value is not None]
        if category not in self.categories:
            problem = f"of category {shown(str(category))}, which does not exist"
        elif len(values) != 4 or len(numbers) != 4:
            problem = "without four numbers as bbox"
        elif numbers[2] <= 0 or numbers[3] <= 0:
            problem = f"whose width or height is not positive ({said(numbers)})"
        else:
            left, top, width, height = numbers
            crowd = entry.get("iscrowd") in (1, True)
            image.boxes.append(Box((left, top, left + width, top + height), self.categories[category], crowd))
            return
        image.lost = True
        self.notes.drop(image.name, f"has a box {problem} ({which})")


def _key(value: Any) -> int | str | None:
    """An id that can be looked up."""
    return value if isinstance(value, int | str) else None


def _folders(folder: Path) -> Iterable[Path]:
    return sorted(path for path in folder.glob("*") if path.is_dir())
