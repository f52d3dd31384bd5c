"""What the folders of a data set mean: classes, or splits of classes.

Two layouts are read: ``folder/class/image`` and ``folder/train/class/image`` with ``val`` (or ``valid``,
``validation``) and ``test`` beside ``train``. Folders inside a class folder belong to the class.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from foveate.data.report import LeftOut, enumerated, shown
from foveate.errors import DataError

SPLITS = {"train": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test"}
CLUTTER = {"thumbs.db", "desktop.ini", "__macosx", "@eadir"}


@dataclass(frozen=True)
class Layout:
    """The files of a data set, not opened yet.

    Attributes:
        classes: Folder names, sorted: a class's label is its place here.
        files: By split, then by class: paths relative to the root, sorted. Without folders for splits there is one
            split, ``"all"``.
        ignored: What was seen and belongs to no class.
        nested: Classes whose folder has folders with files in it.
    """

    classes: tuple[str, ...]
    files: dict[str, dict[str, list[str]]]
    ignored: tuple[LeftOut, ...]
    nested: tuple[str, ...]


def read_layout(root: Path) -> Layout:
    """Find out which layout a folder has, and list its files.

    Raises:
        DataError: If it is no folder, or has neither layout, with what to do.
    """
    check_folder(root)
    ignored: list[LeftOut] = []
    folders = _class_folders(root, root, ignored)
    splits = {name: folder for name, folder in folders.items() if name.lower() in SPLITS}
    if any(_has_folders(folder) for folder in splits.values()):
        if others := sorted(folders.keys() - splits.keys()):
            raise DataError(
                f"{shown(str(root))} mixes two layouts, the splits {enumerated(map(shown, splits))} and beside them "
                f"{enumerated(map(shown, others))}: give folder/class/images or folder/train/class/images"
            )
        by_split = {split: _class_folders(root, folder, ignored) for split, folder in _canonical(root, splits).items()}
        _check_same_classes(root, by_split)
        classes = sorted(by_split["train"])
    elif splits and len(splits) == len(folders):
        raise DataError(
            f"{shown(str(root))} has {enumerated(map(shown, splits))}, but no class folders in them: put the images of "
            "each class into a folder of its own, as in train/cat/1.jpg"
        )
    else:
        by_split = {"all": folders}
        classes = sorted(folders)
    _check_count(root, classes, by_split)
    nested: set[str] = set()
    files = {
        split: {name: _walk(root, folders[name], ignored, nested) for name in classes}
        for split, folders in by_split.items()
    }
    return Layout(tuple(classes), files, tuple(ignored), tuple(sorted(nested)))


def check_folder(root: Path, wanted: str = "one folder of images a class") -> None:
    """Refuse what is not a folder with something in it.

    Args:
        root: What was given.
        wanted: What should have been given, as the end of "give a folder that holds ...".

    Raises:
        DataError: With what it is instead.
    """
    try:
        is_folder = stat.S_ISDIR(root.stat().st_mode)
    except (OSError, ValueError) as error:
        problem = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be reached ({error})"
        raise DataError(f"{shown(str(root))} {problem}: give a folder that holds {wanted}") from error
    if not is_folder:
        raise DataError(f"{shown(str(root))} is a file: give a folder that holds {wanted}; unpack an archive first")
    if not _listed(root):
        raise DataError(f"{shown(str(root))} is empty: it should hold {wanted}")


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{shown(str(folder))} cannot be listed: {error.strerror}") from error


def _is_clutter(name: str) -> bool:
    return name.startswith(".") or name.lower() in CLUTTER


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle is no folder; opening it as a file says so
        return False


def _has_folders(folder: Path) -> bool:
    return any(_is_folder(entry) and not _is_clutter(entry.name) for entry in _listed(folder))


def _class_folders(root: Path, folder: Path, ignored: list[LeftOut]) -> dict[str, Path]:
    """The folders in a folder by name; everything else there is ignored, with its reason."""
    found: dict[str, Path] = {}
    for entry in _listed(folder):
        path = Path(entry.path)
        name = shown(path.relative_to(root).as_posix())
        if _is_clutter(entry.name):
            ignored.append(LeftOut(name, "is hidden or left by a system"))
        elif not _is_folder(entry):
            ignored.append(LeftOut(name, "lies outside the class folders"))
        elif Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(path)):
            ignored.append(LeftOut(name, "is a link back to the folder it is in"))
        else:
            found[entry.name] = path
    return found


def _canonical(root: Path, splits: dict[str, Path]) -> dict[str, Path]:
    """Folders by the name of the split that they hold."""
    canonical: dict[str, Path] = {}
    for name, folder in splits.items():
        split = SPLITS[name.lower()]
        if split in canonical:
            raise DataError(
                f"{shown(str(root))} has two folders for {split}, {canonical[split].name} and {name}: keep one"
            )
        canonical[split] = folder
    if "train" not in canonical:
        raise DataError(f"{shown(str(root))} has {enumerated(splits)}, but no folder train")
    return {split: canonical[split] for split in ("train", "validation", "test") if split in canonical}


def _check_same_classes(root: Path, by_split: dict[str, dict[str, Path]]) -> None:
    expected = set(by_split["train"])
    for split, folders in by_split.items():
        if not folders:
            raise DataError(
                f"{split} in {shown(str(root))} has no class folders: images without a class cannot be used; "
                "move them elsewhere"
            )
        differences = [
            f"{word} {enumerated(map(shown, sorted(names)))}"
            for word, names in (("lacks", expected - set(folders)), ("has besides", set(folders) - expected))
            if names
        ]
        if differences:
            raise DataError(
                f"{split} and train in {shown(str(root))} have different classes: {split} {' and '.join(differences)}"
            )


def _check_count(root: Path, classes: list[str], by_split: dict[str, dict[str, Path]]) -> None:
    where = shown(str(root))
    if not classes:
        raise DataError(
            f"{where} has no class folders: put the images of each class into a folder of its own, "
            f"as in {where}/cat/1.jpg"
        )
    if len(classes) == 1:
        only = next(iter(by_split.values()))[classes[0]]
        hint = f"; if its folders are the classes, give {shown(str(only))}" if _has_folders(only) else ""
        raise DataError(
            f"{where} has one class only, {shown(classes[0])}: telling classes apart needs two or more{hint}"
        )


def _walk(root: Path, top: Path, ignored: list[LeftOut], nested: set[str]) -> list[str]:
    """Every file under a class folder; links to folders are not followed, so none can lead in a circle."""
    files: list[str] = []
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        for entry in _listed(folder):
            path = Path(entry.path)
            name = path.relative_to(root).as_posix()
            if _is_clutter(entry.name):
                ignored.append(LeftOut(shown(name), "is hidden or left by a system"))
            elif not _is_folder(entry):
                files.append(name)
                if folder != top:
                    nested.add(top.name)
            elif entry.is_symlink():
                ignored.append(LeftOut(shown(name), "is a link to a folder inside a class folder: not followed"))
            elif entry.name.lower() in SPLITS:
                raise DataError(
                    f"{shown(str(path))} is a split inside a class: give folder/class/images or "
                    "folder/train/class/images"
                )
            else:
                waiting.append(path)
    return sorted(files)


def class_files(root: Path) -> tuple[dict[str, list[str]], tuple[LeftOut, ...], tuple[str, ...]]:
    """The files of each class folder in a folder without splits, what was seen besides, and what is nested.

    Raises:
        DataError: If it is no folder, or has no class folders.
    """
    check_folder(root)
    ignored: list[LeftOut] = []
    nested: set[str] = set()
    folders = _class_folders(root, root, ignored)
    if not folders:
        raise DataError(
            f"{shown(str(root))} has no class folders: put the images of each class into a folder of its own"
        )
    files = {name: _walk(root, folder, ignored, nested) for name, folder in sorted(folders.items())}
    return files, tuple(ignored), tuple(sorted(nested))
